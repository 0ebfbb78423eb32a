"""Fewer weights, and the right ones: a dense, a locally connected and a convolution layer on the same digits.

The deck (page 20) answers too many weights with fewer connections and with shared weights. Here three nets differ in
their first layer only, each with the same 12x12x8 neurons: connected to all pixels; to 5x5 pixels each; and to 5x5
pixels by weights that all places share. A fourth has as few weights as the last, but all of them in a dense layer;
it learns slowly, and so for five times as many steps. The steps are as many whatever the number of training images.

Run:    make experiment NAME=weight_sharing

Expect: test accuracy (5 seeds, 25,000 images) 97.37 % ± 0.07 % dense, 97.19 % ± 0.18 % local, 97.4 % ± 0.3 %
        convolution, 83 % ± 4 % small dense; of digits shifted by 2 pixels 77 ± 1, 85 ± 1, 88 ± 1 and 51 ± 8 %

Time:   2 min 15 s
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import lax

from jaxnn import cnn, losses, metrics, models, ops, training
from jaxnn.lab import datasets, plots
from jaxnn.lab.config import require, require_seeds
from jaxnn.lab.run import Run, mean_and_sd, start
from jaxnn.layers import dense, init_dense
from jaxnn.types import Batch

KERNEL, STRIDE, SIZE, CHANNELS = 5, 2, 12, 8  # 28x28 pixels -> 12x12 places with 8 neurons each
FIRST_LAYERS = {
    "dense": nn.DenseGeneral((SIZE, SIZE, CHANNELS), axis=(1, 2, 3)),
    "local": nn.ConvLocal(
        CHANNELS,
        (KERNEL, KERNEL),
        strides=STRIDE,
        padding="VALID",
        # as large as those of the convolution: by default, Flax takes all places for inputs of each neuron
        kernel_init=nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", batch_axis=(0, 1)),
    ),
    "convolution": cnn.Conv(CHANNELS, (KERNEL, KERNEL), strides=STRIDE, padding="VALID"),
}
NUM_FIRST = {  # weights and biases of the first layers
    "dense": (28 * 28 + 1) * SIZE**2 * CHANNELS,
    "local": (KERNEL**2 + 1) * SIZE**2 * CHANNELS,
    "convolution": (KERNEL**2 + 1) * CHANNELS,
}
LEARNING_RATES = {  # of Adam, at the start; the best of 0.001, 0.003 ... by validation accuracy, of the largest size
    "dense": 0.01,
    "local": 0.03,
    "convolution": 0.03,
    "small dense": 0.003,
}
SMALL = "small dense"
TIMES_AS_LONG = 5  # it is trained
NUM_SMALL = 4  # its hidden neurons: 3,190 weights and biases, where the net with the convolution has 3,098


@dataclass(frozen=True)
class Config:
    """Trainings and tests."""

    train_sizes: tuple[int, ...] = (1000, 5000, 25_000)  # images that the nets are trained on, drawn for each seed
    num_steps: int = 1000  # of each training, 50 images each; five times as many of the small dense net
    max_shift: int = 4  # test images are shifted by up to so many pixels
    data_dir: Path | None = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: int = 0  # of the first net of each kind
    num_seeds: int = 5  # nets of each kind and training size; the others take the seeds that follow

    def __post_init__(self):
        """Refuses what cannot be."""
        sizes = self.train_sizes
        fits = bool(sizes) and all(50 <= size <= 55_000 for size in sizes) and list(sizes) == sorted(set(sizes))
        require(self, "train_sizes", fits, "in 50 ... 55000, rising, at least one")
        require(self, "num_steps", 1 <= self.num_steps <= 100_000, "in 1 ... 100000")
        require(self, "max_shift", 2 <= self.max_shift <= 14, "in 2 ... 14")
        require_seeds(self, most=100)


def make_model(first: nn.Module) -> models.Model:
    """The first layer, ReLU, 2x2 max pool, and a dense layer to the logits."""

    def init(key, images):
        first_key, last_key = jax.random.split(key)
        last = init_dense(last_key, (SIZE // 2) ** 2 * CHANNELS, 10)
        return {"first": first.init(first_key, images)["params"], "last": last}, {}

    def apply(params, state, images, key=None):
        maps = jnp.asarray(first.apply({"params": params["first"]}, images))
        pooled = ops.max_pool(jax.nn.relu(maps))
        return dense(params["last"], pooled.reshape(len(images), -1)), state

    return models.Model(init, apply)


def make_small() -> models.Model:
    """A net 784-4-10."""
    small = models.mlp([NUM_SMALL], 10)
    return models.Model(
        lambda key, images: small.init(key, flat(images)),
        lambda params, state, images, key=None: small.apply(params, state, flat(images), key),
    )


def flat(images):
    """Images [number, 28, 28, 1] as [number, 784]."""
    return images.reshape(len(images), -1)


MODELS = {name: make_model(first) for name, first in FIRST_LAYERS.items()} | {SMALL: make_small()}


def scale(images):
    """Pixels from 0 ... 255 to 0 ... 1."""
    return images / 255


def train_nets(config: Config, name: str, train: Batch, seeds, train_size: int):
    """The nets of all seeds, one after the other in one program, each on images of its own."""
    model = MODELS[name]
    num_steps = config.num_steps * (TIMES_AS_LONG if name == SMALL else 1)
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATES[name], num_steps))

    def loss_fn(params, state, batch, keys):
        logits, state = model.apply(params, state, scale(batch.inputs), keys)
        return losses.softmax_cross_entropy(logits, batch.targets), state

    @jax.jit
    def program(keys, train):
        def train_net(key):
            images_key, net_key = jax.random.split(key)
            drawn = jax.random.permutation(images_key, len(train.targets))[:train_size]
            own = jax.tree.map(lambda leaf: leaf[drawn], train)
            net = training.init_train_state(net_key, model, optimizer, scale(own.inputs[:1]))
            settings = {"optimizer": optimizer, "batch_size": 50, "num_steps": num_steps}
            return training.train_steps(net, own, loss_fn=loss_fn, **settings)[0].params

        return lax.map(train_net, keys)

    return jax.block_until_ready(program(jax.vmap(jax.random.key)(seeds), train))


@functools.partial(jax.jit, static_argnames="name")
def accuracies_of_nets(name: str, nets, test: Batch):
    """On all test images, of each net."""

    def accuracy(params):
        predict = lambda images: MODELS[name].apply(params, {}, scale(images))[0]  # noqa: E731
        return metrics.accuracy(training.map_batches(predict, test.inputs, batch_size=500), test.targets)

    return lax.map(accuracy, nets)


def accuracies_when_shifted(name: str, nets, test: Batch, pixels) -> np.ndarray:
    """The accuracy [seeds, len(pixels)] on all test images, moved by so many pixels: the mean of down and right."""

    def mean_over_directions(distance):
        moves = {(distance, 0), (0, distance)}  # one of them where the distance is 0
        shifted = (test._replace(inputs=shift(test.inputs, *move)) for move in moves)
        return np.mean([accuracies_of_nets(name, nets, batch) for batch in shifted], axis=0)

    return np.stack([mean_over_directions(distance) for distance in pixels], axis=1)


def shift(images, down: int, right: int):
    """Images moved by whole pixels; what comes in is 0."""
    return jnp.pad(images, ((0, 0), (down, 0), (right, 0), (0, 0)))[:, :28, :28]


def main(config: Config, run: Run) -> dict:
    """Trains all nets, tests them, and shows the dense layer that the convolution amounts to."""
    data = jax.device_put(datasets.mnist(config.data_dir))
    run.record(data_sha256=datasets.SHA256["mnist"])
    seeds = jnp.arange(config.seed, config.seed + config.num_seeds)
    trainings = [(name, size) for size in config.train_sizes for name in MODELS]
    params_of = {}
    with run.progress(len(trainings) * config.num_seeds, unit="nets") as report:
        for number, (name, size) in enumerate(trainings, 1):
            run.say(f"{config.num_seeds} nets, {name}, {size:,} images")
            params_of[name, size] = train_nets(config, name, data.train, seeds, size)
            report(number * config.num_seeds)
    run.say("testing")
    found = {}
    for (name, size), params in params_of.items():
        pixels = range(config.max_shift + 1 if size == config.train_sizes[-1] else 1)
        found[name, size] = accuracies_when_shifted(name, params, data.test, pixels)
        for seed, row in zip(seeds.tolist(), found[name, size], strict=True):
            run.log(net=name, train_size=size, seed=seed, test_accuracies_by_shift=row.tolist())
    params_of = {name: params_of[name, config.train_sizes[-1]] for name in MODELS}
    draw_accuracies(config, run, found)
    return summarize(config, found, params_of) | compare_layers(run, params_of, data.test)


def draw_accuracies(config: Config, run: Run, found):
    """Against the number of training images, and against the shift of the test images."""
    sizes, names = config.train_sizes, [*FIRST_LAYERS, SMALL]
    by_size = {name: (sizes, np.stack([1 - found[name, size][:, 0] for size in sizes], axis=1)) for name in names}
    by_shift = {name: (range(config.max_shift + 1), found[name, sizes[-1]]) for name in names}
    figure = plots.lines({"test error": by_size}, xlabel="training images", log="xy")
    run.save_figure("errors", figure)
    title = f"test accuracy, {sizes[-1]:,} training images"
    run.save_figure("shifted", plots.lines({title: by_shift}, xlabel="pixels by which the digits are shifted"))


def summarize(config: Config, found, params_of) -> dict:
    """Of the nets with the most training images: sizes, accuracies, and their differences seed by seed."""
    largest = config.train_sizes[-1]
    summary: dict[str, int | float | None] = {"num_seeds": config.num_seeds, "train_size": largest}
    accuracies = {name.replace(" ", "_"): found[name, largest] for name in params_of}
    for name, params in zip(accuracies, params_of.values(), strict=True):
        summary[f"{name}_num_parameters"] = sum(leaf[0].size for leaf in jax.tree.leaves(params))
    others = [name for name in accuracies if name != "convolution"]
    accuracies |= {f"convolution_minus_{name}": accuracies["convolution"] - accuracies[name] for name in others}
    for name, values in accuracies.items():
        for pixels in (0, 2):
            key = f"{name}_test_accuracy" + (f"_shifted_{pixels}" if pixels else "")
            summary |= mean_and_sd(key, values[:, pixels])
    return summary


def compare_layers(run: Run, params_of, test: Batch) -> dict:
    """The first net's first layers: as matrices, and on digits that are shifted by the stride."""
    pixels = jnp.eye(28 * 28).reshape(-1, 28, 28, 1)
    images = scale(test.inputs[:1000])
    summary, matrices = {}, {}
    for name, first in FIRST_LAYERS.items():
        params = jax.tree.map(lambda leaf: leaf[0], params_of[name]["first"])
        linear = {**params, "bias": jnp.zeros_like(params["bias"])}
        apply = jax.jit(lambda params, images, first=first: first.apply({"params": params}, images))
        matrix = apply(linear, pixels).reshape(28 * 28, -1)
        outputs = apply(params, images)
        by_matrix = (flat(images) @ matrix).reshape(outputs.shape) + params["bias"]
        summary[f"{name}_matrix_error"] = jnp.abs(by_matrix - outputs).max().item()
        summary[f"{name}_num_connections"] = jnp.sum(matrix != 0).item()
        summary[f"{name}_num_distinct"] = len(np.unique(matrix[matrix != 0]))
        summary[f"{name}_num_weights"] = NUM_FIRST[name]
        assert NUM_FIRST[name] == sum(leaf.size for leaf in jax.tree.leaves(params))
        moved = apply(params, shift(images, 0, STRIDE))[:, :, 1:] - outputs[:, :, :-1]
        summary[f"{name}_shift_error"] = (jnp.linalg.norm(moved) / jnp.linalg.norm(outputs[:, :, :-1])).item()
        part = matrix.reshape(28, 28, SIZE, SIZE, CHANNELS)[10:14, :, 3:7, :, 0]  # of the middle, and of one channel
        matrices[name] = part.reshape(4 * 28, 4 * SIZE)
    titles = [f"{name}: weights from\n112 pixels (rows) to 48 neurons" for name in matrices]
    run.save_figure("matrices", plots.image_grid(list(matrices.values()), titles, num_columns=3, signed=True, size=3))
    return summary


if __name__ == "__main__":
    start(Config, main, quick=Config(train_sizes=(1000,), num_steps=40, num_seeds=2, max_shift=2))
