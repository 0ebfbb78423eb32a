"""What a trained convolutional network sees: its kernels, its maps, and where in an image the decision comes from.

The deck (page 19) shows a CNN as layers of feature maps. Here they are drawn for a net that has learned to read digits:
one trained here in seconds, or that of the run of mnist_cnn that --run names; on images that it was not trained on.

Run:    make experiment NAME=feature_maps

Expect: validation accuracy 98.88 % (1 net, seed 0); five neighbours tell 94.4 % of the digits by their pixels, 99.1 %
        by the last hidden layer; the first maps equal SciPy's to 4e-7

Time:   30 s
"""

from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.signal
from pydantic import Field
from pydantic.dataclasses import dataclass
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

import experiments
from jaxnn import cnn, losses, metrics, training
from jaxnn.lab import datasets, diagrams, net_diagrams
from jaxnn.lab.config import BadUsageError, Count, DataDir, Seed, UserPath, read_settings
from jaxnn.lab.run import Run
from jaxnn.lab.start import start

SMALL_CNN = cnn.CNN(channels=(12, 24), hidden_size=64)


@dataclass(frozen=True)
class Config:
    """The net and the images."""

    run: UserPath | None = None  # folder of a run of mnist_cnn, whose first net is shown; None: one is trained here
    num_steps: Count = 1100  # of the training without --run, 50 images each
    num_images: Annotated[int, Field(ge=200, le=5000)] = 5000  # validation images that are looked at
    data_dir: DataDir = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: Seed = 0  # of the net that is trained here, and of the embedding


def load_net(folder: Path):
    """The module of a run of mnist_cnn, and its first net with the most steps: one that diverged stays behind."""
    try:
        settings, (config, _, _, _, nets, _) = read_settings(folder / "config.json"), experiments.load(folder)
    except BadUsageError as error:
        raise BadUsageError(f"--run: {error}") from error
    if (settings["experiment"], settings.get("dataset")) != ("mnist_cnn", "mnist"):
        raise BadUsageError(f"--run: {folder} is no run of mnist_cnn on mnist")
    module = cnn.CNN(config.channels, hidden_size=config.hidden_size, batch_norm=config.batch_norm)
    return module, jax.tree.map(lambda leaf: leaf[nets.step.argmax()], {"params": nets.params, **nets.state})


@jax.jit(static_argnums=0)
def train_net(config: Config, data):
    """The variables of SMALL_CNN after a short training."""
    model, optimizer = cnn.from_flax(SMALL_CNN), optax.adam(optax.cosine_onecycle_schedule(config.num_steps, 0.005))
    loss_fn = training.make_loss(model, losses.softmax_cross_entropy)

    net = training.init_train_state(jax.random.key(config.seed), model, optimizer, data.inputs[:1])
    net, _ = training.train_steps(net, data, loss_fn, optimizer, batch_size=50, num_steps=config.num_steps)
    return {"params": net.params, **net.state}


def draw_layers(run: Run, kernels, images, layers, shown):
    """Of each filter the kernel, the maps of a few digits, and the patches to which it responds most."""
    for number, (name, size, stride) in enumerate((("Conv_0", 5, 1), ("Conv_1", 10, 2)), 1):  # receptive field, stride
        top = [("kernel", kernels, True)] if number == 1 else []
        maps = np.moveaxis(layers[name], -1, 0)
        rows = [(images[index], maps[:, index], True) for index in shown]
        title = f"What convolution {number} makes of the digits on the left: red positive, blue negative, white 0"
        run.save_figure(f"maps_{number}", net_diagrams.by_filter([*top, *rows], title=title))
        patches = [find_patches(images, responses, size, stride) for responses in maps]
        rows = [(f"{rank}.", ranked, False) for rank, ranked in enumerate(zip(*patches, strict=True), 1)]
        title = f"The {size} × {size} pixels of {len(images):,} digits to which filters of layer {number} respond most"
        run.save_figure(f"patches_{number}", net_diagrams.by_filter([*top, *rows], title=title))


def find_patches(images, responses, size, stride):
    """The patches of four images to which a filter responds most, the strongest first."""
    for index in np.argsort(-responses.max(axis=(1, 2)))[:4]:
        row, column = stride * np.argwhere(responses[index] == responses[index].max())[0]
        yield images[index, row : row + size, column : column + size]


