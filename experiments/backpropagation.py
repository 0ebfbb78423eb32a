"""Back-propagation by hand: the Δ equations of the deck, beside jax.grad.

The deck (pages 15-16) sends the derivatives Δ back through a network, layer by layer, and takes from them the gradients
of all weights. Here they are drawn for one example; and a whole training by hand ends at the same net as with jax.grad.

Run:    make experiment NAME=backpropagation

Expect: gradients equal to 3e-15, parameters after 3,000 steps to 2e-15; the loss falls from 0.270 to 0.025 (1 seed)

Time:   9 s
"""

import functools
import itertools
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from pydantic import Field
from pydantic.dataclasses import dataclass

from jaxnn import backprop, losses, models
from jaxnn.data import batch_indices
from jaxnn.lab import net_diagrams, plots
from jaxnn.lab.config import Count, Rate, Seed
from jaxnn.lab.run import Run, RunFailedError
from jaxnn.lab.start import start

NUM_POINTS = 200  # examples of (x1, x2) -> (x1 x2, x1^2 - x2^2)
ACTIVATIONS = {name: getattr(backprop, name.upper()) for name in ("identity", "logistic", "tanh", "relu")}


@dataclass(frozen=True)
class Config:
    """The net and its training."""

    hidden_sizes: tuple[Annotated[int, Field(ge=1, le=100)], ...] = (3, 3)  # of the net from 2 inputs to 2 outputs
    activation: Literal["identity", "logistic", "tanh", "relu"] = "tanh"  # of the hidden layers
    num_layers: Annotated[int, Field(ge=1, le=5)] = 5  # gradients of nets of 1 up to so many layers are compared
    batch_size: Annotated[int, Field(ge=1, le=NUM_POINTS)] = 20  # of mini-batch gradient descent
    learning_rate: Rate = 0.1  # of the training
    num_steps: Count = 3000  # of the training
    seed: Seed = 0  # of points, weights and batches


def half_squared_error(outputs, targets):
    """½ ‖y - yᵗ‖², to which the deck's Δ belongs."""
    return losses.squared_error(outputs, targets) / 2


def back_propagate(params, x, targets, activation, output_gradient=backprop.squared_error_gradient):
    """The deck's equations: what each layer saw, its Δ, and the gradient of its weights, the mean over the examples."""
    outputs, layers = backprop.forward(params, x, activation=activation)
    deltas = backprop.deltas(params, layers, output_gradient(outputs, targets))
    return layers, deltas, backprop.gradients(layers, deltas)


def draw_one_example(run: Run, params, x, y, activation):
    """Page 15: the first example forwards, the Δ of every neuron backwards, the gradient of every weight."""
    layers, deltas, gradients = back_propagate(params, x[:1], y[:1], activation)
    activities = [*(layer.x[0] for layer in layers), layers[-1].v[0]]  # the outputs have no activation function
    deltas = [delta[0] for delta in deltas]
    run.save_figure("deltas", net_diagrams.back_propagation(activities, params, y[0], deltas, gradients))


def compare_gradients(config: Config, run: Run, key) -> dict:
    """By hand against jax.grad: four activation functions, nets of several depths, both losses."""
    inputs_key, params_key = jax.random.split(key)
    x = jax.random.normal(inputs_key, (7, 4))
    loss_functions = {  # its name: the loss, its derivative by the outputs, the targets
        "squared error": (half_squared_error, backprop.squared_error_gradient, jnp.sin(x[:, :3])),
        "cross-entropy": (losses.softmax_cross_entropy, backprop.softmax_cross_entropy_gradient, jnp.arange(7) % 3),
    }

    @jax.jit(static_argnames=("model", "activation", "loss_name"))
    def find_difference(params, model, activation, loss_name):
        loss, output_gradient, targets = loss_functions[loss_name]
        *_, by_hand = back_propagate(params, x, targets, activation, output_gradient)
        automatic = jax.grad(lambda params: loss(model.apply(params, {}, x)[0], targets).mean())(params)
        return largest_difference(by_hand, automatic)

    differences = []
    for (name, activation), depth in itertools.product(ACTIVATIONS.items(), range(1, config.num_layers + 1)):
        model = models.mlp([5, 3, 6, 4][: depth - 1], 3, activation=activation.f)
        params, _ = model.init(params_key, x)
        for loss_name in loss_functions:
            difference = find_difference(params, model, activation, loss_name)
            run.log(activation=name, layers=depth, loss=loss_name, largest_difference=difference)
            differences.append(difference)
    return {"gradient_difference": max(differences)}


