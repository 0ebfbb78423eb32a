"""What a trained convolutional network sees: its kernels, its maps, and where in an image the decision comes from.

The deck (page 19) shows a CNN as layers of feature maps. Here those of a net that has learned to read digits are drawn:
of the run of mnist_cnn that --run names, or of one trained for this in seconds. They are shown at work on images that
the net has not learned from; with --patience, though, these have chosen when it stopped.

Run:    make experiment NAME=feature_maps

Expect: validation accuracy 98.84 % (1 net, seed 0); five neighbours tell 94.4 % of the digits by their pixels, 99.0 %
        by the last hidden layer; the first maps equal SciPy's to 4e-7

Time:   30 s
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.signal
from flax import linen as nn
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsClassifier

from jaxnn import cnn, losses, metrics, training
from jaxnn.lab import datasets, plots, run
from jaxnn.lab.checkpoint import CheckpointError
from jaxnn.lab.config import BadUsageError, require, require_seeds
from jaxnn.types import Batch

NUM_PATCHES = 8  # of each filter, those that it responds to most
OCCLUDED = 7  # width of the square that hides a part of the image


@dataclass(frozen=True)
class Config:
    """The net and the images."""

    run: Path | None = None  # folder of a run of mnist_cnn, whose first net is looked into; None: one is trained here
    num_steps: int = 1100  # of the training where none is given, 50 images each
    num_images: int = 5000  # validation images that are looked at
    num_embedded: int = 1500  # of these, so many are drawn as points
    data_dir: Path | None = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: int = 0  # of the net that is trained here, and of the embedding

    def __post_init__(self):
        """Refuses what cannot be."""
        require(self, "num_steps", 1 <= self.num_steps <= 100_000, "in 1 ... 100000")
        require(self, "num_images", 200 <= self.num_images <= 5000, "in 200 ... 5000")
        fits = 100 <= self.num_embedded <= self.num_images
        require(self, "num_embedded", fits, f"in 100 ... --num-images {self.num_images}")
        require_seeds(self)


def load_net(folder: Path):
    """The module of a run of mnist_cnn, the variables of its first net that is left, the images that it held out."""
    try:
        config, nets = run.load(folder)
    except CheckpointError as error:
        raise BadUsageError(f"--run: {error}") from error
    if (config.experiment, config.dataset) != ("mnist_cnn", "mnist"):
        raise BadUsageError(f"--run: {folder} is no run of mnist_cnn on mnist")
    if nets.failed.all():
        raise BadUsageError(f"--run: all nets of {folder} diverged, there is none to look into")
    module = cnn.CNN(config.channels, hidden_size=config.hidden_size, batch_norm=config.batch_norm)
    first = int(np.argmin(nets.failed))
    params, state = jax.tree.map(lambda leaf: leaf[first], (nets.params, nets.state))
    return module, {"params": params, **state}, config.num_validation


def train_net(config: Config, train: Batch):
    """A small CNN and its variables after a short training."""
    module = cnn.CNN(channels=(12, 24), hidden_size=64)
    model, optimizer = cnn.from_flax(module), optax.adam(optax.cosine_onecycle_schedule(config.num_steps, 0.005))

    def loss_fn(params, state, batch, keys):
        logits, state = model.apply(params, state, scale(batch.inputs), keys)
        return losses.softmax_cross_entropy(logits, batch.targets), state

    @jax.jit
    def program(key, train):
        net = training.init_train_state(key, model, optimizer, scale(train.inputs[:1]))
        settings = {"optimizer": optimizer, "batch_size": 50, "num_steps": config.num_steps}
        return training.train_steps(net, train, loss_fn=loss_fn, **settings)[0]

    net = program(jax.random.key(config.seed), train)
    return module, {"params": net.params, **net.state}


def scale(images):
    """Pixels from 0 ... 255 to 0 ... 1."""
    return images / 255


def look_inside(module: nn.Module, variables, images):
    """The logits, and what each layer by its name gives out."""
    logits, seen = module.apply(variables, images, train=False, capture_intermediates=True, mutable=["intermediates"])
    return logits, {
        name: outputs["__call__"][0] for name, outputs in seen["intermediates"].items() if name != "__call__"
    }


def main(config: Config, this: run.Run) -> dict:
    """Draws kernels, maps, patches, reasons and the embedding of the last layer."""
    this.record(data_sha256=datasets.SHA256["mnist"])
    if config.run is None:
        this.say(f"training a net for {config.num_steps:,} steps")
        data = datasets.mnist(config.data_dir)
        module, variables = train_net(config, jax.device_put(data.train))
    else:
        module, variables, num_validation = load_net(config.run)
        data = datasets.mnist(config.data_dir, num_validation=num_validation)
    if config.num_images > len(data.validation.targets):
        few = f"{config.run} held out {len(data.validation.targets)} images that its nets have not learned from"
        raise BadUsageError(f"--num-images {config.num_images} are too many: {few}")
    images = scale(jnp.asarray(data.validation.inputs[: config.num_images]))
    labels = data.validation.targets[: config.num_images]
    logits, layers = jax.jit(look_inside, static_argnums=0)(module, variables, images)
    shown = [int(np.argmax(labels == digit)) for digit in range(10)]  # the first image of each digit
    draw_kernels(this, variables["params"])
    draw_maps(this, images, layers, shown)
    draw_patches(this, images, layers)
    draw_reasons(this, module, variables, images[jnp.array(shown)])
    summary = {"run": config.run and str(config.run), "validation_accuracy": metrics.accuracy(logits, labels).item()}
    summary |= compare_with_scipy(variables["params"]["Conv_0"], images[0], layers["Conv_0"][0])
    return summary | embed(config, this, images, hidden_neurons(module, layers), labels)


def draw_kernels(this: run.Run, params):
    """The first layer's, red where ink excites, blue where it inhibits."""
    kernels = np.moveaxis(params["Conv_0"]["kernel"][:, :, 0], -1, 0)
    titles = [f"filter {number}" for number in range(1, len(kernels) + 1)]
    this.save_figure("kernels", plots.image_grid(kernels, titles, num_columns=12, signed=True))


