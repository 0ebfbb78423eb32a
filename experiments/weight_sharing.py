"""Fewer weights, and the right ones: a dense, a locally connected and a convolution layer on the same digits.

The deck (page 20) answers too many weights with fewer connections and with shared weights. Three nets differ in their
first layer only, each with 12x12x8 neurons: connected to all pixels; to 5x5 pixels each; or to 5x5 pixels by weights
that all places share. A fourth has as few weights as the third, but dense ones, and is trained five times as long.

Run:    make experiment NAME=weight_sharing

Expect: test accuracy (5 seeds, 25,000 images) 97.4 % ± 0.1 % dense, 97.1 % ± 0.1 % local, 97.4 % ± 0.1 % convolution,
        82 % ± 3 % small dense; of digits shifted to the right by 2 pixels 77 ± 1, 88 ± 1, 91 ± 1 and 53 ± 4 %

Time:   3 min 20 s
"""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from pydantic import Field
from pydantic.dataclasses import dataclass

from jaxnn import cnn, layers, losses, metrics, models, ops, training
from jaxnn.lab import datasets, plots
from jaxnn.lab.config import Count, DataDir, NumSeeds, Seed
from jaxnn.lab.run import Run, mean_and_sd
from jaxnn.lab.start import start

CONNECTIONS = {"features": 8, "kernel_size": (5, 5), "strides": 2, "padding": "VALID"}  # 28x28 pixels -> 12x12x8
FIRST_LAYERS = {
    "dense": nn.DenseGeneral((12, 12, 8), axis=(1, 2, 3)),
    "local": nn.ConvLocal(**CONNECTIONS, kernel_init=nn.initializers.lecun_normal(batch_axis=(0, 1))),
    "convolution": cnn.Conv(**CONNECTIONS),  # initial weights as large as the local ones: each neuron has 25 inputs
}
LEARNING_RATES = {"dense": 0.01, "local": 0.03, "convolution": 0.03, "small dense": 0.003}  # best on validation images
LENGTHS = {"small dense": 5}  # times as many steps
SHIFTS = range(5)  # pixels by which the test images are shifted to the right
TrainSize = Annotated[int, Field(ge=50, le=55_000)]


@dataclass(frozen=True)
class Config:
    """Trainings and tests."""

    train_sizes: Annotated[tuple[TrainSize, ...], Field(min_length=1)] = (1000, 5000, 25_000)  # images, drawn per seed
    num_steps: Count = 1000  # of each training, 50 images each; five times as many of the small dense net
    data_dir: DataDir = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: Seed = 0  # of the first net of each kind
    num_seeds: NumSeeds = 5  # nets of each kind and training size; the others take the seeds that follow


class Net(nn.Module):
    """The first layer, ReLU, 2x2 max pool, and a dense layer to the logits."""

    first: nn.Module

    @nn.compact
    def __call__(self, images, *, train):
        """The logits of images of pixels 0 ... 255."""
        pooled = ops.max_pool(nn.relu(self.first(images / 255)))
        return nn.Dense(10, kernel_init=layers.glorot_uniform)(pooled.reshape(len(images), -1))


MODELS = {name: cnn.from_flax(Net(first)) for name, first in FIRST_LAYERS.items()}
MODELS["small dense"] = models.preprocess(layers.flatten_pixels, models.mlp([4], 10))  # 3,190 weights, the last 3,098


def make_nets(config: Config, name: str):
    """Of a kind the model, the loss, the optimizer, and the nets of all seeds before the first step."""
    model, image = MODELS[name], jnp.zeros((1, 28, 28, 1), jnp.uint8)
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATES[name], config.num_steps * LENGTHS.get(name, 1)))
    init = jax.jit(jax.vmap(lambda key: training.init_train_state(key, model, optimizer, image)))
    nets = init(training.seed_keys(config.seed, config.num_seeds))
    return model, training.make_loss(model, losses.softmax_cross_entropy), optimizer, nets


@jax.jit(static_argnames=("config", "name", "size"))
def train_and_test(config: Config, name: str, size: int, data):
    """The nets of all seeds, each trained on `size` images of its own, and their test accuracies by shift."""
    model, loss_fn, optimizer, nets = make_nets(config, name)
    sizes = {"batch_size": 50, "num_steps": config.num_steps * LENGTHS.get(name, 1)}
    shifted = [jnp.pad(data.test.inputs, ((0, 0), (0, 0), (pixels, 0), (0, 0)))[:, :, :28] for pixels in SHIFTS]

    def train_net(net):
        own = jax.tree.map(lambda leaf: jax.random.permutation(jax.random.fold_in(net.key, 2), leaf)[:size], data.train)
        net, _ = training.train_steps(net, own, loss_fn, optimizer, **sizes)
        logits = jax.lax.map(lambda images: model.apply(net.params, net.state, images)[0], jnp.stack(shifted))
        return net, metrics.accuracies(logits, data.test.targets)

    return jax.lax.map(train_net, nets)


