"""Back-propagation by hand: the Δ equations of the deck, beside jax.grad.

The deck (pages 15-16) sends the derivatives Δ back through a network, layer by layer, and takes from them the gradients
of all weights. Here that is done for one example, drawn, and for whole trainings: the nets trained by hand and by
jax.grad are the same.

Run:    make experiment NAME=backpropagation

Expect: gradients equal to 3e-15, parameters after 3,000 steps to 2e-15; the loss falls from 0.270 to 0.025 (1 seed)

Time:   9 s
"""

import itertools
from dataclasses import dataclass
from typing import Literal

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax import lax  # noqa: E402

from jaxnn import backprop, losses, models  # noqa: E402
from jaxnn.data import batch_indices  # noqa: E402
from jaxnn.lab import plots  # noqa: E402
from jaxnn.lab.config import require, require_seeds  # noqa: E402
from jaxnn.lab.run import Run, RunFailedError, start  # noqa: E402

ACTIVATIONS = {
    "identity": backprop.IDENTITY,
    "logistic": backprop.LOGISTIC,
    "tanh": backprop.TANH,
    "relu": backprop.RELU,
}


@dataclass(frozen=True)
class Config:
    """The net and its training."""

    hidden_sizes: tuple[int, ...] = (3, 3)  # neurons of the hidden layers; with two inputs and outputs: 2-3-3-2
    activation: Literal["identity", "logistic", "tanh", "relu"] = "tanh"  # of the hidden layers
    num_layers: int = 5  # nets of one to so many layers are compared with jax.grad
    num_points: int = 200  # examples of (x1, x2) -> (x1 x2, x1^2 - x2^2)
    batch_size: int = 20  # of mini-batch gradient descent
    learning_rate: float = 0.1  # of the training
    num_steps: int = 3000  # of the training
    seed: int = 0  # of points, weights and batches

    def __post_init__(self):
        """Refuses what cannot be."""
        require(self, "hidden_sizes", all(1 <= size <= 100 for size in self.hidden_sizes), "in 1 ... 100")
        require(self, "num_layers", 1 <= self.num_layers <= 5, "in 1 ... 5")
        require(self, "num_points", 1 <= self.num_points <= 1_000_000, "in 1 ... 1000000")
        require(self, "batch_size", 1 <= self.batch_size <= self.num_points, f"in 1 ... {self.num_points}")
        require(self, "learning_rate", 0 < self.learning_rate < float("inf"), "finite and above 0")
        require(self, "num_steps", 1 <= self.num_steps <= 1_000_000, "in 1 ... 1000000")
        require_seeds(self)


def main(config: Config, run: Run) -> dict:
    """One example, all kinds of net, a training."""
    points_key, params_key, order_key, nets_key = jax.random.split(jax.random.key(config.seed), 4)
    x = jax.random.uniform(points_key, (config.num_points, 2), minval=-1, maxval=1)
    y = jnp.stack([x[:, 0] * x[:, 1], x[:, 0] ** 2 - x[:, 1] ** 2], axis=1)
    activation = ACTIVATIONS[config.activation]
    model = models.mlp(config.hidden_sizes, 2, activation=activation.f)
    params, _ = model.init(params_key, x)
    draw_one_example(run, params, x[:1], y[:1], activation)
    return compare_gradients(config, run, nets_key) | train(config, run, order_key, model, params, x, y)


def by_hand(params, x, y, activation):
    """The gradient of the mean of ½‖y - yᵗ‖² by the deck's equations."""
    outputs, layers = backprop.forward(params, x, activation=activation)
    found = backprop.deltas(params, layers, backprop.squared_error_gradient(outputs, y))
    return backprop.gradients(layers, found)


def draw_one_example(run: Run, params, x, y, activation):
    """Page 15: the Δ of every neuron and the gradient of every weight, for one example."""
    outputs, layers = backprop.forward(params, x, activation=activation)
    found = backprop.deltas(params, layers, backprop.squared_error_gradient(outputs, y))
    slopes = backprop.gradients(layers, found)
    neurons = [np.asarray(delta[0]) for delta in found]
    edges = [np.asarray(layer["weight"]) for layer in slopes]
    figure = plots.network(neurons, edges, title="Δ of each neuron, gradient of each weight, one example")
    run.save_figure("deltas", figure)


