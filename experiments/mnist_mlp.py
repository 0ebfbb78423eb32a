"""A fully connected network reads handwritten digits, as the deck trains it and as one would today.

The deck (page 18) trains a net 784-300-100-10 by mini-batch gradient descent: learning rate 0.01, 50 images a step, 30
epochs. Here that is done with ReLU and with tanh, and beside them by a modern recipe: batch normalisation, random
shifts, smoothed labels, Adam with one cycle of its learning rate. All nets of a recipe learn in one program.

Run:    make experiment NAME=mnist_mlp

Expect: test accuracy 97.57 % ± 0.11 % (ReLU), 96.73 % ± 0.16 % (tanh), 98.97 % ± 0.06 % (modern); mean ± sd of 5 seeds,
        2 CPU cores, JAX 0.10.1

Time:   3 min 20 s
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnn import augment, losses, metrics, models, training
from jaxnn.lab import datasets, plots
from jaxnn.lab.config import require, require_seeds
from jaxnn.lab.run import Run, RunFailedError, mean_and_sd, start


@dataclass(frozen=True)
class Config:
    """The net and its trainings."""

    hidden_sizes: tuple[int, ...] = (300, 100)  # neurons of the hidden layers
    learning_rate: float = 0.01  # of the deck's recipe
    epochs: int = 30  # of the deck's recipe
    modern_epochs: int = 8  # of the modern recipe
    num_train: int = 55_000  # train on the first so many images
    data_dir: Path | None = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: int = 0  # of the first net of each recipe
    num_seeds: int = 5  # nets of each recipe; the others take the seeds that follow

    def __post_init__(self):
        """Refuses what cannot be."""
        require(self, "hidden_sizes", all(1 <= size <= 10_000 for size in self.hidden_sizes), "in 1 ... 10000")
        require(self, "learning_rate", 0 < self.learning_rate < float("inf"), "finite and above 0")
        for name in ("epochs", "modern_epochs"):
            require(self, name, 1 <= getattr(self, name) <= 1000, "in 1 ... 1000")
        require(self, "num_train", 100 <= self.num_train <= 55_000, "in 100 ... 55000")
        require_seeds(self, most=100)


class Recipe(NamedTuple):
    """A net and how it is trained."""

    model: models.Model
    optimizer: optax.GradientTransformation
    epochs: int
    batch_size: int = 50
    max_shift: int = 0
    label_smoothing: float = 0.0


def make_recipes(config: Config) -> dict[str, Recipe]:
    """The deck's with two activation functions, and the modern one, whose settings were chosen on validation images."""
    sizes, epochs = config.hidden_sizes, config.modern_epochs
    sgd = optax.sgd(config.learning_rate)
    one_cycle = optax.cosine_onecycle_schedule(epochs * (config.num_train // 100), 0.005)
    modern = models.mlp(sizes, 10, batch_norm=True)
    return {
        "relu": Recipe(models.mlp(sizes, 10), sgd, config.epochs),
        "tanh": Recipe(models.mlp(sizes, 10, activation=jnp.tanh), sgd, config.epochs),
        "modern": Recipe(modern, optax.adam(one_cycle), epochs, batch_size=100, max_shift=1, label_smoothing=0.1),
    }


def flatten(images):
    """Images [number, 28, 28, 1] as inputs [number, 784] between 0 and 1."""
    return images.reshape(len(images), -1) / 255


def make_loss(recipe: Recipe):
    """Softmax cross-entropy."""

    def loss_fn(params, state, batch, keys):
        shift_keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        images = augment.random_shift(batch.inputs, shift_keys, max_pixels=recipe.max_shift)
        logits, state = recipe.model.apply(params, state, flatten(images), noise_keys)
        targets = optax.smooth_labels(jax.nn.one_hot(batch.targets, 10), recipe.label_smoothing)
        return losses.softmax_cross_entropy(logits, targets), state

    return loss_fn


def train(config: Config, run: Run, name: str, recipe: Recipe, data: datasets.Splits):
    """The nets of all seeds side by side, with a look at the validation images after each epoch."""
    steps_per_epoch = config.num_train // recipe.batch_size

    def init(key):
        return training.init_train_state(key, recipe.model, recipe.optimizer, flatten(data.train.inputs[:1]))

    @jax.jit
    def train_epoch(nets, train):
        def train_net(net):
            settings = {"optimizer": recipe.optimizer, "batch_size": recipe.batch_size, "num_steps": steps_per_epoch}
            return training.train_steps(net, train, loss_fn=make_loss(recipe), **settings)

        return jax.vmap(train_net)(nets)

    seeds = range(config.seed, config.seed + config.num_seeds)
    nets = jax.jit(jax.vmap(init))(jax.vmap(jax.random.key)(jnp.array(seeds)))
    advice = "" if name == "modern" else ": give a lower --learning-rate"
    run.say(f"{name}: {len(seeds)} nets, {recipe.epochs} epochs of {steps_per_epoch:,} steps")
    courses = []
    with run.progress(recipe.epochs * steps_per_epoch, unit="steps of each") as report:
        for epoch in range(1, recipe.epochs + 1):
            nets, steps = train_epoch(nets, data.train)
            loss = np.asarray(steps["loss"]).mean(axis=1)
            if (nets.step < epoch * steps_per_epoch).any():
                raise RunFailedError(f"{name} diverged in epoch {epoch}: loss or gradient is no longer finite{advice}")
            courses.append(np.asarray(accuracies(recipe.model.apply, nets, data.validation), float))
            for seed, value, accuracy in zip(seeds, loss, courses[-1], strict=True):
                row = {"train_loss": value.item(), "validation_accuracy": accuracy.item()}
                run.log(recipe=name, epoch=epoch, seed=seed, **row)
            report(epoch * steps_per_epoch, epoch=epoch, loss=loss.mean(), val_accuracy=courses[-1].mean())
    return nets, np.stack(courses, axis=1)


@functools.partial(jax.jit, static_argnames="apply")
def accuracies(apply, nets, batch):
    """Of each net, on all examples of the batch."""
    logits = jax.vmap(lambda net: apply(net.params, net.state, flatten(batch.inputs))[0])(nets)
    return jax.vmap(metrics.accuracy, (0, None))(logits, batch.targets)


def main(config: Config, run: Run) -> dict:
    """Draws digits, trains the nets of each recipe, and looks at the test set once, at the end."""
    data = datasets.mnist(config.data_dir)
    run.record(data_sha256=datasets.SHA256["mnist"])
    draw_digits(run, data.train)
    data = jax.device_put(data._replace(train=jax.tree.map(lambda leaf: leaf[: config.num_train], data.train)))
    recipes = make_recipes(config)
    nets, courses = {}, {}
    for name, recipe in recipes.items():
        nets[name], courses[name] = train(config, run, name, recipe, data)
    draw_weights(run, nets["relu"])
    errors = {name: (np.arange(1, course.shape[1] + 1), 1 - course) for name, course in courses.items()}
    panel = {f"error on validation images, {config.num_seeds} nets each": errors}
    run.save_figure("learning_curves", plots.lines(panel, xlabel="epoch", log="y"))
    found = {
        name: np.asarray(accuracies(recipe.model.apply, nets[name], data.test), float)
        for name, recipe in recipes.items()
    }
    found |= {f"{name}_minus_relu": found[name] - found["relu"] for name in ("tanh", "modern")}  # seed by seed
    summary = {}
    for name, values in found.items():
        summary |= mean_and_sd(f"{name}_test_accuracy", values)
    num_parameters = sum(leaf[0].size for leaf in jax.tree.leaves(nets["relu"].params))
    return summary | {"num_seeds": config.num_seeds, "num_parameters": num_parameters}


def draw_digits(run: Run, train):
    """Page 18: sixty digits and their labels."""
    run.save_figure("digits", plots.image_grid(train.inputs[:60], [str(label) for label in train.targets[:60]]))


def draw_weights(run: Run, nets):
    """What the first neurons of the first layer add up, of the first net."""
    weights = np.asarray(nets.params[0]["weight"][0])[:, :20]
    titles = [f"neuron {number}" for number in range(1, weights.shape[1] + 1)]
    run.save_figure("weights", plots.image_grid(weights.T.reshape(-1, 28, 28), titles, signed=True))


if __name__ == "__main__":
    start(Config, main, quick=Config(epochs=2, modern_epochs=2, num_train=2000, num_seeds=2))
