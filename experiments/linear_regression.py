"""Linear neurons fitted by least squares, in closed form and step by step.

The deck (pages 3-4) draws the plane 2x₁ + 8x₂, whose response changes along its weight vector only, and asks for the
weights of least squared error. Here they come in closed form and by gradient descent, full-batch and stochastic, that
converges to it; with ridge and lasso penalties; on made-up data, and on a real table (diabetes, or --csv FILE).

Run:    make experiment NAME=linear_regression

Expect: in its last 500 of 2,000 steps gradient descent is 5e-15 from the closed form, SGD 0.08, with decay 0.005
        (1 seed, root mean square); diabetes: R² 0.518 on the rows it is fitted to

Time:   12 s
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from jax import lax  # noqa: E402

from jaxnn import linear_models, losses, metrics, models, training  # noqa: E402
from jaxnn.data import fit_standardizer, standardize  # noqa: E402
from jaxnn.lab import datasets, plots, tables  # noqa: E402
from jaxnn.lab.config import BadUsageError, require, require_seeds  # noqa: E402
from jaxnn.lab.run import Run, start  # noqa: E402
from jaxnn.types import Batch  # noqa: E402

PLANE = {"weight": np.array([[2.0], [8.0]]), "bias": np.zeros(1)}
MODEL = models.linear(1)


@dataclass(frozen=True)
class Config:
    """The data, and the descent."""

    csv: Path | None = None  # a table whose last column is the target; None is the diabetes set
    num_points: int = 200  # made-up examples of the plane
    noise: float = 3.0  # standard deviation of what is added to them
    learning_rate: float | None = None  # of gradient descent; None is 1/L, where L is the largest curvature
    num_steps: int = 2000  # of gradient descent and of SGD
    batch_size: int = 20  # of SGD
    num_penalties: int = 40  # strengths of ridge and lasso
    seed: int = 0  # of data, weights and batches

    def __post_init__(self):
        """Refuses what cannot be."""
        require(self, "num_points", 3 <= self.num_points <= 1_000_000, "in 3 ... 1000000")
        require(self, "noise", 0 <= self.noise <= 1e6, "in 0 ... 1e6")
        require(self, "learning_rate", self.learning_rate is None or 0 < self.learning_rate < 1e6, "in 0 ... 1e6")
        require(self, "num_steps", 1 <= self.num_steps <= 1_000_000, "in 1 ... 1000000")
        require(self, "batch_size", 1 <= self.batch_size <= self.num_points, f"in 1 ... {self.num_points}")
        require(self, "num_penalties", 2 <= self.num_penalties <= 1000, "in 2 ... 1000")
        require_seeds(self)


def squared_error(params, state, batch, keys):
    """The deck's loss of each example."""
    outputs, state = MODEL.apply(params, state, batch.inputs)
    return losses.squared_error(outputs, batch.targets), state


def main(config: Config, run: Run) -> dict:
    """The plane, the descent on it, the real table."""
    table = load_table(config.csv)
    points_key, noise_key, start_key = jax.random.split(jax.random.key(config.seed), 3)
    inputs = jax.random.uniform(points_key, (config.num_points, 2), minval=-5, maxval=5)
    noise = config.noise * jax.random.normal(noise_key, (config.num_points, 1))
    data = Batch(inputs, MODEL.apply(PLANE, {}, inputs)[0] + noise)
    fit = linear_models.least_squares(data.inputs, data.targets)
    return draw_plane(run, data, fit) | descend(config, run, start_key, data, fit) | fit_table(config, run, table)


def draw_plane(run: Run, data: Batch, fit) -> dict:
    """Page 4: the plane with its weight vector on the floor; the noisy points and the plane fitted to them."""
    x1, x2 = jnp.meshgrid(jnp.linspace(-5, 5, 41), jnp.linspace(-5, 5, 41))
    grid = jnp.stack([x1, x2], axis=-1)
    arrow = np.array([[0, 0], PLANE["weight"][:, 0] / 2])
    fitted = MODEL.apply(fit.params, {}, grid)[0][..., 0]
    points = np.concatenate([data.inputs, data.targets], axis=1)
    weights = ", ".join(f"{weight:.3f}" for weight in fit.params["weight"][:, 0])
    panels = [
        plots.Surface(
            "$y = 2 x_1 + 8 x_2$, half its weight vector", x1, x2, MODEL.apply(PLANE, {}, grid)[0][..., 0], arrow=arrow
        ),
        plots.Surface(f"least squares: weights {weights}", x1, x2, fitted, points=points),
    ]
    run.save_figure("plane", plots.surfaces(panels))
    across = jnp.linspace(-1, 1, 13)[:, None] * jnp.array([8.0, -2.0])  # at a right angle to the weights
    return {
        "plane_change_across": jnp.ptp(MODEL.apply(PLANE, {}, across)[0]).item(),
        "plane_boundary_bend": plots.level_bend(x1, x2, fitted, level=fitted.mean().item()),
    }


