"""A fully connected network reads handwritten digits, as the deck trains it and as one would today.

The deck (page 18) trains a net 784-300-100-10 by mini-batch gradient descent: learning rate 0.01, 50 images a step, 30
epochs. Here that is done with ReLU and with tanh, and beside them by a modern recipe: batch normalisation, random
shifts, smoothed labels, Adam with one cycle of its learning rate. All nets of a recipe learn in one program.

Run:    make experiment NAME=mnist_mlp

Expect: test accuracy 97.56 % ± 0.11 % (ReLU), 96.69 % ± 0.12 % (tanh), 98.98 % ± 0.07 % (modern); mean ± sd of 5 seeds,
        2 CPU cores, JAX 0.10.1

Time:   4 min
"""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from pydantic import Field
from pydantic.dataclasses import dataclass

from jaxnn import augment, layers, losses, metrics, models, training
from jaxnn.lab import curves, datasets, net_diagrams, plots
from jaxnn.lab.config import DataDir, NumSeeds, Rate, Seed, Width
from jaxnn.lab.run import Run, RunFailedError, mean_and_sd
from jaxnn.lab.start import start


@dataclass(frozen=True)
class Config:
    """The net and its trainings."""

    hidden_sizes: tuple[Width, ...] = (300, 100)  # neurons of the hidden layers
    learning_rate: Rate = 0.01  # of the deck's recipe
    epochs: Annotated[int, Field(ge=1, le=1000)] = 30  # of the deck's recipe
    modern_epochs: Annotated[int, Field(ge=1, le=1000)] = 8  # of the modern recipe
    num_train: Annotated[int, Field(ge=100, le=55_000)] = 55_000  # train on the first so many images
    data_dir: DataDir = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: Seed = 0  # of the first net of each recipe
    num_seeds: NumSeeds = 5  # nets of each recipe; the others take the seeds that follow


class Recipe(NamedTuple):
    """A net and how it is trained."""

    model: models.Model  # takes pixels 0 ... 255
    optimizer: optax.GradientTransformation
    epochs: int
    batch_size: int = 50
    max_shift: int = 0
    label_smoothing: float = 0.0


