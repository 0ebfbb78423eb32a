"""A trained network reads one's own pictures of digits, or of what else it was trained on.

The deck (page 18) shows digits that others wrote. Here are your own: photographs or drawings, one digit each, of any
size, dark on light or light on dark. They are made like MNIST's, and the nets of a run of mnist_cnn read them together:
the probabilities are the mean over its nets. If the run was on a folder, pictures are read as those of the folder were.

Run:    make experiment NAME=predict ARGS="--run runs/mnist_cnn/2026-11-23_04-26-22 --images my5.png my3.jpg"

Expect: the ten pictures of docs/digits read right (1 net, seed 0 of mnist_cnn)

Time:   4 s
"""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from pydantic.dataclasses import dataclass

import experiments
from jaxnn.lab import datasets, diagrams, images
from jaxnn.lab.config import BadUsageError, Seed, UserPath
from jaxnn.lab.run import Run
from jaxnn.lab.start import start

EXAMPLES = Path(os.path.relpath(Path(__file__).parents[1] / "docs" / "digits"))  # short, as it is printed and logged
NUM_DRAWN = 40  # at most so many pictures are in the figure; all are in the log


@dataclass(frozen=True)
class Config:
    """What is read, and by which nets."""

    run: UserPath | None = None  # folder of a run of mnist_cnn; None is the newest finished one on mnist in runs/
    images: tuple[UserPath, ...] = ()  # picture files, one digit each; none: for a run on mnist, those of docs/digits
    seed: Seed = 0  # changes nothing: no number is drawn here


def load_nets(folder: Path):
    """A run of mnist_cnn, its nets without those that diverged."""
    loaded = experiments.load(folder)
    if loaded.config.dataset == "fashion_mnist":
        raise BadUsageError(f"--run: {folder} is a run on fashion_mnist, so its nets cannot read digits")
    sound = loaded.nets.step == loaded.nets.step.max()  # a net that has diverged stays at the step where it did
    return loaded._replace(nets=jax.tree.map(lambda leaf: leaf[sound], loaded.nets))


def read_like_training(path):
    """A picture in grey, and as `datasets.load_images` gives those of a folder: uint8 [28, 28, 1], ink is 255."""
    return images.read_picture(path), 255 - images.read_square(path, size=28, channels=1)


def read(paths, read_one):
    """The pictures in grey, and as nets see them, uint8 [images, 28, 28, 1]; one error names all unreadable ones."""
    found, errors = [], []
    for path in paths:
        try:
            found.append(read_one(path))
        except images.PictureError as error:
            errors.append(str(error))
    if errors:
        raise BadUsageError("\n".join(errors))
    pictures, inputs = zip(*found, strict=True)
    return pictures, np.stack(inputs)


@jax.jit(static_argnames="model")
def predict(model, nets, inputs):
    """The probabilities [images, classes], means over the nets; `inputs` uint8 [images, 28, 28, 1]."""

    def probabilities(net):
        return jax.nn.softmax(model.apply(net.params, net.state, inputs)[0])

    return jax.lax.map(probabilities, nets).mean(axis=0)


def main(config: Config, run: Run) -> dict:
    """Reads the pictures, says what they show, and draws what the nets saw."""
    folder = config.run or experiments.newest("mnist_cnn", dataset="mnist")
    loaded = load_nets(folder)
    nets, is_mnist = loaded.nets, loaded.config.dataset == "mnist"
    names = datasets.CLASS_NAMES["mnist"] if is_mnist else loaded.class_names
    finished = "" if (folder / "summary.json").exists() else ", which has not finished"
    run.say(f"nets of {folder}{finished}: {len(nets.step)}")
    if not config.images and not is_mnist:
        raise BadUsageError(f"{folder} is a run on {loaded.config.dataset}: name your pictures with --images")
    paths = config.images or sorted(EXAMPLES.iterdir())
    pictures, inputs = read(paths, images.read_digit if is_mnist else read_like_training)
    probs = np.asarray(predict(loaded.model, nets, jnp.asarray(inputs)))
    for path, row in zip(paths, probs, strict=True):
        run.log(picture=str(path), answer=names[row.argmax()], probabilities=row)
        run.say(f"{path}: " + ", ".join(f"{names[label]} {row[label]:.1%}" for label in np.argsort(-row)[:10]))
    titles = [path.name for path in paths[:NUM_DRAWN]]
    figure = diagrams.predictions(pictures, inputs, probs, titles, names)
    run.save_figure("predictions", figure)
    return {
        "num_pictures": len(paths),
        "num_nets": len(nets.step),
        "run": str(folder),
        "mean_largest_probability": probs.max(axis=1).mean(),
    }


if __name__ == "__main__":
    start(Config, main, quick=Config())