def descend(config: Config, run: Run, key, data: Batch, fit) -> dict:
    """Gradient descent and SGD on the plane's data: how far they are from the closed form, step by step."""
    curvature = linear_models.largest_curvature(data.inputs).item()
    rate = 1 / curvature if config.learning_rate is None else config.learning_rate
    if rate >= 2 / curvature:
        raise BadUsageError(
            f"--learning-rate {rate:g} diverges on this data: it must be below 2/L = {2 / curvature:.4g}, where L = "
            f"{curvature:.4g} is the largest curvature of the loss"
        )
    start_net = functools.partial(training.init_train_state, key, MODEL)

    def course(optimizer, batch_size):
        """The distance from the closed form after each step."""

        def take_step(net, _):
            settings = {"loss_fn": squared_error, "optimizer": optimizer, "batch_size": batch_size}
            net, _ = training.train_steps(net, data, num_steps=1, **settings)
            return net, optax.tree.norm(jax.tree.map(jnp.subtract, net.params, fit.params))

        steps = jax.jit(lambda net: lax.scan(take_step, net, length=config.num_steps)[1])
        return steps(start_net(optimizer, data.inputs))

    steepest = 2 * (jnp.sum(data.inputs**2, axis=1).max() + 1)  # the largest curvature of a single example's loss
    sgd_rate = min(rate, (1 / steepest).item())  # which no batch, however small, makes diverge
    batches = f"SGD, batches of {config.batch_size}"
    courses = {
        "gradient descent": course(optax.sgd(rate), config.num_points),
        batches: course(optax.sgd(sgd_rate), config.batch_size),
        f"{batches}, decay": course(optax.sgd(lambda step: sgd_rate / (1 + step / 100)), config.batch_size),
    }
    steps = np.arange(1, config.num_steps + 1)
    content = {name: (steps, distance) for name, distance in courses.items()}
    title = "distance from the closed form"
    run.save_figure("descent", plots.lines({title: content}, xlabel="step", log="xy"))
    last = max(1, config.num_steps // 4)  # SGD goes on wandering: one step says little
    ends = [jnp.sqrt(jnp.mean(distance[-last:] ** 2)).item() for distance in courses.values()]
    return {
        **dict(zip(("plane_weight_1", "plane_weight_2"), fit.params["weight"][:, 0].tolist(), strict=True)),
        "plane_bias": fit.params["bias"].item(),
        "learning_rate": rate,
        "stable_learning_rate": 2 / curvature,
        **dict(zip(("descent_distance", "sgd_distance", "sgd_decay_distance"), ends, strict=True)),
    }


def fit_table(config: Config, run: Run, table: tables.Table) -> dict:
    """The real table, features standardised: least squares and its residuals, the weights along both penalties."""
    for warning in tables.warnings(table):
        run.say(f"warning: {warning}")
    inputs, targets = jnp.asarray(table.inputs), jnp.asarray(table.targets)[:, None]
    fit = linear_models.least_squares(inputs, targets)
    weights = fit.params["weight"][:, 0].tolist()
    run.log(fit="least squares", bias=fit.params["bias"].item(), features=table.feature_names, weights=weights)
    for name, weight in zip(table.feature_names, weights, strict=True):
        run.say(f"{name}: weight {weight:.6g}")
    inputs = standardize(fit_standardizer(inputs), inputs)  # for penalties that treat all alike
    fit = linear_models.least_squares(inputs, targets)
    outputs, _ = MODEL.apply(fit.params, {}, inputs)
    residuals = (targets - outputs)[:, 0]
    panels = {"targets and predictions": (outputs[:, 0], targets[:, 0], 1), "residuals": (outputs[:, 0], residuals, 0)}
    run.save_figure("residuals", plots.points(panels, xlabel="prediction"))

    scale = 2 * jnp.abs(inputs.T @ (targets - targets.mean())).max() / len(inputs)  # from here on lasso has no weight
    l1, l2 = scale * jnp.geomspace(1e-4, 1, config.num_penalties), jnp.geomspace(1e-4, 1e2, config.num_penalties)
    ridge = jax.vmap(lambda l2: linear_models.least_squares(inputs, targets, l2=l2))(l2)
    lasso = jax.jit(jax.vmap(lambda l1: linear_models.lasso(inputs, targets, l1=l1)))(l1)
    if not lasso.converged.all():
        run.say("warning: lasso did not converge for some penalties: the columns are nearly collinear")
    paths = {
        f"{name}: weights by penalty": {
            feature.replace("$", r"\$"): (penalties, fits.params["weight"][:, index, 0])
            for index, feature in enumerate(table.feature_names)
        }
        for name, penalties, fits in (("ridge", l2, ridge), ("lasso", l1, lasso))
    }
    run.save_figure("penalties", plots.lines(paths, xlabel="penalty", log="x"))
    for penalty, weights in zip(l1.tolist(), lasso.params["weight"][..., 0].tolist(), strict=True):
        run.log(l1=penalty, weights=weights)
    return {
        "table_rows": len(inputs),
        "table_features": inputs.shape[1],
        "table_rank": fit.rank.item(),
        "table_condition": fit.condition.item() if jnp.isfinite(fit.condition) else str(fit.condition.item()),
        "table_r2": metrics.r2(outputs, targets).item(),
        "table_residual_sd": jnp.std(residuals).item(),
        "table_mean_residual": residuals.mean().item(),
    }


def load_table(csv: Path | None) -> tables.Table:
    """The user's, or the diabetes set."""
    if csv is not None:
        table = tables.read_csv(csv)
        if np.ptp(table.targets) == 0:
            raise BadUsageError(f"{csv}: the last column, the target, does not vary: there is nothing to fit")
        return table
    inputs, targets = datasets.diabetes()
    return tables.Table(inputs, targets[:, 0], datasets.FEATURE_NAMES["diabetes"])


if __name__ == "__main__":
    start(Config, main, quick=Config(num_points=50, num_steps=100, num_penalties=5))
