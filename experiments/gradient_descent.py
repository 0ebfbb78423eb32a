"""Downhill by the gradient: the path on a bowl, seven optimizers, and the minima where hundreds of starts end.

The deck (pages 11-13) draws the tangent plane and the gradient of 4x₁² + x₂² and counts 5,497 steps to its minimum.
Its list of better optimizers is compared on the same bowl and on Rosenbrock's curved valley, each with its own best
learning rate out of the same grid; and a function with four minima shows that where one starts decides where one ends.

Run:    make experiment NAME=gradient_descent

Expect: 5,497 steps on the bowl; at its best learning rate, gradient descent takes 18 steps on the bowl and 8,491 in
        Rosenbrock's valley, momentum 156 and 581, Adam 779 and 14,549; of 400 starts 103 find the deepest minimum

Time:   12 s
"""

from dataclasses import dataclass

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from jaxnn import descent  # noqa: E402
from jaxnn.lab import plots  # noqa: E402
from jaxnn.lab.config import require, require_seeds  # noqa: E402
from jaxnn.lab.run import Run, RunFailedError, mean_and_sd, start  # noqa: E402

BOWL_CURVATURE = 8.0  # the largest of its Hessian: gradient descent needs a learning rate below 2/8


@dataclass(frozen=True)
class Config:
    """The deck's descent, and the comparison."""

    learning_rate: float = 1e-3  # of the deck's path; below 2/8 = 0.25, or it diverges
    tol: float = 1e-7  # the deck's path ends with a step shorter than this
    max_steps: int = 20_000  # of any descent
    precision: float = 1e-6  # optimizers are compared by the steps until the function stays so close to its minimum
    num_rates: int = 41  # learning rates that each optimizer tries, from 1e-4 to 10
    num_starts: int = 400  # random starts on the function with four minima
    seed: int = 0  # of those starts

    def __post_init__(self):
        """Refuses what cannot be."""
        stable = f"above 0 and below 2/L = {2 / BOWL_CURVATURE}, where L is the largest curvature of 4x₁² + x₂²"
        require(self, "learning_rate", 0 < self.learning_rate < 2 / BOWL_CURVATURE, stable)
        require(self, "tol", 0 < self.tol <= 1, "above 0, at most 1")
        require(self, "precision", 0 < self.precision <= 1, "above 0, at most 1")
        require(self, "max_steps", 1 <= self.max_steps <= 100_000, "in 1 ... 100000")
        for name in ("num_rates", "num_starts"):
            require(self, name, 1 <= getattr(self, name) <= 1000, "in 1 ... 1000")
        require_seeds(self)


def bowl(x):
    """Drawn on pages 11 and 12, which call it 2x₁² + x₂²."""
    return 4 * x[0] ** 2 + x[1] ** 2


def rosenbrock(x):
    """A flat valley along x₂ = x₁²; its minimum is 0 at (1, 1)."""
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def four_minima(x):
    """Styblinski and Tang's function: each coordinate has two minima, at -2.90 the deeper one."""
    return jnp.sum(x**4 - 16 * x**2 + 5 * x) / 2


OPTIMIZERS = {
    "gradient descent": optax.sgd,
    "with decay": lambda rate: optax.sgd(lambda step: rate / jnp.sqrt(1 + step / 100)),
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "Nesterov": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
    "AdaGrad": optax.adagrad,
    "RMSProp": optax.rmsprop,
    "Adam": optax.adam,
}
SURFACES = {  # function, start, grid of the picture
    "bowl": (bowl, (3.0, 2.0), ((-3.5, 3.5), (-3.5, 3.5)), (0.0, 0.0)),
    "Rosenbrock": (rosenbrock, (-1.5, 1.5), ((-2, 2), (-1, 3)), (1.0, 1.0)),
}


def grid(x1_range, x2_range, f):
    """Coordinates and values, 121 points along each axis."""
    x1, x2 = np.meshgrid(*(np.linspace(low, high, 121) for low, high in (x1_range, x2_range)))
    return x1, x2, np.asarray(jax.vmap(jax.vmap(f))(np.stack([x1, x2], axis=-1)))


def main(config: Config, run: Run) -> dict:
    """The deck's path, the optimizers, the minima."""
    return draw_bowl(config, run) | compare_optimizers(config, run) | find_minima(config, run)


