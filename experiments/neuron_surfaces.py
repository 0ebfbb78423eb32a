"""What a neuron computes, and what a few of them compute together.

The deck (pages 6-10) draws the logistic neuron, whose response changes along its weight vector only; three of them
feeding a linear neuron, whose surface and decision boundary are curved; and the activation functions. Without an
activation function, a network collapses into one linear neuron.

Run:    make experiment NAME=neuron_surfaces

Expect: the three-unit surface of page 8 runs from -6.799 to 6.714, which it reaches near (0.05, 0)

Time:   8 s
"""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from jaxnn import deck, models
from jaxnn.lab import net_diagrams, plots, surfaces
from jaxnn.lab.config import Seed
from jaxnn.lab.run import Run
from jaxnn.lab.start import start

ACTIVATIONS = {"identity": lambda x: x, "logistic": jax.nn.sigmoid, "tanh": jnp.tanh, "ReLU": jax.nn.relu}
NEURON = {"weight": np.array([[0.4], [1.6]]), "bias": np.zeros(1)}


@dataclass(frozen=True)
class Config:
    """What is drawn."""

    resolution: Annotated[int, Field(ge=2, le=2001)] = 241  # grid points along each axis
    seed: Seed = 0  # of the random net 2-3-3-2


def grid(half_width: float, resolution: int):
    """The points of [-half_width, half_width]² as inputs [points, 2], and their coordinates as grids, for plots."""
    axis = jnp.linspace(-half_width, half_width, resolution)
    x1, x2 = jnp.meshgrid(axis, axis)
    return jnp.stack([x1.ravel(), x2.ravel()], axis=1), x1, x2


def draw_neuron(config: Config, run: Run) -> dict:
    """Page 6: the logistic neuron σ(0.4x₁ + 1.6x₂)."""
    inputs, x1, x2 = grid(5, config.resolution)
    neuron = models.linear(1)
    response = jax.nn.sigmoid(neuron.apply(NEURON, {}, inputs)[0])
    arrow = "$w$", np.array([[0, 0], NEURON["weight"][:, 0]])
    title = r"$y = \sigma(0.4 x_1 + 1.6 x_2)$ rises along its weight vector $w$ only"
    panel = surfaces.Surface(title, x1, x2, response.reshape(x1.shape), arrow=arrow, limits=(0.0, 1.0))
    run.save_figure("logistic_neuron", surfaces.surfaces([panel]))
    across = jnp.linspace(-3, 3, 13)[:, None] * jnp.array([1.6, -0.4])  # at right angles to the weight vector
    constant = jax.nn.sigmoid(neuron.apply(NEURON, {}, across)[0])
    return {
        "neuron_min": response.min(),
        "neuron_max": response.max(),
        "neuron_change_across": jnp.ptp(constant),
    }


def draw_three_units(config: Config, run: Run) -> dict:
    """Pages 7-8: three logistic units feed a linear one."""
    inputs, x1, x2 = grid(6, config.resolution)
    model = models.mlp([3], 1, activation=jax.nn.sigmoid)
    output = model.apply(deck.PRINTED_SURFACE, {}, inputs)[0].reshape(x1.shape)
    hidden = jax.nn.sigmoid(models.linear(3).apply(deck.PRINTED_SURFACE[0], {}, inputs)[0])
    first, last = deck.PRINTED_SURFACE
    terms, units = [], []
    for i, weight in enumerate(last["weight"][:, 0]):
        w1, w2 = first["weight"][:, i]
        terms.append(rf"{weight:+g}\,\sigma({w1:g} x_1 {w2:+g} x_2 {first['bias'][i]:+g})")
        units.append(surfaces.Surface(f"${terms[-1]}$", x1, x2, weight * hidden[:, i].reshape(x1.shape)))
    total = surfaces.Surface(f"$y = {' '.join(terms)}$", x1, x2, output)
    run.save_figure("three_units", surfaces.units_and_sum(total, units, deck.PRINTED_SURFACE))
    run.save_figure("boundary", plots.boundary(x1, x2, output, level=0, title="the boundary y = 0 is curved"))
    highest = inputs[output.argmax()]
    return {
        "three_units_max": output.max(),
        "three_units_max_x1": highest[0],
        "three_units_max_x2": highest[1],
        "three_units_min": output.min(),
        "three_units_boundary_bend": plots.level_bend(x1, x2, output, level=0.0),
    }


def draw_activations(config: Config, run: Run) -> dict:
    """Pages 6 and 9: activation functions and their derivatives, by jax.grad."""
    x = jnp.linspace(-5, 5, config.resolution)
    panels = {name: {name: (x, f(x)), "derivative": (x, jax.vmap(jax.grad(f))(x))} for name, f in ACTIVATIONS.items()}
    run.save_figure("activations", plots.lines(panels, xlabel="$x$", ylabel="$f(x)$, $f'(x)$"))
    for name, f in ACTIVATIONS.items():
        for point in (-1.0, 0.0, 1.0):
            run.log(activation=name, x=point, value=f(point), derivative=jax.grad(f)(point))
    x = jnp.linspace(-10, 10, config.resolution)
    slope = jax.grad(jax.nn.sigmoid)
    sigmoid = {"sigmoid": (x, jax.nn.sigmoid(x)), "derivative": (x, jax.vmap(slope)(x))}
    run.save_figure("sigmoid", plots.lines({"the sigmoid": sigmoid}, xlabel="$x$", ylabel="$\\sigma(x)$"))
    return {
        "sigmoid_slope_max": slope(0.0),
        "sigmoid_slope_at_10": slope(10.0),
        "relu_slope_at_0": jax.grad(jax.nn.relu)(0.0),
    }


def draw_net(config: Config, run: Run) -> dict:
    """Pages 8 and 10: a random net 2-3-3-2; without activation functions it is a linear neuron per output."""
    inputs, x1, x2 = grid(5, config.resolution)
    normal = jax.nn.initializers.normal(1.5)
    logistic = models.mlp([3, 3], 2, activation=ACTIVATIONS["logistic"], weight_init=normal)
    identity = models.mlp([3, 3], 2, activation=ACTIVATIONS["identity"], weight_init=normal)
    params, _ = logistic.init(jax.random.key(config.seed), inputs)
    outputs = logistic.apply(params, {}, inputs)[0]
    flat_outputs = identity.apply(params, {}, inputs)[0]  # of the same weights
    collapsed = models.linear(2).apply(models.collapse(params), {}, inputs)[0]
    panels = [
        surfaces.Surface(f"{title}, output {number}", x1, x2, values[:, number - 1].reshape(x1.shape))
        for title, values in (("logistic neurons", outputs), ("no activation function", flat_outputs))
        for number in (1, 2)
    ]
    run.save_figure("net_2_3_3_2", surfaces.surfaces(panels))
    run.save_figure("layers_2_3_3_2", net_diagrams.mlp([2, 3, 3, 2]))
    return {"collapse_error": jnp.abs(flat_outputs - collapsed).max()}


def main(config: Config, run: Run) -> dict:
    """Draws the pictures of pages 6 to 10."""
    summary = draw_neuron(config, run)
    summary |= draw_three_units(config, run)
    summary |= draw_activations(config, run)
    summary |= draw_net(config, run)
    return summary


if __name__ == "__main__":
    start(Config, main, quick=Config(resolution=41), x64=True)
