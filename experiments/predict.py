"""A trained network reads one's own pictures of digits.

The deck (page 18) shows digits that others wrote. Here are your own: photographs or drawings, one digit each, of any
size, dark on light or light on dark. They are made like MNIST's, and the nets of a run of mnist_cnn read them together:
the probabilities are the mean over its nets.

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
    images: tuple[UserPath, ...] = ()  # picture files, one digit each; none are those of docs/digits
    seed: Seed = 0  # changes nothing: no number is drawn here


def load_nets(folder: Path):
    """The model of a run and its nets, without those that diverged."""
    config, model, _, _, nets = experiments.load(folder)
    if config.dataset != "mnist":
        raise BadUsageError(f"--run: {folder} is a run on {config.dataset}, so its nets cannot read digits")
    sound = nets.step == nets.step.max()  # a net that has diverged stays at the step where it did
    return model, jax.tree.map(lambda leaf: leaf[sound], nets)


def read(paths):
    """The pictures in grey, and made like MNIST's: uint8 [images, 28, 28, 1]; one error names all unreadable ones."""
    found, errors = [], []
    for path in paths:
        try:
            found.append(images.read_digit(path))
        except images.PictureError as error:
            errors.append(str(error))
    if errors:
        raise BadUsageError("\n".join(errors))
    pictures, digits = zip(*found, strict=True)
    return pictures, np.stack(digits)


@jax.jit(static_argnames="model")
def predict(model, nets, digits):
    """The probabilities [images, classes], means over the nets; `digits` uint8 [images, 28, 28, 1]."""

    def probabilities(net):
        return jax.nn.softmax(model.apply(net.params, net.state, digits)[0])

    return jax.lax.map(probabilities, nets).mean(axis=0)


def main(config: Config, run: Run) -> dict:
    """Reads the pictures, says what they show, and draws what the nets saw."""
    folder = config.run or experiments.newest("mnist_cnn", dataset="mnist")
    model, nets = load_nets(folder)
    finished = "" if (folder / "summary.json").exists() else ", which has not finished"
    run.say(f"nets of {folder}{finished}: {len(nets.step)}")
    paths = config.images or sorted(EXAMPLES.iterdir())
    pictures, digits = read(paths)
    probs = np.asarray(predict(model, nets, jnp.asarray(digits)))
    for path, row in zip(paths, probs, strict=True):
        run.log(picture=str(path), digit=row.argmax(), probabilities=row)
        run.say(f"{path}: " + ", ".join(f"{digit} {row[digit]:.1%}" for digit in np.argsort(-row)))
    titles = [path.name for path in paths[:NUM_DRAWN]]
    figure = diagrams.predictions(pictures, digits, probs, titles, datasets.CLASS_NAMES["mnist"])
    run.save_figure("predictions", figure)
    return {
        "num_pictures": len(paths),
        "num_nets": len(nets.step),
        "run": str(folder),
        "mean_largest_probability": probs.max(axis=1).mean(),
    }


if __name__ == "__main__":
    start(Config, main, quick=Config())
