"""How uncertain a distribution is, and what it costs to take one for another.

The deck (page 14) defines entropy, cross-entropy and the Kullback-Leibler divergence, whose sum rule
H(p, q) = KL(p‖q) + H(p) makes cross-entropy a loss. Here they are drawn over two and three outcomes.

Run:    make experiment NAME=information

Expect: H(p, q) - KL(p‖q) - H(p) is at most 4e-15 bits for 100,000 random pairs

Time:   6 s
"""

import itertools
from dataclasses import dataclass

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from jaxnn import losses  # noqa: E402
from jaxnn.lab import plots  # noqa: E402
from jaxnn.lab.config import require, require_seeds  # noqa: E402
from jaxnn.lab.run import Run, start  # noqa: E402


@dataclass(frozen=True)
class Config:
    """The distributions."""

    p: tuple[float, float] = (0.3, 0.7)  # of two outcomes, against which every q is held
    center: tuple[float, float, float] = (0.2, 0.3, 0.5)  # of three outcomes, likewise
    base: float = 2.0  # of the logarithm: 2 gives bits, 2.718281828459045 nats
    num_pairs: int = 100_000  # random pairs of distributions that check the identity
    resolution: int = 120  # points along an edge of the simplex
    seed: int = 0  # of the random pairs

    def __post_init__(self):
        """Refuses what cannot be."""
        for name in ("p", "center"):
            probs = getattr(self, name)
            require(self, name, min(probs) > 0 and abs(sum(probs) - 1) < 1e-9, "above 0 and sum to 1")
        require(self, "base", 1 < self.base < float("inf"), "above 1 and finite")
        require(self, "num_pairs", 1 <= self.num_pairs <= 10_000_000, "in 1 ... 10000000")
        require(self, "resolution", 2 <= self.resolution <= 1000, "in 2 ... 1000")
        require_seeds(self)


def main(config: Config, run: Run) -> dict:
    """Pictures over two and three outcomes, the identity, the limits."""
    draw_two_outcomes(config, run)
    draw_three_outcomes(config, run)
    return check_identity(config) | find_limits(config, run)


def draw_two_outcomes(config: Config, run: Run):
    """Everything that a coin has."""
    first = jnp.linspace(1e-4, 1 - 1e-4, 999)
    q = jnp.stack([first, 1 - first], axis=1)
    p = jnp.broadcast_to(jnp.array(config.p), q.shape)
    ours = {
        "H(p, q)": losses.cross_entropy(p, q, base=config.base),
        "KL(p‖q)": losses.kl_divergence(p, q, base=config.base),
        "H(p)": losses.entropy(p, base=config.base),
    }
    panels = {
        "entropy H(q)": {"H(q)": (first, losses.entropy(q, base=config.base))},
        f"p = {config.p}, taken for q": {name: (first, values) for name, values in ours.items()},
    }
    run.save_figure("two_outcomes", plots.lines(panels, xlabel="$q_1$", ylabel=unit(config)))


def draw_three_outcomes(config: Config, run: Run):
    """The same over the triangle of all distributions of three outcomes."""
    edge = config.resolution
    q = jnp.array([(i, j, edge - i - j) for i in range(edge + 1) for j in range(edge + 1 - i)]) / edge
    inside = jnp.clip(q, 1e-3)  # at the edges KL(p‖q) is infinite
    inside = inside / inside.sum(axis=1, keepdims=True)
    p = jnp.broadcast_to(jnp.array(config.center), q.shape)
    panels = {
        "entropy H(q)": losses.entropy(q, base=config.base),
        f"KL(p‖q), p = {config.center}": losses.kl_divergence(p, inside, base=config.base),
        "KL(q‖p)": losses.kl_divergence(q, p, base=config.base),
    }
    run.save_figure("three_outcomes", plots.simplex(q, panels, unit=unit(config), mark=np.array(config.center)))


def check_identity(config: Config) -> dict:
    """H(p, q) = KL(p‖q) + H(p) and KL ≥ 0 on random pairs of distributions of five outcomes."""
    p, q = jax.random.dirichlet(jax.random.key(config.seed), jnp.ones(5), (2, config.num_pairs))
    divergence = losses.kl_divergence(p, q, base=config.base)
    difference = losses.cross_entropy(p, q, base=config.base) - divergence - losses.entropy(p, base=config.base)
    return {
        "identity_error": jnp.abs(difference).max().item(),
        "smallest_divergence": divergence.min().item(),
        "divergence_mean": divergence.mean().item(),
    }


def find_limits(config: Config, run: Run) -> dict:
    """What happens where probabilities vanish: 0 log 0 = 0, and a divergence may be infinite, written as "inf"."""
    coins = {"sure": jnp.array([1.0, 0.0]), "fair": jnp.array([0.5, 0.5])}
    limits = {}
    for (first, p), (second, q) in itertools.product(coins.items(), repeat=2):
        values = (
            losses.kl_divergence(p, q, base=config.base).item(),
            losses.cross_entropy(p, q, base=config.base).item(),
        )
        divergence, cross = (value if np.isfinite(value) else str(value) for value in values)
        run.log(p=first, q=second, divergence=divergence, cross_entropy=cross)
        limits[f"divergence_{first}_from_{second}"] = divergence
    return {f"entropy_{name}": losses.entropy(p, base=config.base).item() for name, p in coins.items()} | limits


def unit(config: Config) -> str:
    """The name of the unit of information."""
    return {2.0: "bits", 10.0: "hartleys", np.e: "nats"}.get(config.base, f"units of base {config.base:g}")


if __name__ == "__main__":
    start(Config, main, quick=Config(num_pairs=1000, resolution=20))