def compare_layers(run: Run, nets, images) -> dict:
    """The first layers as matrices, and how far they are from translation equivariance: an error of 0 is that."""
    summary, parts = {}, {}
    for name, first in FIRST_LAYERS.items():
        params, blank = nets[name]["first"], jnp.zeros((1, 28, 28, 1))
        layer = jax.tree_util.Partial(first.apply, {"params": params})
        matrix = np.asarray(jax.jacrev(layer)(blank)).reshape(-1, 28 * 28).T
        outputs, by_matrix = layer(images), images.reshape(-1, 28 * 28) @ matrix
        still, moved = outputs[:, :, :-1], layer(jnp.roll(images, 2, axis=2))[:, :, 1:]  # by the stride
        summary |= {
            f"{name}_matrix_error": jnp.abs(by_matrix.reshape(outputs.shape) + layer(blank) - outputs).max(),
            f"{name}_num_connections": np.count_nonzero(matrix),
            f"{name}_num_distinct": len(np.unique(matrix[matrix != 0])),
            f"{name}_num_weights": optax.tree.size(params),
            f"{name}_shift_error": jnp.linalg.norm(moved - still) / jnp.linalg.norm(still),
        }
        parts[name] = np.moveaxis(matrix.reshape(28, 28, 12, 12, 8)[10:14, :, 3:7, :, :2], 4, 2).reshape(112, 96)
    shown = {"num_columns": 3, "signed": True, "size": 3.0, "heading": "Weights: a row per pixel, a column per neuron"}
    run.save_figure("matrices", plots.image_grid([*parts.values()], [*parts], **shown))
    return summary


def summarize(run: Run, sizes, accuracies) -> dict:
    """Draws all test errors; returns means and differences seed by seed of nets with the most training images."""
    errors = {name: (sizes, 100 - 100 * values[..., 0].T) for name, values in accuracies.items()}
    panel = {"With few images, the right connections help": errors}
    run.save_figure("errors", plots.lines(panel, xlabel="training images", ylabel="test error (%)", log="xy"))
    panel = {"Shared weights know a digit elsewhere, too": {n: (SHIFTS, 100 * v[-1]) for n, v in accuracies.items()}}
    run.save_figure("shifted", plots.lines(panel, xlabel="shift to the right (pixels)", ylabel="test accuracy (%)"))
    summary, found = {}, {name.replace(" ", "_"): values[-1] for name, values in accuracies.items()}
    found |= {f"convolution_minus_{n}": found["convolution"] - found[n] for n in ("dense", "local", "small_dense")}
    for name, each in found.items():
        summary |= mean_and_sd(f"{name}_test_accuracy", each[:, 0])
        summary |= mean_and_sd(f"{name}_test_accuracy_shifted_2", each[:, 2])
    return summary


def main(config: Config, run: Run) -> dict:
    """Trains and tests all nets, and compares the first layers of those with the most training images."""
    data, sizes, nets = jax.device_put(datasets.mnist(config.data_dir)), sorted(config.train_sizes), {}
    run.record(data_sha256=datasets.SHA256["mnist"])
    for name in MODELS:
        chunks = run.chunks(make_nets(config, name)[-1], len(sizes), every=1, unit="training sizes", name=name)
        for number, _ in chunks:
            chunks.state, accuracies = train_and_test(config, name, sizes[number - 1], data)
            run.log_seeds(config.seed, net=name, train_size=sizes[number - 1], test_accuracies_by_shift=accuracies)
        nets[name] = jax.tree.map(lambda leaf: leaf[0], chunks.state.params)  # of the first seed
    rows = [row["test_accuracies_by_shift"] for row in run.read_log()]
    accuracies = dict(zip(MODELS, np.reshape(rows, (len(MODELS), len(sizes), config.num_seeds, -1)), strict=True))
    summary = {f"{name}_num_parameters".replace(" ", "_"): optax.tree.size(net) for name, net in nets.items()}
    summary |= {"num_seeds": config.num_seeds, "train_size": sizes[-1]} | summarize(run, sizes, accuracies)
    return summary | compare_layers(run, nets, data.test.inputs[:1000] / 255)


if __name__ == "__main__":
    start(Config, main, quick=Config((1000,), num_steps=10, num_seeds=2), resumable=True)
