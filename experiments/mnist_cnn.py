"""A convolutional network reads handwritten digits.

The deck (pages 19-20) builds a CNN from convolution, pooling and dense layers, and names batch normalisation, dropout
and better optimizers as what makes it train well. Here they are together, on MNIST.

Run:    make experiment NAME=mnist_cnn ARGS="--num-seeds 5"

Expect: test accuracy 99.58 % ± 0.03 % (mean ± sd of 5 seeds), 57 s of training per seed on 2 CPU cores (JAX 0.10.1)
"""

import dataclasses
import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxnn import augment, cnn, losses, metrics, training
from jaxnn.lab import datasets, plots
from jaxnn.lab.config import require
from jaxnn.lab.run import Run, RunFailedError, start
from jaxnn.types import Batch

PEAK_LEARNING_RATES = {  # the best of a coarse grid for each, by validation accuracy after one epoch
    "sgd": 1.0,
    "momentum": 0.1,
    "nesterov": 0.1,
    "adagrad": 0.1,
    "rmsprop": 0.002,
    "adam": 0.005,
    "adamw": 0.005,
    "muon": 0.01,
}


Optimizer = Literal["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "muon"]


@dataclass(frozen=True)
class Config:
    """Settings of the nets and of their training."""

    channels: tuple[int, int] = (24, 32)  # channels of the two convolutions, 5x5 and 3x3
    hidden_size: int = 256  # neurons of the dense layer
    batch_norm: bool = True  # batch normalisation of each hidden layer
    dropout: float = 0.2  # share of the dense layer's neurons dropped in training
    max_shift: int = 1  # augmentation: shift by up to so many pixels
    max_rotation: float = 0.0  # augmentation: rotate by up to so many degrees
    optimizer: Optimizer = "adam"  # how a step follows from the gradient
    learning_rate: float | None = None  # the highest of the schedule; None is a good one for the optimizer
    momentum: float = 0.9  # of the optimizers momentum and nesterov
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"  # course of the learning rate
    batch_size: int = 50  # images per step
    epochs: int = 6  # passes over the training images
    label_smoothing: float = 0.1  # share of a label's probability that is spread over all classes
    l2: float = 0.0  # times the sum of squared weights, in the loss; with adamw, its decoupled weight decay
    num_train: int | None = None  # train on the first so many images only; None is all but the held out
    num_validation: int = 5000  # images held out of the training set
    eval_every: int = 550  # steps between two looks at the validation set
    data_dir: Path | None = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: int = 0  # of the first net
    num_seeds: int = 1  # nets to train; the others take the seeds that follow

    def __post_init__(self):
        """Refuses what cannot be."""
        available = datasets.NUM_TRAIN - self.num_validation
        require(self, "num_validation", 1 <= self.num_validation < datasets.NUM_TRAIN, "in 1 ... 59999")
        require(
            self, "num_train", 1 <= self.train_size <= available, f"in 1 ... {available} (60,000 less --num-validation)"
        )
        require(self, "batch_size", 1 <= self.batch_size <= self.train_size, f"in 1 ... {self.train_size}")
        require(self, "channels", min(self.channels) >= 1, "1 or more")
        require(self, "learning_rate", 0 < self.peak_learning_rate < math.inf, "finite and above 0")
        for name in ("hidden_size", "epochs", "eval_every", "num_seeds"):
            require(self, name, 1 <= getattr(self, name) < 2**31, "1 or more, below 2**31")
        require(self, "epochs", self.num_steps < 2**31, "fewer")
        last_seed = 2**31 - self.num_seeds
        require(self, "seed", 0 <= self.seed <= last_seed, f"in 0 ... {last_seed}")
        require(self, "max_shift", 0 <= self.max_shift <= 27, "in 0 ... 27")
        require(self, "max_rotation", 0 <= self.max_rotation <= 180, "in 0 ... 180")
        require(self, "l2", 0 <= self.l2 < math.inf, "finite and 0 or more")
        for name in ("dropout", "momentum", "label_smoothing"):
            require(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")

    @property
    def train_size(self) -> int:
        """Training images used."""
        return datasets.NUM_TRAIN - self.num_validation if self.num_train is None else self.num_train

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate that was asked for, or a good one for the optimizer."""
        return PEAK_LEARNING_RATES[self.optimizer] if self.learning_rate is None else self.learning_rate

    @property
    def num_steps(self) -> int:
        """Steps of the whole training; an epoch has whole batches only."""
        return self.epochs * (self.train_size // self.batch_size)

    @property
    def stops(self) -> list[int]:
        """The steps after which the nets are looked at and saved."""
        return [*range(self.eval_every, self.num_steps, self.eval_every), self.num_steps]

    def extends(self, earlier: "Config") -> bool:
        """Only a schedule that does not depend on the length of the run can be followed for longer."""
        same = dataclasses.replace(self, epochs=earlier.epochs, data_dir=earlier.data_dir) == earlier
        return same and self.epochs >= earlier.epochs and (self.schedule == "constant" or self.epochs == earlier.epochs)


def is_weight(params):
    """True for the leaves that decay: those with two axes or more."""
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


def make_schedule(config: Config) -> optax.Schedule:
    """The learning rate of each step."""
    peak, num_steps = config.peak_learning_rate, config.num_steps
    return {
        "one-cycle": optax.cosine_onecycle_schedule(num_steps, peak, pct_start=0.3),
        "cosine": optax.cosine_decay_schedule(peak, num_steps),
        "constant": optax.constant_schedule(peak),
    }[config.schedule]


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """The optimizer by its name, its learning rate on the schedule."""
    make = {
        "sgd": optax.sgd,
        "momentum": functools.partial(optax.sgd, momentum=config.momentum),
        "nesterov": functools.partial(optax.sgd, momentum=config.momentum, nesterov=True),
        "adagrad": optax.adagrad,
        "rmsprop": optax.rmsprop,
        "adam": optax.adam,
        "adamw": functools.partial(optax.adamw, weight_decay=config.l2, mask=is_weight),
        "muon": optax.contrib.muon,
    }
    return make[config.optimizer](make_schedule(config))


def make_loss(config: Config, model):
    """Softmax cross-entropy on augmented images with smoothed labels, and the l2 penalty."""
    l2 = 0 if config.optimizer == "adamw" else config.l2

    def loss_fn(params, state, batch, keys):
        shift_keys, rotation_keys, noise_keys = jax.vmap(jax.random.split, (0, None), 1)(keys, 3)
        images = augment.random_shift(scale(batch.inputs), shift_keys, max_pixels=config.max_shift)
        images = augment.random_rotation(images, rotation_keys, max_degrees=config.max_rotation)
        logits, state = model.apply(params, state, images, noise_keys)
        targets = optax.smooth_labels(jax.nn.one_hot(batch.targets, 10), config.label_smoothing)
        return losses.softmax_cross_entropy(logits, targets) + l2 * losses.l2_penalty(params), state

    return loss_fn


def scale(images):
    """Pixels from 0 ... 255 to 0 ... 1."""
    return images / 255


def main(config: Config, run: Run) -> dict:
    """Trains the nets, and looks at the test set once, at the end."""
    splits = datasets.mnist(config.data_dir, num_validation=config.num_validation)
    train = Batch(*(leaf[: config.train_size] for leaf in splits.train))
    train, validation, test = jax.device_put((train, splits.validation, splits.test))
    model = cnn.from_flax(
        cnn.CNN(config.channels, hidden_size=config.hidden_size, batch_norm=config.batch_norm, dropout=config.dropout)
    )
    optimizer, loss_fn = make_optimizer(config), make_loss(config, model)

    # One program for all nets, one net after the other: side by side, their convolutions would be several times slower.
    @jax.jit
    def init(keys, example):
        return lax.map(lambda key: training.init_train_state(key, model, optimizer, example), keys)

    @functools.partial(jax.jit, static_argnames="num_steps", donate_argnums=0)
    def train_stretch(nets, train, num_steps):
        settings = {"loss_fn": loss_fn, "optimizer": optimizer, "batch_size": config.batch_size, "num_steps": num_steps}
        return lax.map(lambda net: training.train_steps(net, train, **settings), nets)

    @jax.jit
    def predict(nets, images):
        def logits(net):
            apply = functools.partial(model.apply, net.params, net.state)
            return training.map_batches(lambda images: apply(scale(images))[0], images, batch_size=250)

        return lax.map(logits, nets)

    @jax.jit
    def accuracies(nets, batch):
        return jax.vmap(metrics.accuracy, (0, None))(predict(nets, batch.inputs), batch.targets)

    seeds = range(config.seed, config.seed + config.num_seeds)
    nets = init(jax.vmap(jax.random.key)(jnp.array(seeds)), scale(train.inputs[:1]))
    nets, step = run.restore(nets, config.stops)
    images_per_step = config.batch_size * config.num_seeds
    with run.progress(config.num_steps * images_per_step, unit="images", done=step * images_per_step) as report:
        for stop in (stop for stop in config.stops if stop > step):
            nets, steps = train_stretch(nets, train, stop - step)
            finite = np.asarray(nets.step) == stop
            measured = {
                "train_loss": np.asarray(steps["loss"]).mean(axis=1),
                "validation_accuracy": np.asarray(accuracies(nets, validation)),
            }
            for index, seed in enumerate(seeds):
                values = {name: values[index].item() if finite[index] else None for name, values in measured.items()}
                run.log(step=stop, seed=seed, **values)
            run.checkpoint(stop, nets)
            if not finite.any():
                raise RunFailedError(say_divergence(config, nets.step, steps["loss"], step))
            loss, accuracy = (values[finite].mean() for values in measured.values())
            report(stop * images_per_step, loss=loss, val_accuracy=accuracy)
            step = stop
    train_seconds = run.train_seconds()

    finite = np.asarray(nets.step) == config.num_steps
    if not finite.any():
        raise RunFailedError("no net of this run is left, all diverged: begin a new one with a lower --learning-rate")
    logits = np.asarray(predict(nets, test.inputs))[finite]
    test_accuracies = np.asarray(jax.vmap(metrics.accuracy, (0, None))(logits, test.targets), float)
    draw(run, test, np.asarray(jax.nn.softmax(logits)))
    last = [row for row in run.read_log() if row["step"] == config.num_steps and row["train_loss"] is not None]
    return {
        "test_accuracy": test_accuracies.mean(),
        "test_accuracy_sd": test_accuracies.std(ddof=1) if len(test_accuracies) > 1 else None,
        **{name: np.mean([row[name] for row in last]) for name in ("train_loss", "validation_accuracy")},
        "learning_rate": config.peak_learning_rate,
        "num_seeds": config.num_seeds,
        "num_diverged": int((~finite).sum()),
        "num_parameters": sum(leaf[0].size for leaf in jax.tree.leaves(nets.params)),
        "num_steps": config.num_steps,
        "train_seconds": train_seconds,
        "train_per_seed_seconds": train_seconds / config.num_seeds,
    }


def say_divergence(config: Config, diverged_at, losses, first: int) -> str:
    """Where each net diverged; `losses` [nets, steps] are those of the stretch that began with step `first`.

    A net that had diverged before met its batch again in the first step of the stretch.
    """
    places = [
        f"seed {config.seed + index} at step {step} (loss {net_losses[max(step - first, 0)]:.4g}, "
        f"learning rate {make_schedule(config)(step):.4g})"
        for index, (step, net_losses) in enumerate(zip(diverged_at.tolist(), np.asarray(losses), strict=True))
    ]
    return f"the loss or its gradient is no longer finite: {', '.join(places)}. Lower --learning-rate"


def draw(run: Run, test: Batch, probabilities: np.ndarray):
    """Learning curves; digits and the worst mistakes of the first net; who is taken for whom by all nets."""
    log = run.read_log()
    steps = sorted({row["step"] for row in log})
    curves = {
        title: np.reshape(np.array([row[name] for row in log], float), (len(steps), -1)).T
        for title, name in (("training loss", "train_loss"), ("validation accuracy", "validation_accuracy"))
    }
    run.save_figure("learning_curves", plots.curves(steps, curves))

    labels, predictions = np.asarray(test.targets), probabilities.argmax(axis=-1)
    wrong = labels != predictions[0]
    shown = np.sort(np.concatenate([np.flatnonzero(wrong)[:10], np.flatnonzero(~wrong)[:50]]))
    titles = [f"{labels[i]} as {predictions[0][i]}" if wrong[i] else str(labels[i]) for i in shown]
    run.save_figure("predictions", plots.image_grid(test.inputs[shown], titles, wrong=wrong[shown]))

    of_label = probabilities[0][np.arange(len(labels)), labels]
    worst = np.argsort(of_label)[:30]
    titles = [f"{labels[i]} as {predictions[0][i]}\n{of_label[i]:.1%}" for i in worst]
    run.save_figure("worst_mistakes", plots.image_grid(test.inputs[worst], titles, wrong=wrong[worst]))

    counts = metrics.confusion_matrix(np.tile(labels, len(predictions)), predictions.ravel(), num_classes=10)
    title = f"{len(labels):,} test images, {len(predictions)} net{'s' * (len(predictions) > 1)}"
    run.save_figure("confusion_matrix", plots.confusion(counts, [str(digit) for digit in range(10)], title=title))


if __name__ == "__main__":
    quick = Config(epochs=2, num_train=2000, num_validation=500, eval_every=20)
    start(Config, main, quick=quick, data_sha256=datasets.SHA256["mnist"])