def draw_reasons(run: Run, log_probs, images):
    """How far the prediction's log-probability falls where a 7x7 square is hidden (occlusion); and ink x gradient."""

    def occlusion(image, digit):
        hide = jax.vmap(lambda row, column: jax.lax.dynamic_update_slice(image, jnp.zeros((7, 7, 1)), (row, column, 0)))
        falls = log_probs(image[None])[0, digit] - log_probs(hide(*jnp.indices((22, 22)).reshape(2, -1)))[:, digit]
        return jnp.pad(falls.reshape(22, 22), 3)  # each at the middle of its square

    digits, probs = log_probs(images).argmax(axis=1), jnp.exp(log_probs(images).max(axis=1))
    falls = jax.lax.map(lambda pair: occlusion(*pair), (images, digits))
    gradients = jax.grad(lambda images: log_probs(images).max(axis=1).sum())(images)
    titles = [f"read as {digit}\n{prob:.1%}" for digit, prob in zip(digits, probs, strict=True)]
    run.save_figure("reasons", net_diagrams.reasons(images, titles, falls, gradients * images))


def embed(config: Config, run: Run, features, labels) -> dict:
    """By each kind of features: images as points in the plane (t-SNE), and the accuracy of five nearest neighbours."""
    half, summary, panels = len(labels) // 2, {}, {}
    for name, values in features.items():
        neighbours = KNeighborsClassifier(5).fit(values[:half], labels[:half])
        score = summary[f"five_neighbours_{name.split()[-1]}"] = neighbours.score(values[half:], labels[half:])
        with threadpool_limits(1):  # several threads wait for each other for minutes where a core has other work
            spots = TSNE(random_state=config.seed).fit_transform(values[:1500])
        panels[f"by the {name}: five neighbours are right for {score:.1%}"] = spots
    title = f"{len(labels[:1500]):,} digits as points: t-SNE lays those close that are alike; its axes have no meaning"
    run.save_figure("embedding", diagrams.classes(panels, labels[:1500], datasets.CLASS_NAMES["mnist"], title=title))
    return summary


def main(config: Config, run: Run) -> dict:
    """Draws kernels, maps, patches, reasons and the embedding of the last hidden layer."""
    data = datasets.mnist(config.data_dir)
    run.record(data_sha256=datasets.SHA256["mnist"])
    module, variables = load_net(config.run) if config.run else (SMALL_CNN, train_net(config, data.train))
    images, labels = (leaf[: config.num_images] for leaf in data.validation)
    options = {"capture_intermediates": lambda layer, _: layer.name is not None, "mutable": "intermediates"}
    apply = jax.jit(module.apply, static_argnames=("train", *options))
    logits, seen = apply(variables, images, train=False, **options)
    layers = {name: outputs["__call__"][0] for name, outputs in jax.device_get(seen["intermediates"]).items()}
    first = variables["params"]["Conv_0"]
    kernels = np.moveaxis(np.asarray(first["kernel"], float)[:, :, 0], -1, 0)
    expected = np.stack([scipy.signal.correlate2d(images[0, ..., 0] / 255, kernel, "valid") for kernel in kernels], -1)
    one_of_each = np.array([np.argmax(labels == digit) for digit in range(10)])
    draw_layers(run, kernels, images, layers, shown=one_of_each[[2, 4, 7, 8]])
    examples = jnp.asarray(images[one_of_each], jnp.float32)
    draw_reasons(run, lambda images: jax.nn.log_softmax(apply(variables, images, train=False)), examples)
    hidden = layers[f"BatchNorm_{len(module.channels)}" if module.batch_norm else "Dense_0"]  # before its ReLU
    features = {"pixels": images.reshape(len(images), -1) / 255, "last hidden layer": np.maximum(hidden, 0)}
    return {
        "validation_accuracy": metrics.accuracy(logits, labels),
        "first_maps_error": np.abs(expected + first.get("bias", 0.0) - layers["Conv_0"][0]).max(),
        **embed(config, run, features, labels),
    }


if __name__ == "__main__":
    start(Config, main, quick=Config(num_steps=60, num_images=200))