def draw_bowl(config: Config, run: Run) -> dict:
    """Page 11: tangent plane and gradient; page 12: the path."""
    x1, x2, values = grid((-4, 4), (-4, 4), bowl)
    point = jnp.array([-1.0, 2.0])
    height, slope = jax.value_and_grad(bowl)(point)
    near1, near2 = np.meshgrid(*(np.linspace(coordinate - 1.2, coordinate + 1.2, 9) for coordinate in point))
    tangent = height + slope[0] * (near1 - point[0]) + slope[1] * (near2 - point[1])
    end = descent.gradient_descent(
        bowl, jnp.array([3.0, 3.0]), learning_rate=config.learning_rate, tol=config.tol, max_steps=config.max_steps
    )
    if not end.converged:
        raise RunFailedError(
            f"{config.max_steps:,} steps were too few: give more with --max-steps, or a --learning-rate nearer to "
            f"{1 / BOWL_CURVATURE}"
        )
    stride = max(1, end.num_steps.item() // 60)
    shown = jnp.concatenate([end.path[: end.num_steps : stride], end.x[None]])
    title = "$4 x_1^2 + x_2^2$"
    panels = [
        plots.Surface(
            f"{title}, tangent plane, a sixth of the gradient",
            x1,
            x2,
            values,
            plane=plots.Surface("", near1, near2, np.asarray(tangent)),
            arrow=np.stack([point, point + slope / 6]),
        ),
        plots.Surface(f"{title}, steps: {end.num_steps:,}", x1, x2, values, path=np.asarray(shown)),
    ]
    run.save_figure("bowl", plots.surfaces(panels))
    errors = [bowl(point + step) - (height + slope @ step) for step in (jnp.array([0.1, 0.2]), jnp.array([0.05, 0.1]))]
    return {
        "num_steps": end.num_steps.item(),
        "end_x1": end.x[0].item(),
        "end_x2": end.x[1].item(),
        "tangent_error_ratio": (errors[0] / errors[1]).item(),  # 4: twice as far, four times the error
    }


def compare_optimizers(config: Config, run: Run) -> dict:
    """Of each optimizer, the steps with the best of the learning rates, all of which run side by side."""
    rates = jnp.geomspace(1e-4, 10, config.num_rates)
    summary = {}
    for surface, (f, x0, ranges, minimum) in SURFACES.items():
        courses = {}
        for name, make_optimizer in OPTIMIZERS.items():

            @jax.jit
            @jax.vmap
            def path(rate, f=f, x0=x0, make_optimizer=make_optimizer):
                optimizer = make_optimizer(rate)
                return descent.minimize(f, jnp.array(x0), optimizer=optimizer, tol=0.0, max_steps=config.max_steps).path

            all_paths = path(rates)
            away = ~np.asarray(jax.vmap(jax.vmap(f))(all_paths) < config.precision)
            steps = away.shape[1] - away[:, ::-1].argmax(axis=1)  # the first point after which it stays close
            best = steps.argmin()
            reached = steps[best] <= config.max_steps
            row = {"learning_rate": rates[best].item(), "steps": steps[best].item()}
            row = row if reached else dict.fromkeys(row)
            run.log(surface=surface, optimizer=name, **row)
            summary[f"{surface.lower()}_{name.lower().replace(' ', '_')}_steps"] = row["steps"]
            if not reached:
                courses[f"{name}: not in {config.max_steps:,} steps"] = np.zeros((0, 2))
            else:
                courses[f"{name}: {steps[best]:,} steps at {rates[best]:.2g}"] = all_paths[best][: steps[best] + 1]
        x1, x2, values = grid(*ranges, f)
        levels = np.geomspace(1e-2, values.max(), 25)
        run.save_figure(
            f"optimizers_{surface.lower()}", plots.paths(x1, x2, values, courses, levels=levels, minimum=minimum)
        )
    return summary


def find_minima(config: Config, run: Run) -> dict:
    """Where gradient descent from many starts ends, all in one program; and what the stationary points are."""
    starts = jax.random.uniform(jax.random.key(config.seed), (config.num_starts, 2), minval=-4, maxval=4)

    @jax.jit
    @jax.vmap
    def end(x0):
        return descent.gradient_descent(four_minima, x0, learning_rate=0.01, tol=1e-10, max_steps=2000).x

    ends = end(starts)
    coordinates = np.sort(np.roots([4, 0, -32, 5]).real)  # where the derivative of a coordinate vanishes
    stationary = np.stack(np.meshgrid(coordinates, coordinates), axis=-1).reshape(-1, 2)
    eigenvalues = np.linalg.eigvalsh(jax.vmap(jax.hessian(four_minima))(stationary))
    minima = stationary[(eigenvalues > 0).all(axis=1)]
    reached = np.linalg.norm(ends[:, None] - minima, axis=-1).argmin(axis=1)
    distance = np.linalg.norm(ends - minima[reached], axis=-1)
    values = jax.vmap(four_minima)(minima)
    deepest = values.argmin()
    x1, x2, surface = grid((-4, 4), (-4, 4), four_minima)
    title = f"{config.num_starts} starts by the minimum that they reach"
    figure = plots.boundary(x1, x2, surface, title=title, points=starts, labels=reached, point_cmap="tab10")
    run.save_figure("minima", figure)
    for point, value, curvatures, count in zip(
        minima, values, eigenvalues[(eigenvalues > 0).all(axis=1)], np.bincount(reached, minlength=4), strict=True
    ):
        run.log(
            minimum=point.tolist(), value=value.item(), hessian_eigenvalues=curvatures.tolist(), starts=count.item()
        )
    return {
        "num_minima": len(minima),
        "num_saddles": int(((eigenvalues > 0).sum(axis=1) == 1).sum()),
        "num_maxima": int((eigenvalues < 0).all(axis=1).sum()),
        "starts_at_deepest_share": (reached == deepest).mean().item(),
        "largest_distance_to_a_minimum": distance.max().item(),
        **mean_and_sd("value", values[reached]),
        "value_deepest": values[deepest].item(),
    }


if __name__ == "__main__":
    start(Config, main, quick=Config(max_steps=6000, num_rates=5, num_starts=50))