def make_recipes(config: Config) -> dict[str, Recipe]:
    """The deck's with two activation functions, and the modern one, whose settings were chosen on validation images."""

    def mlp(**options):
        return models.preprocess(layers.flatten_pixels, models.mlp(config.hidden_sizes, 10, **options))

    sgd, epochs, batch_size = optax.sgd(config.learning_rate), config.modern_epochs, 100
    adam = optax.adam(optax.cosine_onecycle_schedule(epochs * (config.num_train // batch_size), peak_value=0.005))
    return {
        "relu": Recipe(mlp(), sgd, config.epochs),
        "tanh": Recipe(mlp(activation=jnp.tanh), sgd, config.epochs),
        "modern": Recipe(mlp(batch_norm=True), adam, epochs, batch_size, max_shift=1, label_smoothing=0.1),
    }


def make_loss(recipe: Recipe):
    """Softmax cross-entropy against smoothed labels, on images that are shifted at random."""

    def loss_fn(params, state, batch, key):
        shift_key, noise_key = jax.random.split(key)
        images = augment.random_shift(batch.inputs, shift_key, max_pixels=recipe.max_shift)
        logits, state = recipe.model.apply(params, state, images, noise_key)
        targets = optax.smooth_labels(jax.nn.one_hot(batch.targets, 10), recipe.label_smoothing)
        right = {"accuracy": logits.argmax(axis=-1) == batch.targets}
        return losses.softmax_cross_entropy(logits, targets), state, right

    return loss_fn


def make_nets(config: Config, name: str):
    """Of a recipe the model, the loss, the optimizer, and the nets of all seeds before the first step."""
    recipe, image = make_recipes(config)[name], jnp.zeros((1, 28, 28, 1), jnp.uint8)
    init = jax.jit(jax.vmap(lambda key: training.init_train_state(key, recipe.model, recipe.optimizer, image)))
    nets = init(training.seed_keys(config.seed, config.num_seeds))
    return recipe.model, make_loss(recipe), recipe.optimizer, nets


def train(config: Config, run: Run, name: str, recipe: Recipe, data: datasets.Splits) -> training.TrainState:
    """Trains the nets of all seeds side by side, and evaluates them on the validation images after each epoch."""
    _, loss_fn, _, nets = make_nets(config, name)

    @jax.jit(static_argnames="num_steps")
    def train_nets(nets, examples, num_steps):
        sizes = {"batch_size": recipe.batch_size, "num_steps": num_steps}
        return jax.vmap(lambda net: training.train_steps(net, examples, loss_fn, recipe.optimizer, **sizes))(nets)

    epoch_steps = config.num_train // recipe.batch_size
    chunks = run.chunks(nets, recipe.epochs * epoch_steps, every=epoch_steps, name=name)
    run.say(f"{name}: {config.num_seeds} nets")
    for step, num_steps in chunks:
        chunks.state, step_metrics = train_nets(chunks.state, data.train, num_steps)
        if (chunks.state.step < step).any():  # a step whose loss or gradient is not finite is not taken
            raise RunFailedError(f"{name} diverged before step {step}: the deck's recipes need a lower --learning-rate")
        row = {f"train_{column}": step_metrics[column].mean(axis=1) for column in ("loss", "accuracy")}
        row["validation_accuracy"] = accuracies(recipe.model, chunks.state, data.validation)
        run.log_seeds(config.seed, recipe=name, epoch=step // epoch_steps, **row)
    return chunks.state


@jax.jit(static_argnames="model")
def accuracies(model, nets, batch):
    """The accuracy of each net on all examples of the batch."""
    logits = jax.vmap(lambda net: model.apply(net.params, net.state, batch.inputs)[0])(nets)
    return metrics.accuracies(logits, batch.targets)


def draw(config: Config, run: Run, digits, nets: dict[str, training.TrainState]):
    """Sixty digits (page 18), learning curves, the net, and what the first ReLU net's first layer learned."""
    labels = [*map(str, digits.targets[:60])]
    run.save_figure("digits", plots.image_grid(digits.inputs[:60], labels, heading="Sixty digits and their labels"))
    titles = "ReLU, as the deck trains", "tanh, as the deck trains", "modern, on shifted digits"
    run.save_figure("learning_curves", curves.errors(run.read_log(), titles, kind="recipe"))
    weights = [np.asarray(net.params[0]["weight"][0]) for net in (make_nets(config, "relu")[3], nets["relu"])]
    run.save_figure("weights", net_diagrams.learned_weights(*weights, shape=(28, 28)))
    run.save_figure("net", net_diagrams.mlp((784, *config.hidden_sizes, 10)))


def main(config: Config, run: Run) -> dict:
    """Trains the nets of each recipe, evaluates them on the test images, once, and compares them seed by seed."""
    data, recipes = jax.device_put(datasets.mnist(config.data_dir, num_train=config.num_train)), make_recipes(config)
    run.record(data_sha256=datasets.SHA256["mnist"])
    nets = {name: train(config, run, name, recipe, data) for name, recipe in recipes.items()}
    draw(config, run, data.train, nets)
    tested = {name: np.asarray(accuracies(recipes[name].model, nets[name], data.test), float) for name in nets}
    tested |= {f"{name}_minus_relu": tested[name] - tested["relu"] for name in ("tanh", "modern")}
    summary = {}
    for name, values in tested.items():
        summary |= mean_and_sd(f"{name}_test_accuracy", values)
    num_parameters = optax.tree.size(nets["relu"].params) // config.num_seeds
    return summary | {"num_seeds": config.num_seeds, "num_parameters": num_parameters}


if __name__ == "__main__":
    start(Config, main, quick=Config(epochs=2, modern_epochs=2, num_train=2000, num_seeds=2), resumable=True)
