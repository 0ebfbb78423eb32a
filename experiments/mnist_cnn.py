"""A convolutional network reads handwritten digits.

The deck (pages 19-20) builds a CNN from convolution, pooling and dense layers, and names batch normalisation, dropout
and better optimizers as what makes it train well. Here they are together on MNIST.

Run:    make experiment NAME=mnist_cnn ARGS="--num-seeds 5"
Expect: TO BE MEASURED
"""

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxnn import augment, cnn, losses, metrics, training
from jaxnn.lab import datasets, run
from jaxnn.types import Batch


@dataclass(frozen=True)
class Config:
    """Settings of the net and of its training."""

    channels: tuple[int, int] = (24, 32)  # channels of the two convolutions, 5x5 and 3x3
    hidden_size: int = 256  # neurons of the dense layer
    batch_norm: bool = True  # batch normalisation after each hidden layer
    dropout: float = 0.2  # share of the dense layer's neurons dropped in training
    max_shift: int = 1  # augmentation: shift by up to so many pixels
    max_rotation: float = 0.0  # augmentation: rotate by up to so many degrees
    optimizer: Literal["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "muon"] = "adam"
    learning_rate: float = 0.005  # the highest of the schedule
    momentum: float = 0.9  # of the optimizers momentum and nesterov
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"  # course of the learning rate
    batch_size: int = 64
    epochs: int = 8
    label_smoothing: float = 0.1  # share of the label's probability spread over all classes
    l2: float = 0.0  # times the sum of squared weights, in the loss; adamw: its decoupled weight decay
    num_train: int | None = None  # train on the first so many images only (default: all but validation)
    num_validation: int = 5000  # images held out of the training set
    eval_every: int = 400  # steps between two looks at the validation set
    data_dir: Path | None = None  # data folder (default: $JAXNN_DATA_DIR, else ~/.cache/jaxnn)
    seed: int = 0  # of the first net
    num_seeds: int = 1  # nets to train, with seeds from `seed` on


def make_optimizer(config: Config, num_steps: int) -> optax.GradientTransformation:
    """The optimizer by its name, with its learning rate on the schedule."""
    peak = config.learning_rate
    rate = {
        "one-cycle": optax.cosine_onecycle_schedule(num_steps, peak, pct_start=0.3),
        "cosine": optax.cosine_decay_schedule(peak, num_steps),
        "constant": optax.constant_schedule(peak),
    }[config.schedule]
    return {
        "sgd": lambda: optax.sgd(rate),
        "momentum": lambda: optax.sgd(rate, momentum=config.momentum),
        "nesterov": lambda: optax.sgd(rate, momentum=config.momentum, nesterov=True),
        "adagrad": lambda: optax.adagrad(rate),
        "rmsprop": lambda: optax.rmsprop(rate),
        "adam": lambda: optax.adam(rate),
        "adamw": lambda: optax.adamw(rate, weight_decay=config.l2),
        "muon": lambda: optax.contrib.muon(rate),
    }[config.optimizer]()


def make_loss(config: Config, model):
    """Softmax cross-entropy on augmented images, with smoothed labels and an l2 penalty."""

    def loss_fn(params, state, batch, keys):
        shift_keys, rotation_keys, noise_keys = jax.vmap(jax.random.split, (0, None), 1)(keys, 3)
        images = batch.inputs / 255
        images = augment.random_shift(images, shift_keys, max_pixels=config.max_shift)
        images = augment.random_rotation(images, rotation_keys, max_degrees=config.max_rotation)
        targets = optax.smooth_labels(jax.nn.one_hot(batch.targets, 10), config.label_smoothing)
        logits, state = model.apply(params, state, images, noise_keys)
        penalty = 0 if config.optimizer == "adamw" else config.l2 * losses.l2_penalty(params)
        return losses.softmax_cross_entropy(logits, targets) + penalty, state

    return loss_fn


def main(config: Config, run: run.Run) -> dict:
    """Trains the nets, chooses nothing by the test set, and tests once."""
    splits = datasets.mnist(config.data_dir, num_validation=config.num_validation)
    train, validation, test = jax.device_put(splits._replace(train=Batch(*(leaf[: config.num_train] for leaf in splits.train))))
    num_train = len(train.targets)
    num_steps = config.epochs * (num_train // config.batch_size)
    model = cnn.from_flax(
        cnn.CNN(config.channels, hidden_size=config.hidden_size, batch_norm=config.batch_norm, dropout=config.dropout)
    )
    optimizer = make_optimizer(config, num_steps)
    loss_fn = make_loss(config, model)

    # All nets in one program, one after the other: on CPU that costs less than a batch of convolutions.
    @jax.jit
    def init(keys):
        return lax.map(lambda key: training.init_train_state(key, model, optimizer, train.inputs[:1] / 255), keys)

    @functools.partial(jax.jit, static_argnames="num_steps", donate_argnums=0)
    def train_stretch(train_states, train, num_steps):
        step = functools.partial(
            training.train_steps, loss_fn=loss_fn, optimizer=optimizer, batch_size=config.batch_size, num_steps=num_steps
        )
        return lax.map(lambda train_state: step(train_state, train), train_states)

    @jax.jit
    def predict(train_states, images):
        def logits(train_state):
            apply = lambda images: model.apply(train_state.params, train_state.state, images / 255)[0]
            return training.map_batches(apply, images, batch_size=250)

        return lax.map(logits, train_states)

    def accuracies(logits, labels):
        return np.array([metrics.accuracy(net, labels) for net in logits], float)

    train_states = init(jnp.stack([jax.random.key(config.seed + index) for index in range(config.num_seeds)]))
    started = time.perf_counter()
    history = []
    with run.progress(num_steps * config.batch_size * config.num_seeds, unit="images") as report:
        for step in range(0, num_steps, config.eval_every):
            stop = min(step + config.eval_every, num_steps)
            train_states, measured = train_stretch(train_states, train, stop - step)
            train_loss = np.array(measured["loss"].mean(axis=1), float)
            accuracy = accuracies(predict(train_states, validation.inputs), validation.targets)
            history.append((stop, train_loss, accuracy))
            for index in range(config.num_seeds):
                run.log(step=stop, seed=config.seed + index, train_loss=train_loss[index], validation_accuracy=accuracy[index])
            report(stop * config.batch_size * config.num_seeds, loss=train_loss.mean(), validation_accuracy=accuracy.mean())
    train_seconds = time.perf_counter() - started

    logits = predict(train_states, test.inputs)
    test_accuracies = accuracies(logits, test.targets)
    draw(run, history, test, np.argmax(logits, axis=-1))
    return {
        "test_accuracy": test_accuracies.mean(),
        "test_accuracy_sd": test_accuracies.std(ddof=1) if config.num_seeds > 1 else None,
        "validation_accuracy": history[-1][2].mean(),
        "train_loss": history[-1][1].mean(),
        "num_seeds": config.num_seeds,
        "num_parameters": sum(leaf[0].size for leaf in jax.tree.leaves(train_states.params)),
        "num_steps": num_steps,
        "train_seconds": train_seconds,
        "train_seconds_per_seed_seconds": train_seconds / config.num_seeds,
    }


if __name__ == "__main__":
    run.start(Config, main, quick=Config(epochs=1, num_train=4000, num_validation=1000, eval_every=20), data_checksums=datasets.MNIST_SHA256)
