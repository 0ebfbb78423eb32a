"""A trained network reads one's own pictures of digits.

The deck (page 18) shows digits that others wrote. Here are your own: photographs or drawings, one digit each, of any
size, dark on light or light on dark. They are made like MNIST's, and the nets of a run of mnist_cnn read them together:
the probabilities are the mean over its nets.

Run:    make experiment NAME=predict ARGS="--run runs/mnist_cnn/2026-11-23_04-26-22 --images my5.png my3.jpg"

Expect: the ten pictures of docs/digits read right (1 net, seed 0 of mnist_cnn)

Time:   4 s
"""

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import cnn
from jaxnn.lab import datasets, images, plots, run
from jaxnn.lab.checkpoint import CheckpointError
from jaxnn.lab.config import BadUsageError

EXAMPLES = Path(os.path.relpath(Path(__file__).parents[1] / "docs" / "digits"))
NUM_DRAWN = 40


@dataclass(frozen=True)
class Config:
    """What is read, and by which nets."""

    run: Path | None = None  # folder of a run of mnist_cnn; None is the newest finished one on mnist in runs/
    images: tuple[Path, ...] = ()  # picture files, one digit each; none are those of docs/digits
    seed: int = 0  # changes nothing: no number is drawn here


def find_run(folder: Path | None) -> Path:
    """The folder that was asked for, or the newest in runs/ in which a run of mnist_cnn on MNIST has finished."""
    if folder is not None:
        return folder
    finished = sorted(Path("runs").rglob("summary.json"), key=lambda path: path.stat().st_mtime)
    folders = [path.parent for path in finished if reads_digits(read_config(path.with_name("config.json")))]
    if not folders:
        raise BadUsageError(
            "no run of mnist_cnn has finished here: train a net with make experiment NAME=mnist_cnn, or name the "
            "folder of a run with --run"
        )
    return folders[-1]


def read_config(path: Path) -> dict:
    """The settings of a run; of what is no run, none."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def reads_digits(config: dict) -> bool:
    """Whether a run of this configuration is one of mnist_cnn on MNIST."""
    return (config.get("experiment"), config.get("dataset")) == ("mnist_cnn", "mnist")


def load_nets(folder: Path):
    """The model of a run and its nets, without those that diverged."""
    try:
        config, nets = run.load(folder)
    except CheckpointError as error:
        raise BadUsageError(f"--run: {error}") from error
    if not reads_digits(vars(config)):
        raise BadUsageError(f"--run: {folder} is no run of mnist_cnn on mnist, so its nets cannot read digits")
    left = ~nets.failed
    if not left.any():
        raise BadUsageError(f"--run: all nets of {folder} diverged, there is none to read with")
    model = cnn.from_flax(cnn.CNN(config.channels, hidden_size=config.hidden_size, batch_norm=config.batch_norm))
    return model, jax.tree.map(lambda leaf: leaf[left], (nets.params, nets.state))


def read(paths):
    """The pictures in grey, and made like MNIST's: uint8 [images, 28, 28, 1]; all that cannot be read are named."""
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


def predict(model, nets, digits):
    """The probabilities [images, classes], means over the nets; `digits` uint8 [images, 28, 28, 1]."""

    def probabilities(net):
        logits, _ = model.apply(*net, digits / 255)
        return jax.nn.softmax(logits)

    return jax.lax.map(probabilities, nets).mean(axis=0)


def main(config: Config, this: run.Run) -> dict:
    """Reads the pictures, says what they show, and draws what the nets saw."""
    folder = find_run(config.run)
    model, nets = load_nets(folder)
    num_nets = len(jax.tree.leaves(nets)[0])
    finished = "" if (folder / "summary.json").exists() else ", which has not finished"
    this.say(f"read by {num_nets} net{'s' * (num_nets > 1)} of {folder}{finished}")
    paths = config.images or sorted(EXAMPLES.iterdir())
    pictures, digits = read(paths)
    probabilities = np.asarray(jax.jit(functools.partial(predict, model))(nets, jnp.asarray(digits)))
    for path, probs in zip(paths, probabilities, strict=True):
        this.log(picture=str(path), digit=int(probs.argmax()), probabilities=probs.tolist())
        this.say(f"{path}: {say(probs)}")
    titles = [path.name for path in paths[:NUM_DRAWN]]
    figure = plots.predictions(pictures, digits, probabilities, titles, datasets.CLASS_NAMES["mnist"])
    this.save_figure("predictions", figure)
    return {
        "num_pictures": len(paths),
        "num_nets": num_nets,
        "run": str(folder),
        "mean_largest_probability": probabilities.max(axis=1).mean().item(),
    }


def say(probs) -> str:
    """All digits, the most probable first."""
    return ", ".join(f"{digit} {probs[digit]:.1%}" for digit in np.argsort(-probs))


if __name__ == "__main__":
    run.start(Config, main, quick=Config())