def largest_difference(left, right):
    """The largest absolute difference between two pytrees of arrays."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return jnp.stack([jnp.abs(a - b).max() for a, b in pairs]).max()


def train(config: Config, run: Run, key, model: models.Model, params, x, y) -> dict:
    """The same mini-batch training by hand and by jax.grad. Draws the loss, and the gradient's norm in each layer."""
    sizes = {"num_examples": NUM_POINTS, "batch_size": config.batch_size, "num_steps": config.num_steps}

    def mean_loss(params, x, y):
        return half_squared_error(model.apply(params, {}, x)[0], y).mean()

    def by_hand(params, x, y):
        return back_propagate(params, x, y, ACTIVATIONS[config.activation])[-1]

    @jax.jit(static_argnames="gradient")
    def train_with(gradient, params):
        def take_step(params, batch):
            norms = jnp.stack([jnp.linalg.norm(layer["weight"]) for layer in gradient(params, x, y)])
            new = backprop.update(params, gradient(params, x[batch], y[batch]), learning_rate=config.learning_rate)
            return new, (mean_loss(params, x, y), norms)

        return lax.scan(take_step, params, batch_indices(key, 0, **sizes))

    trained, (curve, norms) = train_with(by_hand, params)
    trained_by_jax, _ = train_with(jax.grad(mean_loss), params)
    loss_at_end = mean_loss(trained, x, y)
    if not jnp.isfinite(jnp.append(curve, loss_at_end)).all():
        raise RunFailedError(f"the training diverged: give a --learning-rate below {config.learning_rate:g}")
    summary = {"training_difference": largest_difference(trained, trained_by_jax), "loss_at_start": curve[0]}
    width = max(1, config.num_steps // 30)  # single steps jump up and down: drawn are means over so many
    steps, smooth = np.arange(len(curve)), functools.partial(np.convolve, np.full(width, 1 / width), mode="valid")
    norms = {f"layer {number}": (smooth(steps), smooth(norm)) for number, norm in enumerate(norms.T, 1)}
    title = f"norm of the weights' gradient, means over {width} steps"
    panels = {"½ ‖y - yᵗ‖², all examples": {"loss": (steps, curve)}, title: norms}
    run.save_figure("training", plots.lines(panels, xlabel="step", ylabel=("loss", "norm"), log="y"))
    return summary | {"loss_at_end": loss_at_end, "num_steps": config.num_steps}


def main(config: Config, run: Run) -> dict:
    """One example drawn, then the gradients of many nets and one training, each beside jax.grad."""
    points_key, params_key, order_key, nets_key = jax.random.split(jax.random.key(config.seed), 4)
    x = jax.random.uniform(points_key, (NUM_POINTS, 2), minval=-1, maxval=1)
    y = jnp.stack([x[:, 0] * x[:, 1], x[:, 0] ** 2 - x[:, 1] ** 2], axis=1)
    activation = ACTIVATIONS[config.activation]
    model = models.mlp(config.hidden_sizes, 2, activation=activation.f)
    params, _ = model.init(params_key, x)
    draw_one_example(run, params, x, y, activation)
    return compare_gradients(config, run, nets_key) | train(config, run, order_key, model, params, x, y)


if __name__ == "__main__":
    start(Config, main, quick=Config(num_layers=2, num_steps=100), x64=True)
