"""A convolutional network reads handwritten digits.

The deck (pages 19-20) builds a CNN from convolution, pooling and dense layers, and names batch normalisation, dropout
and better optimizers as what makes it train well. Here they are together, on MNIST.

Run:    make experiment NAME=mnist_cnn ARGS="--num-seeds 5"

Expect: test accuracy 99.59 % ± 0.01 % (mean ± sd of 5 seeds), 44 s of training per seed on 2 CPU cores (JAX 0.10.1)

Time:   50 s
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxnn import augment, cnn, losses, metrics, training
from jaxnn.lab import datasets, plots
from jaxnn.lab.config import BadUsageError, require, require_seeds
from jaxnn.lab.run import Run, RunFailedError, mean_and_sd, start
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

    dataset: Literal["mnist", "fashion_mnist"] = "mnist"  # handwritten digits, or photographs of clothes
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
    patience: int | None = None  # stop a net after so many looks without a better one, and keep its best
    num_devices: int = 1  # devices that share each batch; on CPU virtual ones, at best one per core
    micro_batch: int | None = (
        None  # images whose gradient is computed at once; None is all, or less where that is faster and changes nothing
    )
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
        fits = self.num_devices >= 1 and self.batch_size % self.num_devices == 0
        require(self, "num_devices", fits, f"1 or more, and divide the batch size {self.batch_size}")
        micro_batch = self.batch_size if self.micro_batch is None else self.micro_batch
        fits = micro_batch >= 1 and self.batch_size % micro_batch == 0 and micro_batch % self.num_devices == 0
        require(self, "micro_batch", fits, f"a divisor of the batch size {self.batch_size}, shared by the devices")
        require(self, "channels", min(self.channels) >= 1, "1 or more")
        require(self, "learning_rate", 0 < self.peak_learning_rate < math.inf, "finite and above 0")
        for name in ("hidden_size", "epochs", "eval_every"):
            require(self, name, 1 <= getattr(self, name) < 2**31, "1 or more, below 2**31")
        require(self, "epochs", self.num_steps < 2**31, "fewer")
        require(self, "patience", self.patience is None or self.patience >= 1, "1 or more")
        require_seeds(self)
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
    weights_of = functools.partial(jax.tree.map, losses.is_weight)
    make = {
        "sgd": optax.sgd,
        "momentum": functools.partial(optax.sgd, momentum=config.momentum),
        "nesterov": functools.partial(optax.sgd, momentum=config.momentum, nesterov=True),
        "adagrad": optax.adagrad,
        "rmsprop": optax.rmsprop,
        "adam": optax.adam,
        "adamw": functools.partial(optax.adamw, weight_decay=config.l2, mask=weights_of),
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


def choose_micro_batch(config: Config) -> int:
    """What was asked for; else the whole batch, but on CPU at most 128 images if no batch norm would notice."""
    if config.micro_batch is not None:
        return config.micro_batch
    if config.batch_norm or jax.default_backend() != "cpu":
        return config.batch_size
    sizes = [size for size in range(32, 129) if config.batch_size % size == size % config.num_devices == 0]
    return max(sizes, default=config.batch_size)


def make_mesh(config: Config) -> Mesh:
    """The devices that share each batch."""
    try:
        return training.batch_mesh(config.batch_size, num_devices=config.num_devices)
    except ValueError as error:
        raise BadUsageError(f"--num-devices {config.num_devices}: {error}") from error


def load_data(config: Config, run: Run) -> datasets.Splits:
    """The data set, with as many training images as were asked for."""
    load = {"mnist": datasets.mnist, "fashion_mnist": datasets.fashion_mnist}[config.dataset]
    splits = load(config.data_dir, num_validation=config.num_validation)
    run.record(data_sha256=datasets.SHA256[config.dataset])
    train = Batch(*(leaf[: config.train_size] for leaf in splits.train))
    return splits._replace(train=train)


def train_nets(config: Config, run: Run, model, predict, mesh: Mesh, train: Batch, validation: Batch):
    """The nets, trained stretch by stretch, with a look at the validation set and a checkpoint after each."""
    optimizer, loss_fn = make_optimizer(config), make_loss(config, model)
    patience = config.patience or 1  # without early stopping, the later look counts as the better
    is_training = functools.partial(training.is_training, patience=patience)

    # One program for all nets, one net after the other: side by side, their convolutions would be several times slower.
    @jax.jit
    def init(keys, example):
        def init_net(key):
            return training.init_early_stopping(training.init_train_state(key, model, optimizer, example))

        return lax.map(init_net, keys)

    @functools.partial(jax.jit, static_argnames="num_steps")
    def train_stretch(train_states, active, train, num_steps):
        def train_net(train_state):
            return training.train_steps(
                train_state,
                train,
                loss_fn=loss_fn,
                optimizer=optimizer,
                batch_size=config.batch_size,
                num_steps=num_steps,
                micro_batch=choose_micro_batch(config),
                mesh=mesh,
            )

        def rest(train_state):
            return train_state, {"loss": jnp.full(num_steps, jnp.nan)}

        return lax.map(lambda net: lax.cond(net[0], train_net, rest, net[1]), (active, train_states))

    @jax.jit
    def accuracies(nets, batch):
        return jax.vmap(metrics.accuracy, (0, None))(predict(nets, batch.inputs), batch.targets)

    look = jax.jit(jax.vmap(functools.partial(training.update_early_stopping, patience=patience)))

    seeds = range(config.seed, config.seed + config.num_seeds)
    nets = init(jax.vmap(jax.random.key)(jnp.array(seeds)), scale(train.inputs[:1]))
    nets, step = run.restore(nets, config.stops)
    nets = jax.device_put(nets, train.inputs.sharding)
    run.profile(lambda: train_stretch(nets.train_state, np.arange(len(seeds)) == 0, train, 10))
    total, done = (num_steps * config.num_seeds * config.batch_size for num_steps in (config.num_steps, step))
    with run.progress(total, unit="images", done=done) as report:
        for stop in (stop for stop in config.stops if stop > step):
            active = np.asarray(is_training(nets))
            if not active.any():
                break
            train_states, steps = train_stretch(nets.train_state, active, train, stop - step)
            losses, accuracy = np.asarray(steps["loss"]), np.asarray(accuracies(train_states, validation))
            finite = active & (np.asarray(train_states.step) == stop)
            nets = look(nets, train_states, np.where(finite, accuracy if config.patience else stop, np.nan))
            stopped = active & ~np.asarray(is_training(nets)) & finite
            for net in np.flatnonzero(active):
                row = {"train_loss": losses[net].mean().item(), "validation_accuracy": accuracy[net].item()}
                run.log(step=stop, seed=seeds[net], **(row if finite[net] else dict.fromkeys(row)))
            for net in np.flatnonzero(active & ~finite):
                run.say(say_divergence(config, seeds[net], train_states.step[net].item(), losses[net], step))
            for net in np.flatnonzero(stopped):
                run.say(f"seed {seeds[net]} stopped at step {stop:,}, its best was at step {nets.step[net]:,}")
            run.checkpoint(stop, nets)
            done += active.sum() * (stop - step) * config.batch_size
            if finite.any():
                means = {"loss": losses[finite].mean(), "val_accuracy": accuracy[finite].mean()}
                report(done, step=stop, **means)
            step = stop
    return nets


def main(config: Config, run: Run) -> dict:
    """Trains the nets, and looks at the test set once, at the end."""
    mesh = make_mesh(config)
    train, validation, test = jax.device_put(load_data(config, run), NamedSharding(mesh, PartitionSpec()))
    model = cnn.from_flax(
        cnn.CNN(config.channels, hidden_size=config.hidden_size, batch_norm=config.batch_norm, dropout=config.dropout)
    )

    batch_size = config.num_devices * math.ceil(250 / config.num_devices)  # which the devices can share

    @jax.jit
    def predict(nets, images):
        def logits(net):
            apply = functools.partial(model.apply, net.params, net.state)
            predict_batch = lambda images: apply(scale(images))[0]  # noqa: E731
            return training.map_batches(predict_batch, images, batch_size=batch_size, mesh=mesh)

        return lax.map(logits, nets)

    nets = train_nets(config, run, model, predict, mesh, train, validation)
    train_seconds = run.train_seconds()
    left = ~np.asarray(nets.failed)
    if not left.any():
        raise RunFailedError("no net of this run is left, all diverged: begin a new one with a lower --learning-rate")
    logits = np.asarray(predict(nets, test.inputs))[left]
    test_accuracies = np.asarray(jax.vmap(metrics.accuracy, (0, None))(logits, test.targets), float)
    kept_steps = dict(zip(np.flatnonzero(left) + config.seed, np.asarray(nets.step)[left], strict=True))
    kept = [row for row in run.read_log() if row["step"] == kept_steps.get(row["seed"])]
    draw(run, test, np.asarray(jax.nn.softmax(logits)), datasets.CLASS_NAMES[config.dataset])
    return {
        **mean_and_sd("test_accuracy", test_accuracies),
        **{name: np.mean([row[name] for row in kept]) for name in ("train_loss", "validation_accuracy")},
        "learning_rate": config.peak_learning_rate,
        "micro_batch": choose_micro_batch(config),
        "num_seeds": config.num_seeds,
        "num_diverged": int((~left).sum()),
        "num_parameters": sum(leaf[0].size for leaf in jax.tree.leaves(nets.params)),
        "num_steps": nets.train_state.step.max().item(),
        "kept_step": np.mean([*kept_steps.values()]).item(),
        "train_seconds": train_seconds,
        "train_per_seed_seconds": train_seconds / config.num_seeds,
    }


def say_divergence(config: Config, seed: int, step: int, losses, first: int) -> str:
    """Where the net of a seed diverged; `losses` are those of the stretch that began with step `first`."""
    return (
        f"seed {seed} diverged at step {step}: its loss ({losses[step - first]:.4g}) or the gradient is no longer "
        f"finite, at learning rate {make_schedule(config)(step):.4g}"
    )


def draw(run: Run, test: Batch, probabilities: np.ndarray, class_names: Sequence[str]):
    """Learning curves; images and the worst mistakes of the first net; what is taken for what by all nets."""
    log = run.read_log()
    steps, seeds = (sorted({row[name] for row in log}) for name in ("step", "seed"))
    curves = {}
    for title, name in (("training loss", "train_loss"), ("validation accuracy", "validation_accuracy")):
        values = {(row["seed"], row["step"]): row[name] for row in log}
        curves[title] = np.array([[values.get((seed, step)) for step in steps] for seed in seeds], float)
    run.save_figure("learning_curves", plots.curves(steps, curves))

    labels, predictions = np.asarray(test.targets), probabilities.argmax(axis=-1)
    wrong = labels != predictions[0]
    titles = [class_names[label] for label in labels]
    for index in np.flatnonzero(wrong):
        titles[index] += f"\nas {class_names[predictions[0][index]]}"
    shown = np.sort(np.concatenate([np.flatnonzero(wrong)[:10], np.flatnonzero(~wrong)[:50]]))
    figure = plots.image_grid(test.inputs[shown], [titles[index] for index in shown], wrong=wrong[shown])
    run.save_figure("predictions", figure)

    of_label = probabilities[0][np.arange(len(labels)), labels]
    worst = np.lexsort((of_label, ~wrong))[:30]  # mistakes first
    figure = plots.image_grid(
        test.inputs[worst], [f"{titles[index]}\n{of_label[index]:.1%}" for index in worst], wrong=wrong[worst]
    )
    run.save_figure("worst_mistakes", figure)

    counts = metrics.confusion_matrix(np.tile(labels, len(predictions)), predictions.ravel(), num_classes=10)
    title = f"{len(labels):,} test images, {len(predictions)} net{'s' * (len(predictions) > 1)}"
    run.save_figure("confusion_matrix", plots.confusion(counts, class_names, title=title))


if __name__ == "__main__":
    quick = Config(epochs=2, num_train=2000, num_validation=500, eval_every=20)
    start(Config, main, quick=quick)
