"""Linear neurons fitted by least squares, in closed form and step by step.

The deck (pages 3-4) draws the plane 2x₁ + 8x₂, whose response changes along its weight vector only, and asks for the
weights of least squared error. Here they come in closed form, and by gradient descent, full-batch and stochastic, which
converges to them.

Run:    make experiment NAME=linear_regression

Expect: in its last 500 of 2,000 steps gradient descent is 5e-15 from the closed form, SGD 0.07, with decay 0.004
        (1 seed, root mean square)

Time:   7 s
"""

import functools
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from pydantic import Field
from pydantic.dataclasses import dataclass

from jaxnn import linear_models, losses, models, training
from jaxnn.lab import plots
from jaxnn.lab.config import Count, Seed
from jaxnn.lab.run import Run
from jaxnn.lab.start import start
from jaxnn.types import Batch

PLANE = {"weight": np.array([[2.0], [8.0]]), "bias": np.zeros(1)}
MODEL = models.linear(1)


@dataclass(frozen=True)
class Config:
    """The data, and the descent."""

    num_points: Annotated[int, Field(ge=100, le=1_000_000)] = 200  # examples, whose targets lie on the plane
    noise: Annotated[float, Field(ge=0, le=1e6)] = 3.0  # standard deviation of what is added to the targets
    num_steps: Count = 2000  # of gradient descent and of SGD
    batch_size: Annotated[int, Field(ge=1, le=100)] = 20  # of SGD
    seed: Seed = 0  # of data, weights and batches


def draw_plane(run: Run, data: Batch, optimum) -> dict:
    """Page 4: the plane with its weight vector on the floor; the noisy points and the plane fitted to them."""
    x1, x2 = jnp.meshgrid(jnp.linspace(-5, 5, 41), jnp.linspace(-5, 5, 41))
    grid = jnp.stack([x1, x2], axis=-1)
    plane, fitted = (MODEL.apply(params, {}, grid)[0][..., 0] for params in (PLANE, optimum))
    arrow = np.array([[0, 0], PLANE["weight"][:, 0] / 2])
    points = np.concatenate([data.inputs, data.targets], axis=1)
    weights = ", ".join(f"{weight:.3f}" for weight in optimum["weight"][:, 0])
    panels = [
        plots.Surface("$y = 2 x_1 + 8 x_2$, half its weight vector", x1, x2, plane, arrow=arrow),
        plots.Surface(f"least squares: weights {weights}", x1, x2, fitted, points=points),
    ]
    run.save_figure("plane", plots.surfaces(panels))
    across = jnp.linspace(-1, 1, 13)[:, None] * jnp.array([8.0, -2.0])  # at a right angle to the weights
    return {
        "plane_change_across": jnp.ptp(MODEL.apply(PLANE, {}, across)[0]),
        "plane_boundary_bend": plots.level_bend(x1, x2, fitted, level=fitted.mean().item()),
    }


@functools.partial(jax.jit, static_argnames=("optimizer", "batch_size", "num_steps"))
def distances(key, data: Batch, optimum, *, optimizer, batch_size: int, num_steps: int):
    """After each step of a training, the Euclidean distance of its params from `optimum`."""
    loss_fn = training.make_loss(MODEL, losses.squared_error)

    def take_step(net, _):
        net, _ = training.train_steps(net, data, loss_fn, optimizer, batch_size=batch_size, num_steps=1)
        return net, optax.tree.norm(jax.tree.map(jnp.subtract, net.params, optimum))

    net = training.init_train_state(key, MODEL, optimizer, data.inputs)
    return lax.scan(take_step, net, length=num_steps)[1]


def descend(config: Config, run: Run, key, data: Batch, optimum) -> dict:
    """Gradient descent and SGD: their distances from the closed form."""
    rate = 1 / linear_models.largest_curvature(data.inputs).item()  # twice that would diverge
    largest = 2 * (jnp.sum(data.inputs**2, axis=1).max() + 1)  # curvature of the loss of a single example
    sgd_rate = min(rate, (1 / largest).item())  # which no batch, however small, makes diverge
    decaying = optax.sgd(lambda step: sgd_rate / (1 + step / 100))
    kinds = {
        "gradient descent": (optax.sgd(rate), config.num_points),
        f"SGD, batches of {config.batch_size}": (optax.sgd(sgd_rate), config.batch_size),
        f"SGD, batches of {config.batch_size}, decay": (decaying, config.batch_size),
    }
    steps, curves = np.arange(1, config.num_steps + 1), {}
    for name, (optimizer, batch_size) in kinds.items():
        sizes = {"batch_size": batch_size, "num_steps": config.num_steps}
        curves[name] = steps, distances(key, data, optimum, optimizer=optimizer, **sizes)
    panel = {"distance from the closed form": curves}
    run.save_figure("descent", plots.lines(panel, xlabel="step", log="xy"))
    last = max(1, config.num_steps // 4)  # steps, of which the mean is taken: SGD wanders, and one step says little
    ends = [jnp.sqrt(jnp.mean(distance[-last:] ** 2)) for _, distance in curves.values()]
    return {
        "learning_rate": rate,
        "stable_learning_rate": 2 * rate,
        **dict(zip(("descent_distance", "sgd_distance", "sgd_decay_distance"), ends, strict=True)),
    }


def main(config: Config, run: Run) -> dict:
    """The plane, the closed form, the descent towards it."""
    points_key, noise_key, train_key = jax.random.split(jax.random.key(config.seed), 3)
    inputs = jax.random.uniform(points_key, (config.num_points, 2), minval=-5, maxval=5)
    noise = config.noise * jax.random.normal(noise_key, (config.num_points, 1))
    data = Batch(inputs, MODEL.apply(PLANE, {}, inputs)[0] + noise)
    optimum = linear_models.least_squares(data.inputs, data.targets).params
    (weight_1, weight_2), (bias,) = optimum["weight"][:, 0], optimum["bias"]
    weights = {"plane_weight_1": weight_1, "plane_weight_2": weight_2, "plane_bias": bias}
    return draw_plane(run, data, optimum) | weights | descend(config, run, train_key, data, optimum)


if __name__ == "__main__":
    start(Config, main, quick=Config(num_points=100, num_steps=100), x64=True)