def draw_maps(this: run.Run, images, layers, shown):
    """Of four digits, the first maps of both convolutions."""
    for number, name in enumerate(("Conv_0", "Conv_1"), 1):
        maps = layers[name][..., :11]
        pictures, titles = [], []
        for index in (shown[digit] for digit in (2, 4, 7, 8)):
            pictures += [images[index], *np.moveaxis(maps[index], -1, 0)]
            titles += ["digit", *(f"map {channel}" for channel in range(1, maps.shape[-1] + 1))]
        figure = plots.image_grid(pictures, titles, num_columns=1 + maps.shape[-1], signed=True)
        this.save_figure(f"maps_{number}", figure)


def draw_patches(this: run.Run, images, layers):
    """Of ten filters of each convolution, the parts of images to which they respond most."""
    for number, (name, size, stride) in enumerate((("Conv_0", 5, 1), ("Conv_1", 10, 2)), 1):
        maps = np.asarray(layers[name])[..., :10]  # [images, rows, columns, filters]
        pictures, titles = [], []
        for channel, responses in enumerate(np.moveaxis(maps, -1, 0), 1):
            strongest = np.argsort(-responses.max(axis=(1, 2)))[:NUM_PATCHES]
            for index in strongest:
                row, column = stride * np.array(np.unravel_index(responses[index].argmax(), responses[index].shape))
                pictures.append(images[index, row : row + size, column : column + size])
            pictures.append(np.zeros((size, size)))  # a gap between two filters
            titles += [f"filter {channel}", *[""] * NUM_PATCHES]
        this.save_figure(f"patches_{number}", plots.image_grid(pictures, titles, num_columns=2 * (NUM_PATCHES + 1)))


def draw_reasons(this: run.Run, module: nn.Module, variables, images):
    """By how much the log-probability of what is read falls where a square hides the image; and ink x gradient."""

    @jax.jit
    def log_probs(images):
        return jax.nn.log_softmax(jnp.asarray(module.apply(variables, images, train=False)))

    logits = log_probs(images)
    digits = logits.argmax(axis=-1)
    gradients = jax.grad(lambda images: jnp.take_along_axis(log_probs(images), digits[:, None], axis=1).sum())(images)
    corners = np.stack(np.meshgrid(*[np.arange(29 - OCCLUDED)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    inside = (np.arange(28) >= corners[..., None]) & (np.arange(28) < corners[..., None] + OCCLUDED)
    squares = (inside[:, 0, :, None] & inside[:, 1, None, :])[..., None]  # [places, 28, 28, 1]
    falls, times_hidden = [], squares.sum(axis=0)
    for image, digit, log_prob in zip(images, digits, logits, strict=True):
        losses_of_places = log_prob[digit] - log_probs(jnp.where(squares, 0, image))[:, digit]
        falls.append(np.tensordot(losses_of_places, squares, 1) / times_hidden)  # the mean over a pixel's squares
    pictures = [*images, *falls, *(gradients * images)]
    for label, (digit, row) in enumerate(zip(digits.tolist(), logits, strict=True)):
        this.log(label=label, read_as=digit, probability=float(np.exp(row[digit])))
    titles = [f"read as {digit}\n{np.exp(row[digit]):.1%}" for digit, row in zip(digits, logits, strict=True)]
    titles += ["occlusion"] * len(images) + ["ink x gradient"] * len(images)
    this.save_figure("reasons", plots.image_grid(pictures, titles, signed=True))


def compare_with_scipy(layer, image, maps) -> dict:
    """The first layer's maps of an image by hand: SciPy's convolution with kernels turned by 180 degrees, and bias."""
    kernels, bias = np.asarray(layer["kernel"], float)[:, :, 0], np.asarray(layer.get("bias", 0.0))
    pixels = np.asarray(image, float)[..., 0]
    by_hand = [scipy.signal.convolve2d(pixels, kernel[::-1, ::-1], "valid") for kernel in np.moveaxis(kernels, -1, 0)]
    return {"first_maps_error": np.abs(np.stack(by_hand, axis=-1) + bias - maps).max().item()}


def hidden_neurons(module: cnn.CNN, layers):
    """What the last layer gets."""
    return jax.nn.relu(layers[f"BatchNorm_{len(module.channels)}" if module.batch_norm else "Dense_0"])


def embed(config: Config, this: run.Run, images, hidden, labels) -> dict:
    """Pixels and the last hidden layer as points in the plane (t-SNE); how often five neighbours tell the digit."""
    half, accuracies, panels = len(images) // 2, {}, {}
    for name, values in (("pixels", images.reshape(len(images), -1)), ("last hidden layer", hidden)):
        values = np.asarray(values)
        neighbours = KNeighborsClassifier(5).fit(values[:half], labels[:half])
        accuracies[name] = neighbours.score(values[half:], labels[half:])
        panels[name] = TSNE(random_state=config.seed).fit_transform(values[: config.num_embedded])
    names = datasets.CLASS_NAMES["mnist"]
    figure = plots.classes(panels, labels[: config.num_embedded], names)
    this.save_figure("embedding", figure)
    return {f"five_neighbours_{name.split()[-1]}": value for name, value in accuracies.items()}


if __name__ == "__main__":
    run.start(Config, main, quick=Config(num_steps=200, num_images=400, num_embedded=200))
