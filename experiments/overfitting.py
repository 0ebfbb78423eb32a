"""Overfitting a few digits, and what helps: penalties, early stopping, dropout, more data made of the same.

The deck (page 20) names as cures of overfitting ℓ1 and ℓ2 penalties, early stopping, data augmentation and dropout.
Here a net 784-300-100-10 learns from 1,000 digits, with none of them, with each, and with all. Early stopping looks at
the loss on 5,000 other digits; on these, too, the strengths of the other cures were chosen, by accuracy.

Run:    make experiment NAME=overfitting

Expect: test accuracy (10 seeds) 90.1 % ± 0.7 % with nothing; gains, seed by seed: l1 -0.1 ± 0.1, l2 -0.1 ± 0.1, early
        stopping -0.5 ± 0.6, dropout 1.1 ± 0.2, augmentation 5.3 ± 0.6, all 5.2 ± 0.5 points; the test loss, 0.50 ± 0.05
        with nothing, is lower with each: l2 0.36 ± 0.03, early stopping 0.41 ± 0.04, all 0.15 ± 0.01

Time:   2 min 30 s
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnn import augment, losses, metrics, models, training
from jaxnn.lab import datasets, plots
from jaxnn.lab.config import require, require_seeds
from jaxnn.lab.run import Run, mean_and_sd, start
from jaxnn.types import Batch

HIDDEN_SIZES = (300, 100)


class Cure(NamedTuple):
    """What is done against overfitting; the strengths are the best of coarse grids, by validation accuracy."""

    l1: float = 0.0
    l2: float = 0.0
    dropout: float = 0.0
    max_shift: int = 0
    max_rotation: float = 0.0
    stops_early: bool = False


Name = Literal["nothing", "l1", "l2", "early stopping", "dropout", "augmentation", "all"]
CURES: dict[Name, Cure] = {
    "nothing": Cure(),
    "l1": Cure(l1=3e-5),
    "l2": Cure(l2=1e-3),
    "early stopping": Cure(stops_early=True),
    "dropout": Cure(dropout=0.5),
    "augmentation": Cure(max_shift=2, max_rotation=15.0),
    "all": Cure(l1=1e-5, l2=3e-4, dropout=0.2, max_shift=2, max_rotation=10.0, stops_early=True),
}


@dataclass(frozen=True)
class Config:
    """Data and trainings."""

    cures: tuple[Name, ...] = tuple(CURES)  # those that are compared with nothing
    num_train: int = 1000  # digits to learn from, others for each seed
    epochs: int = 60  # passes over them
    eval_every: int = 5  # epochs between two looks at the validation images
    patience: int = 4  # early stopping after so many looks without a better one
    data_dir: Path | None = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: int = 0  # of the first net of each kind
    num_seeds: int = 10  # nets of each kind; the others take the seeds that follow

    def __post_init__(self):
        """Refuses what cannot be."""
        fits = "nothing" in self.cures and len(set(self.cures)) == len(self.cures)
        require(self, "cures", fits, '"nothing" and any others, all different')
        require(self, "num_train", 50 <= self.num_train <= 10_000, "in 50 ... 10000")
        require(self, "eval_every", 1 <= self.eval_every <= 1000, "in 1 ... 1000")
        fits = 1 <= self.epochs <= 10_000 and self.epochs % self.eval_every == 0
        require(self, "epochs", fits, f"a multiple of --eval-every {self.eval_every}, at most 10000")
        require(self, "patience", 1 <= self.patience <= 10_000, "in 1 ... 10000")
        require_seeds(self, most=100)


def flatten(images):
    """Images [number, 28, 28, 1] as inputs [number, 784]."""
    return images.reshape(len(images), -1)


def scale(images):
    """Pixels from 0 ... 255 to 0 ... 1."""
    return images / 255


def make_loss(cure: Cure, model: models.Model):
    """Softmax cross-entropy on augmented images, and the penalties."""

    def loss_fn(params, state, batch, keys):
        shift_keys, rotation_keys, noise_keys = jax.vmap(jax.random.split, (0, None), 1)(keys, 3)
        images = augment.random_shift(scale(batch.inputs), shift_keys, max_pixels=cure.max_shift)
        images = augment.random_rotation(images, rotation_keys, max_degrees=cure.max_rotation)
        logits, state = model.apply(params, state, flatten(images), noise_keys)
        penalty = cure.l1 * losses.l1_penalty(params) + cure.l2 * losses.l2_penalty(params)
        return losses.softmax_cross_entropy(logits, batch.targets) + penalty, state

    return loss_fn


def evaluate(params, batch: Batch):
    """The mean loss, without penalties, and the accuracy."""
    logits, _ = models.mlp(HIDDEN_SIZES, 10).apply(params, {}, flatten(scale(batch.inputs)))
    loss = losses.softmax_cross_entropy(logits, batch.targets).mean()
    return jnp.stack([loss, metrics.accuracy(logits, batch.targets)])


def train(config: Config, run: Run, name: Name, keys, own: Batch, validation: Batch, report):
    """The nets of all seeds side by side, from their keys; `own` has the digits of each [seeds, num_train, ...]."""
    cure = CURES[name]
    model = models.mlp(HIDDEN_SIZES, 10, dropout=cure.dropout)
    optimizer = optax.sgd(optax.cosine_decay_schedule(0.05, config.epochs * (config.num_train // 50)), momentum=0.9)
    loss_fn = make_loss(cure, model)

    def init(key):
        net = training.init_train_state(key, model, optimizer, flatten(scale(own.inputs[0, :1])))
        return training.init_early_stopping(net)

    @jax.jit
    def stretch(nets, own, validation):
        def one(stopping, own):
            num_steps = config.eval_every * (config.num_train // 50)
            settings = {"loss_fn": loss_fn, "optimizer": optimizer, "batch_size": 50, "num_steps": num_steps}
            net, _ = training.train_steps(stopping.train_state, own, **settings)
            look = jnp.stack([evaluate(net.params, own), evaluate(net.params, validation)])
            look = jnp.where(training.is_training(stopping, patience=config.patience), look, jnp.nan)  # it has stopped
            score = -look[1, 0] if cure.stops_early else net.step.astype(float)  # without, the later is the better
            return training.update_early_stopping(stopping, net, score, patience=config.patience), look

        return jax.vmap(one)(nets, own)

    nets, looks = jax.jit(jax.vmap(init))(keys), []
    for epoch in range(config.eval_every, config.epochs + 1, config.eval_every):
        nets, look = stretch(nets, own, validation)
        looks.append(np.asarray(look, float))
        for seed, ((train_loss, train_accuracy), (loss, accuracy)) in enumerate(looks[-1], config.seed):
            row = {"train_loss": train_loss, "train_accuracy": train_accuracy}
            row |= {"validation_loss": loss, "validation_accuracy": accuracy}
            if np.isfinite([*row.values()]).all():
                run.log(cure=name, epoch=epoch, seed=seed, **row)
        left = looks[-1][np.isfinite(looks[-1]).all(axis=(1, 2))]
        if not len(left):
            break
        report(epoch, epoch=epoch, val_accuracy=left[:, 1, 1].mean())
    gaps = [np.full_like(looks[0], np.nan)] * (config.epochs // config.eval_every - len(looks))
    return nets, np.stack(looks + gaps, axis=1)


def main(config: Config, run: Run) -> dict:
    """Trains all nets, and looks at the test set once, at the end."""
    data = jax.device_put(datasets.mnist(config.data_dir))
    run.record(data_sha256=datasets.SHA256["mnist"])

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def draw_digits(key, train):
        drawn = jax.random.permutation(key, len(train.targets))[: config.num_train]
        return jax.tree.map(lambda leaf: leaf[drawn], train)

    seeds = jnp.arange(config.seed, config.seed + config.num_seeds)
    digits_keys, net_keys = jax.vmap(lambda seed: jax.random.split(jax.random.key(seed)))(seeds).T
    own = draw_digits(digits_keys, data.train)
    nets, courses = {}, {}
    with run.progress(len(config.cures) * config.epochs, unit="epochs") as report:
        for number, name in enumerate(config.cures):
            run.say(f"{config.num_seeds} nets, {name}")
            report_more = lambda done, before=number * config.epochs, **values: report(before + done, **values)  # noqa: E731
            nets[name], courses[name] = train(config, run, name, net_keys, own, data.validation, report_more)
    on_own, on_test = jax.jit(jax.vmap(evaluate)), jax.jit(jax.vmap(evaluate, (0, None)))
    ends = {
        name: np.asarray(jnp.stack([on_own(net.params, own), on_test(net.params, data.test)], axis=1), float)
        for name, net in nets.items()
    }
    draw(config, run, courses, ends)
    return summarize(config, ends)


def draw(config: Config, run: Run, courses, ends):
    """The loss on both kinds of digits while all nets of a cure learn; errors and losses on the test set at the end."""
    epochs = np.arange(config.eval_every, config.epochs + 1, config.eval_every)
    courses = {name: np.where(np.isnan(course).any(axis=0), np.nan, course) for name, course in courses.items()}
    panels = {
        f"loss on {digits} digits": {name: (epochs, course[:, :, part, 0]) for name, course in courses.items()}
        for part, digits in enumerate(("training", "validation"))
    }
    run.save_figure("learning_curves", plots.lines(panels, xlabel="epoch", log="y"))
    panels = {
        "share of errors on the test set": {name: 1 - end[:, 1, 1] for name, end in ends.items()},
        "loss on the test set": {name: end[:, 1, 0] for name, end in ends.items()},
    }
    run.save_figure("test_set", plots.spread(panels, ylabel=""))


def summarize(config: Config, ends) -> dict:
    """Of each cure, mean ± sd: test accuracy and loss, gap to the training digits, gains over nothing seed by seed."""
    summary: dict[str, int | float | None] = {"num_seeds": config.num_seeds, "num_train": config.num_train}
    for name, end in ends.items():
        (_, train_accuracy), (test_loss, test_accuracy) = np.moveaxis(end, 0, -1)
        columns = {"test_accuracy": test_accuracy, "test_loss": test_loss, "gap": train_accuracy - test_accuracy}
        if name != "nothing":
            columns["gain"] = test_accuracy - ends["nothing"][:, 1, 1]
            columns["loss_gain"] = ends["nothing"][:, 1, 0] - test_loss
        for column, numbers in columns.items():
            summary |= mean_and_sd(f"{name.replace(' ', '_')}_{column}", numbers)
    return summary


if __name__ == "__main__":
    start(Config, main, quick=Config(("nothing", "all"), num_train=100, epochs=10, num_seeds=2))
