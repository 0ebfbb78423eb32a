"""Downhill by the gradient: the path on a bowl, seven optimizers, and the minima where hundreds of starts end.

The deck (pages 11-13) draws the tangent plane and the gradient of 4x₁² + x₂² and counts 5,497 steps to its minimum.
Its list of better optimizers is compared on the same bowl and on Rosenbrock's curved valley, each with its own best
learning rate out of the same grid; and a function with four minima shows that where one starts decides where one ends.

Run:    make experiment NAME=gradient_descent

Expect: 5,497 steps on the bowl; at its best learning rate, gradient descent takes 18 steps on the bowl and 8,491 in
        Rosenbrock's valley, momentum 156 and 581, Adam 779 and 14,549; of 400 starts 103 find the deepest minimum

Time:   12 s
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from jaxnn import descent, training
from jaxnn.lab import diagrams, plots
from jaxnn.lab.config import Seed
from jaxnn.lab.run import Run, RunFailedError, mean_and_sd
from jaxnn.lab.start import start

LEARNING_RATES = np.geomspace(1e-4, 10, 41)  # that each optimizer tries
PRECISION = 1e-6  # optimizers are compared by the steps until the function stays so close to its minimum, 0
NUM_STARTS = 400  # at random, on the function with four minima
OPTIMIZERS = {
    "gradient descent": training.OPTIMIZERS["sgd"],
    "with decay": lambda rate: training.OPTIMIZERS["sgd"](lambda step: rate / jnp.sqrt(1 + step / 100)),
    "momentum": training.OPTIMIZERS["momentum"],
    "Nesterov": training.OPTIMIZERS["nesterov"],
    "AdaGrad": training.OPTIMIZERS["adagrad"],
    "RMSProp": training.OPTIMIZERS["rmsprop"],
    "Adam": training.OPTIMIZERS["adam"],
}


@dataclass(frozen=True)
class Config:
    """The descents."""

    learning_rate: Annotated[float, Field(gt=0, lt=0.25)] = 1e-3  # of the deck's path, which from 2/8 on diverges
    max_steps: Annotated[int, Field(ge=1, le=100_000)] = 20_000  # of the deck's path and of each optimizer
    seed: Seed = 0  # of the random starts


def bowl(x):
    """Drawn on pages 11 and 12, which call it 2x₁² + x₂². The largest curvature is 8."""
    return 4 * x[0] ** 2 + x[1] ** 2


def rosenbrock(x):
    """A flat valley along x₂ = x₁²; its minimum is 0 at (1, 1)."""
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def four_minima(x):
    """Styblinski and Tang's function: each coordinate has two minima, at -2.90 the deeper one."""
    return jnp.sum(x**4 - 16 * x**2 + 5 * x) / 2


class Problem(NamedTuple):
    """A function whose minimum, 0, is to be found, and the part of the plane that is drawn."""

    f: Callable
    start: tuple[float, float]
    minimum: tuple[float, float]
    x1_range: tuple[float, float]
    x2_range: tuple[float, float]


PROBLEMS = {
    "bowl": Problem(bowl, (3.0, 2.0), (0.0, 0.0), (-3.5, 3.5), (-3.5, 3.5)),
    "Rosenbrock": Problem(rosenbrock, (-1.5, 1.5), (1.0, 1.0), (-2, 2), (-1, 3)),
}


def grid(f, x1_range=(-4, 4), x2_range=(-4, 4)):
    """Coordinates and values, 121 points along each axis."""
    x1, x2 = np.meshgrid(np.linspace(*x1_range, 121), np.linspace(*x2_range, 121))
    return x1, x2, np.asarray(jax.vmap(jax.vmap(f))(np.stack([x1, x2], axis=-1)))