def compare_gradients(config: Config, run: Run, key) -> dict:
    """By hand against jax.grad: four activations, nets of several depths, both losses."""
    inputs_key, params_key = jax.random.split(key)
    x = jax.random.normal(inputs_key, (7, 4))
    y, labels = jnp.sin(x[:, :3]), jnp.arange(7) % 3
    kinds = {
        "squared error": (
            lambda outputs: losses.squared_error(outputs, y) / 2,
            lambda outputs: backprop.squared_error_gradient(outputs, y),
        ),
        "cross-entropy": (
            lambda logits: losses.softmax_cross_entropy(logits, labels),
            lambda logits: backprop.softmax_cross_entropy_gradient(logits, labels),
        ),
    }
    found = []
    for (name, activation), depth in itertools.product(ACTIVATIONS.items(), range(1, config.num_layers + 1)):
        model = models.mlp([5, 3, 6, 4][: depth - 1], 3, activation=activation.f)

        @jax.jit
        def both(params, model=model, activation=activation):
            outputs, layers = backprop.forward(params, x, activation=activation)
            hand, auto = {}, {}
            for kind, (loss, output_gradient) in kinds.items():
                hand[kind] = backprop.gradients(layers, backprop.deltas(params, layers, output_gradient(outputs)))
                auto[kind] = jax.grad(lambda params, loss=loss: loss(model.apply(params, {}, x)[0]).mean())(params)
            return hand, auto

        hand, auto = both(model.init(params_key, x)[0])
        for kind in kinds:
            found.append(largest_difference(hand[kind], auto[kind]))
            run.log(activation=name, layers=depth, loss=kind, largest_difference=found[-1])
    return {"gradient_difference": max(found)}


def largest_difference(left, right) -> float:
    """Between two pytrees of arrays."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return max(jnp.abs(a - b).max().item() for a, b in pairs)


def train(config: Config, run: Run, key, model, params, x, y) -> dict:
    """The same mini-batch training by hand and by jax.grad; loss and norms of the gradient, layer by layer."""
    activation = ACTIVATIONS[config.activation]
    sizes = {"num_examples": config.num_points, "batch_size": config.batch_size, "num_steps": config.num_steps}
    batches = batch_indices(key, 0, **sizes)

    def loss(params, x, y):
        return losses.squared_error(model.apply(params, {}, x)[0], y).mean() / 2

    def run_training(gradient):
        def take_step(params, batch):
            slopes = gradient(params, x[batch], y[batch])
            norms = jnp.stack([jnp.linalg.norm(layer["weight"]) for layer in gradient(params, x, y)])
            updated = backprop.update(params, slopes, learning_rate=config.learning_rate)
            return updated, (loss(params, x, y), norms)

        return jax.jit(lambda params: lax.scan(take_step, params, batches))(params)

    hand, (course, norms) = run_training(lambda params, x, y: by_hand(params, x, y, activation))
    auto, _ = run_training(jax.grad(loss))
    end = loss(hand, x, y)
    if not jnp.isfinite(jnp.append(course, end)).all():
        raise RunFailedError(f"the training diverged: give a --learning-rate below {config.learning_rate:g}")
    steps = np.arange(config.num_steps)
    panels = {
        "½ ‖y - yᵗ‖², all examples": {"loss": (steps, course)},
        "norm of the weights' gradient, all examples": {
            f"layer {k}": (steps, norm) for k, norm in enumerate(norms.T, 1)
        },
    }
    run.save_figure("training", plots.lines(panels, xlabel="step", log="y"))
    return {
        "training_difference": largest_difference(hand, auto),
        "loss_at_start": course[0].item(),
        "loss_at_end": end.item(),
        "num_steps": config.num_steps,
    }


if __name__ == "__main__":
    start(Config, main, quick=Config(num_steps=100, num_layers=2))
