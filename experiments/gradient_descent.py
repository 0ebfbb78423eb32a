"""Downhill by the gradient: the path on a bowl, seven optimizers, and the minima where hundreds of starts end.

The deck (pages 11-13) draws the tangent plane and the gradient of 4x₁² + x₂² and counts 5,497 steps to its minimum.
Its list of better optimizers is compared on the same bowl and on Rosenbrock's curved valley, each with its own best
learning rate out of the same grid: the order is another on each (NOTE says why), so the steps rank nobody. And a
function with four minima shows that where one starts decides where one ends.

Run:    make experiment NAME=gradient_descent

Expect: 5,497 steps on the bowl; at its best learning rate, gradient descent takes 18 there and 8,491 in the valley,
        momentum 156 and 581, Adam 779 and 16,243 (rounding may change that); 103 of 400 starts find the deepest minimum

Time:   12 s
"""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
from pydantic import Field
from pydantic.dataclasses import dataclass

from jaxnn import descent, training
from jaxnn.lab import contours, surfaces
from jaxnn.lab.config import Seed
from jaxnn.lab.run import Run, RunFailedError, mean_and_sd
from jaxnn.lab.start import start

LEARNING_RATES = np.geomspace(1e-4, 10, 41)  # each optimizer is tried with all of them
OPTIMIZERS = {
    "gradient descent": optax.sgd,
    "with decay": lambda rate: optax.sgd(lambda step: rate / jnp.sqrt(1 + step / 100)),
    **{name: training.OPTIMIZERS[name.lower()] for name in ("momentum", "Nesterov", "AdaGrad", "RMSProp", "Adam")},
}


@dataclass(frozen=True)
class Config:
    """The descents."""

    learning_rate: Annotated[float, Field(gt=0, lt=0.25)] = 1e-3  # of the deck's path, which at 2/8 swings for ever
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


PROBLEMS = {  # function, start, minimum, part of the plane that is drawn
    "bowl": (bowl, np.array([3.0, 2.0]), (0.0, 0.0), ((-3.5, 3.5), (-3.5, 3.5))),
    "Rosenbrock": (rosenbrock, np.array([-1.5, 1.5]), (1.0, 1.0), ((-2, 2), (-1, 3))),
}
NOTE = """The steps rank nobody. On the round bowl, descent shortens its way by a third a step; momentum 0.9 swings, \
and its swings fade by at most 5 % a step. In the narrow valley, descent creeps, and momentum gathers speed."""


def draw_bowl(config: Config, run: Run) -> dict:
    """Page 11: gradient and tangent plane, whose error is four times as large twice as far away; page 12: the path."""
    x0 = jnp.array([3.0, 3.0])
    end = descent.gradient_descent(bowl, x0, learning_rate=config.learning_rate, tol=1e-7, max_steps=config.max_steps)
    if not end.converged:
        raise RunFailedError("too few steps: give more with --max-steps, or a --learning-rate nearer to 1/8")
    path = np.concatenate([end.path[: end.num_steps : max(1, end.num_steps // 60)], end.x[None]])  # about 60
    point, grid = jnp.array([-1.5, -2.0]), surfaces.over_grid(bowl, (-4, 4), (-4, 4))
    value, gradient = jax.value_and_grad(bowl)(point)
    arrow = r"$\frac{1}{6}\nabla f$", np.stack([point, point + gradient / 6])
    left = surfaces.Surface("$f = 4 x_1^2 + x_2^2$, tangent plane and gradient", *grid, arrow=arrow, spot=point)
    left = left._replace(plane=surfaces.tangent_plane(bowl, point, half_width=1.5))
    right = surfaces.Surface(f"gradient descent: {end.num_steps:,} steps", *grid, path=path)
    run.save_figure("bowl", surfaces.surfaces([left, right]))
    far, near = (bowl(point + step) - value - gradient @ step for step in jnp.array([[0.1, 0.2], [0.05, 0.1]]))
    return {"num_steps": end.num_steps, "end_x1": end.x[0], "end_x2": end.x[1], "tangent_error_ratio": far / near}


def descend(f, x0, make_optimizer, max_steps: int):
    """The best learning rate, its path until `f` stays below 1e-6, or for `max_steps`, and whether it does."""
    settings = {"tol": 0.0, "max_steps": max_steps}
    find_path = jax.vmap(lambda rate: descent.minimize(f, x0, optimizer=make_optimizer(rate), **settings).path)
    paths = jax.jit(find_path)(LEARNING_RATES)
    values = np.asarray(jax.vmap(jax.vmap(f))(paths))
    away = ~(values < 1e-6)  # also where it is NaN
    num_steps = away.shape[1] - away[:, ::-1].argmax(axis=1)  # index of the point from which on it stays below
    best = np.lexsort((values[:, -1], num_steps))[0]
    return LEARNING_RATES[best], paths[best, : num_steps[best] + 1], num_steps[best] <= max_steps


def compare_optimizers(config: Config, run: Run) -> dict:
    """Each with its best learning rate, on the bowl and in Rosenbrock's valley."""
    summary = {}
    for surface, (f, x0, minimum, ranges) in PROBLEMS.items():
        paths = {}
        for name, make_optimizer in OPTIMIZERS.items():
            rate, path, arrives = descend(f, x0, make_optimizer, config.max_steps)
            steps = len(path) - 1 if arrives else None
            label = f"{steps:,} steps, rate {rate:.2g}" if arrives else f"not in {config.max_steps:,} steps"
            paths[f"{name}\n{label}"] = path
            run.log(surface=surface, optimizer=name, learning_rate=rate, steps=steps)
            summary[f"{surface.lower()}_{name.lower().replace(' ', '_')}_steps"] = steps
        grid = surfaces.over_grid(f, *ranges)
        run.save_figure(f"optimizers_{surface.lower()}", contours.paths(*grid, paths, minimum=minimum, note=NOTE))
    return summary


def find_minima(config: Config, run: Run) -> dict:
    """The stationary points, and at which minimum gradient descent from each of 400 starts ends."""
    starts = jax.random.uniform(jax.random.key(config.seed), (400, 2), minval=-4, maxval=4)
    track = jax.vmap(lambda x: descent.gradient_descent(four_minima, x, learning_rate=0.01, tol=1e-10, max_steps=2000))
    find_ends = jax.jit(lambda x0: track(x0).x)
    ends = find_ends(starts)
    coordinates = np.sort(np.roots([4, 0, -32, 5]).real)  # where the derivative of a coordinate vanishes
    stationary = np.stack(np.meshgrid(coordinates, coordinates), axis=-1).reshape(-1, 2)
    curvatures = np.linalg.eigvalsh(jax.vmap(jax.hessian(four_minima))(stationary))
    num_upward = (curvatures > 0).sum(axis=1)  # 2 at a minimum, 1 at a saddle, 0 at a maximum
    minima = stationary[num_upward == 2]
    values = jax.vmap(four_minima)(minima)
    reached = np.linalg.norm(ends[:, None] - minima, axis=-1).argmin(axis=1)
    run.log(minima=minima, values=values, starts=np.bincount(reached, minlength=len(minima)))
    grid = surfaces.over_grid(four_minima, (-4, 4), (-4, 4))
    everywhere = find_ends(np.stack(grid[:2], axis=-1).reshape(-1, 2))
    run.save_figure("minima", contours.basins(*grid, everywhere, minima, values, jax.jit(track)(starts[:24]).path))
    return {
        **dict(zip(("num_maxima", "num_saddles", "num_minima"), np.bincount(num_upward), strict=True)),
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
