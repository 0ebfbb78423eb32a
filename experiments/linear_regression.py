"""Linear neurons fitted by least squares, in closed form and step by step.

The deck (pages 3-4) draws the plane 2x₁ + 8x₂, whose response changes along its weight vector only, and asks for the
weights of least squared error. Here they come in closed form, and by gradient descent, full-batch and stochastic, which
converges to them: directly on the gradient of all examples, in a zigzag on that of a few (page 13).

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
from pydantic import Field
from pydantic.dataclasses import dataclass

from jaxnn import linear_models, losses, models, training
from jaxnn.lab import contours, plots, surfaces
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
    arrow = r"$\frac{1}{2}w$", np.array([[0, 0], PLANE["weight"][:, 0] / 2])
    points = np.concatenate([data.inputs, data.targets], axis=1)[:1000]  # more would hide the plane
    (w1, w2), (b,) = optimum["weight"][:, 0], optimum["bias"]
    panels = [
        surfaces.Surface("$y = 2 x_1 + 8 x_2$ rises along its weights $w$ only", x1, x2, plane, arrow=arrow),
        surfaces.Surface(f"least squares: $y = {w1:.2f} x_1 {w2:+.2f} x_2 {b:+.2f}$", x1, x2, fitted, points=points),
    ]
    run.save_figure("plane", surfaces.surfaces(panels))
    across = jnp.linspace(-1, 1, 13)[:, None] * jnp.array([8.0, -2.0])  # at a right angle to the weights
    return {
        "plane_change_across": jnp.ptp(MODEL.apply(PLANE, {}, across)[0]),
        "plane_boundary_bend": plots.level_bend(x1, x2, fitted, level=fitted.mean().item()),
    }


@functools.partial(jax.jit, static_argnames=("optimizer", "batch_size", "num_steps"))
def train_path(key, data: Batch, *, optimizer, batch_size: int, num_steps: int):
    """The params [1 + num_steps, ...] of a training, from its start on."""
    net = training.init_train_state(key, MODEL, optimizer, data.inputs)
    loss_fn = training.make_loss(MODEL, losses.squared_error)
    steps = range(num_steps + 1)
    return training.snapshots(net, data, loss_fn, optimizer, batch_size=batch_size, steps=steps).params


def draw_paths(config: Config, run: Run, key, data: Batch, optimum, rate: float):
    """Page 13: the way of the weights on the gradient of all examples and of a few, over the contours of the loss."""
    num_steps, paths = 60, {}
    for batch_size in (config.num_points, config.batch_size, 1):
        sizes = {"batch_size": batch_size, "num_steps": num_steps}
        title = "1 example a step" if batch_size == 1 else f"{batch_size:,} examples a step"
        paths[title] = np.asarray(train_path(key, data, optimizer=optax.sgd(rate), **sizes)["weight"][..., 0])
    weights, moments = optimum["weight"][:, 0], data.inputs.T @ data.inputs / len(data.inputs)
    everywhere = np.concatenate(list(paths.values()))
    ranges = np.stack([everywhere.min(axis=0) - 1, everywhere.max(axis=0) + 1], axis=1)
    excess = surfaces.over_grid(lambda w: (w - weights) @ moments @ (w - weights), *ranges)  # with its bias
    note = f"""{num_steps} steps each, all at a learning rate of {rate:.2g}. The fewer examples a step looks at, the \
cheaper it is, and the more it strays from the gradient of them all; with noise, it never comes to rest."""
    run.save_figure("paths", contours.paths(*excess, paths, minimum=weights, names=("$w_1$", "$w_2$"), note=note))


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
        path = train_path(key, data, optimizer=optimizer, **sizes)
        curves[name] = steps, jax.vmap(optax.tree.norm)(jax.tree.map(lambda a, b: a[1:] - b, path, optimum))
    panel = {"distance of weights and bias from the closed form": curves}
    run.save_figure("descent", plots.lines(panel, xlabel="step", ylabel="Euclidean distance", log="xy"))
    draw_paths(config, run, key, data, optimum, sgd_rate)
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
