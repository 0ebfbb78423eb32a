"""What a trained convolutional network sees: its kernels, its maps, and where in an image the decision comes from.

The deck (page 19) shows a CNN as layers of feature maps. Here those of a net that has learned to read digits are drawn:
of the newest run of mnist_cnn, or of the one that --run names. They are shown at work on the validation images, which
the net has not learned from.

Run:    make experiment NAME=feature_maps

Expect: validation accuracy 98.84 % (1 net, seed 0); five neighbours tell 94.4 % of the digits by their pixels, 99.0 %
        by the last hidden layer; the first maps equal SciPy's to 4e-7

Time:   30 s
"""

from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal
from pydantic import Field
from pydantic.dataclasses import dataclass
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsClassifier

import experiments
from jaxnn import cnn, metrics
from jaxnn.lab import datasets, diagrams, plots
from jaxnn.lab.config import BadUsageError, DataDir, Seed
from jaxnn.lab.run import Run
from jaxnn.lab.start import start
from jaxnn.layers import flatten_pixels

NUM_EMBEDDED = 1500  # images that are drawn as points
NUM_PATCHES = 8  # of each filter, those that it responds to most
OCCLUDED = 7  # width of the square that hides a part of the image


@dataclass(frozen=True)
class Config:
    """The net and the images."""

    run: Path | None = None  # folder of a run of mnist_cnn; None is the newest finished one on mnist in runs/
    num_images: Annotated[int, Field(ge=200, le=5000)] = 5000  # validation images that are looked at
    data_dir: DataDir = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: Seed = 0  # of the embedding


def load_net(folder: Path):
    """The module of a run of mnist_cnn and the variables of its first net that has not diverged."""
    config, _, _, nets = experiments.load(folder)
    if config.dataset != "mnist":
        raise BadUsageError(f"--run: {folder} is a run on {config.dataset}, so its nets read no digits")
    first = int(np.argmax(nets.step))
    params, state = jax.tree.map(lambda leaf: leaf[first], (nets.params, nets.state))
    module = cnn.CNN(config.channels, hidden_size=config.hidden_size, batch_norm=config.batch_norm)
    return module, {"params": params, **state}


@jax.jit(static_argnames="module")
def look_inside(module: cnn.CNN, variables, images):
    """The logits, and what each layer by its name gives out."""
    logits, seen = module.apply(variables, images, train=False, capture_intermediates=True, mutable=["intermediates"])
    return logits, {name: values["__call__"][0] for name, values in seen["intermediates"].items() if name != "__call__"}


def draw_maps(run: Run, params, images, layers):
    """The first layer's kernels, red where ink excites; of four digits, the first maps of both convolutions."""
    kernels = np.moveaxis(params["Conv_0"]["kernel"][:, :, 0], -1, 0)
    titles = [f"filter {number}" for number in range(1, len(kernels) + 1)]
    run.save_figure("kernels", plots.image_grid(kernels, titles, num_columns=12, signed=True))
    for number, name in enumerate(("Conv_0", "Conv_1"), 1):
        maps = np.moveaxis(layers[name][..., :11], -1, 1)  # [images, maps, rows, columns]
        titles = ["digit", *(f"map {channel}" for channel in range(1, maps.shape[1] + 1))]
        pictures = [picture for index in (2, 4, 7, 8) for picture in (images[index], *maps[index])]
        run.save_figure(f"maps_{number}", plots.image_grid(pictures, titles * 4, num_columns=len(titles), signed=True))


def draw_patches(run: Run, images, layers):
    """Of ten filters of each convolution, the parts of images to which they respond most."""
    for number, (name, size, stride) in enumerate((("Conv_0", 5, 1), ("Conv_1", 10, 2)), 1):
        maps = np.asarray(layers[name])[..., :10]  # [images, rows, columns, filters]
        pictures, titles = [], []
        for channel, responses in enumerate(np.moveaxis(maps, -1, 0), 1):
            for index in np.argsort(-responses.max(axis=(1, 2)))[:NUM_PATCHES]:
                row, column = stride * np.array(np.unravel_index(responses[index].argmax(), responses[index].shape))
                pictures.append(images[index, row : row + size, column : column + size])
            pictures.append(np.zeros((size, size)))  # a gap between two filters
            titles += [f"filter {channel}", *[""] * NUM_PATCHES]
        run.save_figure(f"patches_{number}", plots.image_grid(pictures, titles, num_columns=2 * (NUM_PATCHES + 1)))