def draw_bowl(config: Config, run: Run) -> dict:
    """Page 11: tangent plane and gradient, and how well the plane fits; page 12: the path."""
    point = jnp.array([-1.0, 2.0])
    height, slope = jax.value_and_grad(bowl)(point)

    def tangent(x):
        return height + slope @ (x - point)

    end = descent.gradient_descent(
        bowl, jnp.array([3.0, 3.0]), learning_rate=config.learning_rate, tol=1e-7, max_steps=config.max_steps
    )
    if not end.converged:
        raise RunFailedError(
            f"{config.max_steps:,} steps were too few: give more with --max-steps, or a --learning-rate nearer to 1/8"
        )
    x1, x2, values = grid(bowl)
    plane = plots.Surface("", *grid(tangent, *((at - 1.2, at + 1.2) for at in point)))
    path = np.concatenate([end.path[: end.num_steps : max(1, end.num_steps // 60)], end.x[None]])
    panels = [
        plots.Surface(
            "$4 x_1^2 + x_2^2$, tangent plane, a sixth of the gradient",
            *(x1, x2, values),
            plane=plane,
            arrow=np.stack([point, point + slope / 6]),
        ),
        plots.Surface(f"$4 x_1^2 + x_2^2$, steps: {end.num_steps:,}", x1, x2, values, path=path),
    ]
    run.save_figure("bowl", plots.surfaces(panels))
    far, near = (bowl(x) - tangent(x) for x in (point + jnp.array([0.1, 0.2]), point + jnp.array([0.05, 0.1])))
    return {"num_steps": end.num_steps, "end_x1": end.x[0], "end_x2": end.x[1], "tangent_error_ratio": far / near}


def fewest_steps(problem: Problem, make_optimizer, max_steps: int):
    """Of the learning rates, tried side by side, the best; after how many steps it stays close, and its path there.

    None instead of rate and steps, and an empty path, where no rate comes close.
    """

    @jax.jit
    @jax.vmap
    def descend(rate):
        optimizer = make_optimizer(rate)
        return descent.minimize(
            problem.f, jnp.array(problem.start), optimizer=optimizer, tol=0.0, max_steps=max_steps
        ).path

    paths = descend(LEARNING_RATES)
    away = ~np.asarray(jax.vmap(jax.vmap(problem.f))(paths) < PRECISION)  # also where it is NaN
    steps = away.shape[1] - away[:, ::-1].argmax(axis=1)  # up to the first point after which it stays close
    best = steps.argmin()
    if steps[best] > max_steps:
        return None, None, np.zeros((0, 2))
    return LEARNING_RATES[best], steps[best], paths[best, : steps[best] + 1]


def compare_optimizers(config: Config, run: Run) -> dict:
    """Each at its best learning rate, on both problems."""
    summary = {}
    for title, problem in PROBLEMS.items():
        paths = {}
        for name, make_optimizer in OPTIMIZERS.items():
            rate, steps, path = fewest_steps(problem, make_optimizer, config.max_steps)
            run.log(surface=title, optimizer=name, learning_rate=rate, steps=steps)
            summary[f"{title.lower()}_{name.lower().replace(' ', '_')}_steps"] = steps
            label = f"{steps:,} steps at {rate:.2g}" if steps else f"not in {config.max_steps:,} steps"
            paths[f"{name}: {label}"] = path
        x1, x2, values = grid(problem.f, problem.x1_range, problem.x2_range)
        levels = np.geomspace(1e-2, values.max(), 25)
        figure = diagrams.paths(x1, x2, values, paths, levels=levels, minimum=problem.minimum)
        run.save_figure(f"optimizers_{title.lower()}", figure)
    return summary


def find_minima(config: Config, run: Run) -> dict:
    """Where gradient descent from many starts ends, all in one program; and what the stationary points are."""
    starts = jax.random.uniform(jax.random.key(config.seed), (NUM_STARTS, 2), minval=-4, maxval=4)

    @jax.jit
    @jax.vmap
    def descend(x0):
        return descent.gradient_descent(four_minima, x0, learning_rate=0.01, tol=1e-10, max_steps=2000).x

    ends = descend(starts)
    coordinates = np.sort(np.roots([4, 0, -32, 5]).real)  # where the derivative of a coordinate vanishes
    stationary = np.stack(np.meshgrid(coordinates, coordinates), axis=-1).reshape(-1, 2)
    curvatures = np.linalg.eigvalsh(jax.vmap(jax.hessian(four_minima))(stationary))
    num_upward = (curvatures > 0).sum(axis=1)  # 2 at a minimum, 1 at a saddle, 0 at a maximum
    minima = stationary[num_upward == 2]
    values = jax.vmap(four_minima)(minima)
    reached = np.linalg.norm(ends[:, None] - minima, axis=-1).argmin(axis=1)
    title = f"{NUM_STARTS} starts by the minimum that they reach"
    figure = plots.boundary(*grid(four_minima), title=title, points=starts, labels=reached, point_cmap="tab10")
    run.save_figure("minima", figure)
    for number, curvature in enumerate(curvatures[num_upward == 2]):
        columns = {"minimum": minima[number], "value": values[number], "hessian_eigenvalues": curvature}
        run.log(**columns, starts=(reached == number).sum())
    return {
        "num_minima": len(minima),
        "num_saddles": (num_upward == 1).sum(),
        "num_maxima": (num_upward == 0).sum(),
        "starts_at_deepest_share": (reached == values.argmin()).mean(),
        "largest_distance_to_a_minimum": np.linalg.norm(ends - minima[reached], axis=-1).max(),
        **mean_and_sd("value", values[reached]),
        "value_deepest": values.min(),
    }


def main(config: Config, run: Run) -> dict:
    """The deck's path, the optimizers, the minima."""
    return draw_bowl(config, run) | compare_optimizers(config, run) | find_minima(config, run)


if __name__ == "__main__":
    start(Config, main, quick=Config(max_steps=6000), x64=True)
