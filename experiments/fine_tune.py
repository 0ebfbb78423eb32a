"""A net that reads digits learns something else from few examples: what it has seen before helps.

A net of mnist_cnn goes on with other images: photographs of clothes, or the pictures in a folder of yours. Three ways,
seed by seed on the same images: only a new last layer is trained ("frozen"), all weights are trained from where they
were ("all weights"), or from new ones ("from scratch"). (Yosinski et al., "How transferable are features in deep neural
networks?", 2014; the deck's page 19 calls the layers before the last feature extraction.)

Run:    make experiment NAME=fine_tune ARGS="--run runs/mnist_cnn/2026-11-26_16-55-00"

Expect: test accuracy on clothes (5 seeds, the net of seed 0) from 50, 200 and 1,000 images: from scratch 61 ± 6, 74.2 ±
        1.1 and 82.1 ± 0.3 %; all weights, seed by seed, 2.1 ± 2.0, 0.7 ± 1.2 and 0.3 ± 0.4 points more; frozen 3 ± 2,
        7 ± 2 and 10.9 ± 0.5 points less: what tells digits apart is too little for clothes

Time:   1 min 20 s
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from pydantic import Field
from pydantic.dataclasses import dataclass

import experiments
from jaxnn import cnn, losses, metrics, training
from jaxnn.lab import datasets, plots
from jaxnn.lab.config import BadUsageError, Count, DataDir, ImageDir, NumSeeds, Rate, Seed, UserPath
from jaxnn.lab.run import Run, mean_and_sd
from jaxnn.lab.start import start

WAYS = "frozen", "all weights", "from scratch"


@dataclass(frozen=True)
class Config:
    """The net, the images and the trainings."""

    run: UserPath | None = None  # folder of a run of mnist_cnn, whose first net is taken; None is the newest on mnist
    dataset: Literal["mnist", "fashion_mnist"] | ImageDir = "fashion_mnist"  # what is learned: clothes, or a folder
    num_examples: Annotated[tuple[Count, ...], Field(min_length=1)] = (50, 200, 1000)  # images, drawn for each seed
    num_steps: Count = 300  # of each training, 25 images each
    learning_rate: Rate = 0.003  # highest of one cycle
    data_dir: DataDir = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: Seed = 0  # of the first net
    num_seeds: NumSeeds = 5  # nets of each way; the others take the seeds that follow


def begin(way: str, key, model, optimizer, learned: training.TrainState):
    """A net before its first step: a new last layer on the body that has learned, or all new."""
    net = training.init_train_state(key, model, optimizer, jnp.zeros((1, 28, 28, 1), jnp.uint8))
    if way == "from scratch":
        return net
    return net._replace(params=learned.params | {"Dense_1": net.params["Dense_1"]}, state=learned.state)


def make_training(config: Config, way: str, model, params):
    """Optimizer and loss function."""
    adam = optax.adam(optax.cosine_onecycle_schedule(config.num_steps, config.learning_rate))
    parts = {name: "last" if name == "Dense_1" else "body" for name in params}
    frozen = optax.partition({"last": adam, "body": optax.set_to_zero()}, parts)

    def loss_fn(params, state, batch, key):
        # Without a key the frozen body computes as in inference: its batch statistics stay, too.
        logits, state = model.apply(params, state, batch.inputs, None if way == "frozen" else key)
        return losses.softmax_cross_entropy(logits, batch.targets), state

    return frozen if way == "frozen" else adam, loss_fn


@jax.jit(static_argnames=("config", "way", "size", "model"))
def train_and_test(config: Config, way: str, size: int, model, learned, data):
    """The test accuracy of the nets of all seeds, each trained in this way on `size` images of its own."""
    optimizer, loss_fn = make_training(config, way, model, learned.params)

    def train_net(key):
        images_key, net_key = jax.random.split(key)
        drawn = jax.random.permutation(images_key, len(data.train.targets))[:size]
        own = jax.tree.map(lambda leaf: leaf[drawn], data.train)
        net = begin(way, net_key, model, optimizer, learned)
        net, _ = training.train_steps(net, own, loss_fn, optimizer, batch_size=25, num_steps=config.num_steps)
        logits = training.map_batches(
            lambda images: model.apply(net.params, net.state, images)[0], data.test.inputs, batch_size=250
        )
        return jnp.where(net.step == config.num_steps, metrics.accuracy(logits, data.test.targets), jnp.nan)

    return lax.map(train_net, training.seed_keys(config.seed, config.num_seeds))


def main(config: Config, run: Run) -> dict:
    """Trains and tests the nets of each way on each number of images, and compares them seed by seed."""
    folder = config.run or experiments.newest("mnist_cnn", dataset="mnist")
    settings, _, _, _, learned, _ = experiments.load_net(folder, "mnist_cnn")
    data, class_names, sha256 = datasets.load_images(config.dataset, config.data_dir)
    run.record(data_sha256=sha256, class_names=class_names)
    if max(config.num_examples) > len(data.train.targets) or min(config.num_examples) < 25:
        raise BadUsageError(f"--num-examples must be 25 ... {len(data.train.targets)}, not {config.num_examples}")
    sizes = {"hidden_size": settings.hidden_size, "num_classes": len(class_names), "batch_norm": settings.batch_norm}
    model, data, accuracies = cnn.from_flax(cnn.CNN(settings.channels, **sizes)), jax.device_put(data), {}
    for way in WAYS:
        for size in config.num_examples:
            found = train_and_test(config, way, size, model, learned, data)
            run.log_seeds(config.seed, way=way, num_examples=size, test_accuracy=found)
            run.say(f"{way}, {size} images: test accuracy {np.mean(found):.1%}")
            accuracies[way, size] = np.asarray(found, float)
    curves = plots.by_kind(run.read_log(), "way", "num_examples", "test_accuracy")
    panel = {way: (sizes, 100 * accuracy) for way, (sizes, accuracy) in curves.items()}
    named = {"xlabel": "images to learn from", "ylabel": "test accuracy (%)"}
    title = f"What digits teach about other things, {config.num_seeds} nets"
    run.save_figure("accuracies", plots.lines({title: panel}, **named, log="x"))
    summary: dict = {"run": str(folder), "num_seeds": config.num_seeds}
    for (way, size), values in accuracies.items():
        summary |= mean_and_sd(f"{way.replace(' ', '_')}_{size}_test_accuracy", values)
        if way != "from scratch":
            gain = values - accuracies["from scratch", size]
            summary |= mean_and_sd(f"{way.replace(' ', '_')}_{size}_gain", gain)
    return summary


if __name__ == "__main__":
    start(Config, main, quick=Config(num_examples=(50,), num_steps=10, num_seeds=2))