def draw_reasons(run: Run, module: cnn.CNN, variables, images):
    """By how much the log-probability of what is read falls where a square hides the image; and ink x gradient."""
    log_probs = jax.jit(lambda images: jax.nn.log_softmax(module.apply(variables, images, train=False)))
    found = log_probs(images)
    digits = found.argmax(axis=-1)
    gradients = jax.grad(lambda images: log_probs(images)[jnp.arange(len(digits)), digits].sum())(images)
    windows = np.array([(np.arange(28) >= i) & (np.arange(28) < i + OCCLUDED) for i in range(29 - OCCLUDED)])
    squares = (windows[:, None, :, None] & windows[:, None, :]).reshape(-1, 28, 28, 1)
    falls = []
    for image, digit, log_prob in zip(images, digits, found, strict=True):
        of_squares = log_prob[digit] - log_probs(jnp.where(squares, 0, image))[:, digit]
        falls.append(np.tensordot(of_squares, squares, 1) / squares.sum(axis=0))  # the mean over a pixel's squares
    probabilities = np.exp(found.max(axis=1))
    run.log(read_as=digits, probability=probabilities)
    titles = [f"read as {digit}\n{probability:.1%}" for digit, probability in zip(digits, probabilities, strict=True)]
    titles += ["occlusion"] * len(images) + ["ink x gradient"] * len(images)
    run.save_figure("reasons", plots.image_grid([*images, *falls, *(gradients * images)], titles, signed=True))


def compare_with_scipy(layer, image, maps) -> dict:
    """The first layer's maps of an image by hand: SciPy's convolution with kernels turned by 180 degrees, and bias."""
    kernels, bias = np.asarray(layer["kernel"], float)[:, :, 0], np.asarray(layer.get("bias", 0.0))
    pixels = np.asarray(image, float)[..., 0] / 255
    by_hand = [scipy.signal.convolve2d(pixels, kernel[::-1, ::-1], "valid") for kernel in np.moveaxis(kernels, -1, 0)]
    return {"first_maps_error": np.abs(np.stack(by_hand, axis=-1) + bias - maps).max()}


def embed(config: Config, run: Run, images, hidden, labels) -> dict:
    """Pixels and the last hidden layer as points in the plane (t-SNE); how often five neighbours tell the digit."""
    half, accuracies, panels = len(images) // 2, {}, {}
    for name, values in (("pixels", flatten_pixels(images)), ("last hidden layer", hidden)):
        neighbours = KNeighborsClassifier(5).fit(values[:half], labels[:half])
        accuracies[name] = neighbours.score(values[half:], labels[half:])
        panels[name] = TSNE(random_state=config.seed).fit_transform(values[:NUM_EMBEDDED])
    run.save_figure("embedding", diagrams.classes(panels, labels[:NUM_EMBEDDED], datasets.CLASS_NAMES["mnist"]))
    return {f"five_neighbours_{name.split()[-1]}": value for name, value in accuracies.items()}


def main(config: Config, run: Run) -> dict:
    """Draws kernels, maps, patches, reasons and the embedding of the last layer."""
    folder = config.run or experiments.newest("mnist_cnn", dataset="mnist")
    module, variables = load_net(folder)
    run.record(data_sha256=datasets.SHA256["mnist"])
    images, labels = (jnp.asarray(leaf[: config.num_images]) for leaf in datasets.mnist(config.data_dir).validation)
    logits, layers = look_inside(module, variables, images)
    first = jnp.array([np.argmax(labels == digit) for digit in range(10)])  # of each digit
    draw_maps(run, variables["params"], images[first], {name: values[first] for name, values in layers.items()})
    draw_patches(run, images, layers)
    draw_reasons(run, module, variables, images[first].astype(jnp.float32))
    hidden = jax.nn.relu(layers[f"BatchNorm_{len(module.channels)}" if module.batch_norm else "Dense_0"])
    summary = {"run": str(folder), "validation_accuracy": metrics.accuracy(logits, labels)}
    summary |= compare_with_scipy(variables["params"]["Conv_0"], images[0], layers["Conv_0"][0])
    return summary | embed(config, run, images, hidden, labels)


if __name__ == "__main__":
    start(Config, main, quick=Config(num_images=400))
