"""How uncertain a distribution is, and what it costs to take one for another.

The deck (page 14) defines entropy, cross-entropy and the Kullback-Leibler divergence, whose sum rule
H(p, q) = KL(p‖q) + H(p) makes cross-entropy a loss. Here they are drawn over two and three outcomes.

Run:    make experiment NAME=information

Expect: H(p, q) - KL(p‖q) - H(p) is at most 4e-15 bits for 100,000 random pairs

Time:   6 s
"""

import itertools
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from jaxnn import losses
from jaxnn.lab import diagrams, plots, style
from jaxnn.lab.config import Count, Seed
from jaxnn.lab.run import Run
from jaxnn.lab.start import start

P = np.array([0.2, 0.3, 0.5])  # the p of three outcomes, to which every q is compared


@dataclass(frozen=True)
class Config:
    """The distributions."""

    p: Annotated[float, Field(gt=0, lt=1)] = 0.3  # probability of heads of the coin p; every coin q is compared to it
    base: Annotated[float, Field(gt=1, le=1e6)] = 2.0  # of the logarithm: 2 gives bits, 2.718281828459045 nats
    num_pairs: Count = 100_000  # random pairs of distributions that check the identity
    resolution: Annotated[int, Field(ge=2, le=1000)] = 120  # points along an edge of the simplex
    seed: Seed = 0  # of the random pairs


def draw_two_outcomes(config: Config, run: Run):
    """Of every coin q the entropy; against the coin p, cross-entropy H(p, q) and divergence KL(p‖q)."""
    q1 = jax.nn.sigmoid(jnp.linspace(-9, 9, 999))  # dense near 0 and 1
    q = jnp.stack([q1, 1 - q1], axis=1)
    p = jnp.broadcast_to(jnp.array([config.p, 1 - config.p]), q.shape)
    curves = {
        "H(p, q)": losses.cross_entropy(p, q, base=config.base),
        "KL(p‖q)": losses.kl_divergence(p, q, base=config.base),
        "H(p)": losses.entropy(p, base=config.base),
    }
    top = 3 * np.log(2) / np.log(config.base)  # in units of the base; above it, they go to infinity
    panels = {
        "How uncertain a coin q is": {"H(q)": (q1, losses.entropy(q, base=config.base))},
        f"What it costs to take p = ({config.p:g}, {1 - config.p:g}) for q": {
            name: (q1, jnp.where(values < top, values, jnp.nan)) for name, values in curves.items()
        },
    }
    named = {"xlabel": "$q_1$, probability of heads", "ylabel": (f"entropy ({unit(config)})", unit(config))}
    figure = plots.lines(panels, **named)
    for axis in figure.axes:
        style.mark(axis, "q = p", x=config.p)
    run.save_figure("two_outcomes", figure)


def draw_three_outcomes(config: Config, run: Run):
    """The same over the triangle of all distributions of three outcomes."""
    n = config.resolution
    q = jnp.array([(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)]) / n
    inside = jnp.clip(q, 1e-3)  # at the edges KL(p‖q) is infinite
    inside = inside / inside.sum(axis=1, keepdims=True)
    p = jnp.broadcast_to(jnp.array(P), q.shape)
    top = np.log(5) / np.log(
        config.base
    )  # the highest of KL(q‖p): one scale for both, and beyond it KL(p‖q) rises to infinity
    panels = {
        "entropy H(q)": losses.entropy(q, base=config.base),
        f"KL(p‖q), p = {tuple(P.tolist())}": np.minimum(losses.kl_divergence(p, inside, base=config.base), top),
        "KL(q‖p)": losses.kl_divergence(q, p, base=config.base),
    }
    run.save_figure("three_outcomes", diagrams.simplex(q, panels, unit=unit(config), mark=P))


def check_identity(config: Config) -> dict:
    """H(p, q) = KL(p‖q) + H(p) and KL ≥ 0 on random pairs of distributions of five outcomes."""
    p, q = jax.random.dirichlet(jax.random.key(config.seed), jnp.ones(5), (2, config.num_pairs))
    divergence = losses.kl_divergence(p, q, base=config.base)
    difference = losses.cross_entropy(p, q, base=config.base) - divergence - losses.entropy(p, base=config.base)
    return {
        "identity_error": jnp.abs(difference).max(),
        "smallest_divergence": divergence.min(),
        "divergence_mean": divergence.mean(),
    }


def find_limits(config: Config, run: Run) -> dict:
    """What happens where probabilities vanish: 0 log 0 = 0, and a divergence may be infinite, written as "inf"."""
    coins = {"sure": jnp.array([1.0, 0.0]), "fair": jnp.array([0.5, 0.5])}
    limits = {}
    for (p_name, p), (q_name, q) in itertools.product(coins.items(), repeat=2):
        divergence = losses.kl_divergence(p, q, base=config.base)
        run.log(p=p_name, q=q_name, divergence=divergence, cross_entropy=losses.cross_entropy(p, q, base=config.base))
        limits[f"divergence_{p_name}_from_{q_name}"] = divergence
    return {f"entropy_{name}": losses.entropy(p, base=config.base) for name, p in coins.items()} | limits


def unit(config: Config) -> str:
    """The name of the unit of information."""
    return {2.0: "bits", 10.0: "hartleys", np.e: "nats"}.get(config.base, f"units of base {config.base:g}")


def main(config: Config, run: Run) -> dict:
    """Pictures over two and three outcomes, the identity, the limits."""
    draw_two_outcomes(config, run)
    draw_three_outcomes(config, run)
    return check_identity(config) | find_limits(config, run)


if __name__ == "__main__":
    start(Config, main, quick=Config(num_pairs=1000, resolution=20), x64=True)
