"""Deep networks: which gradients vanish or explode, and which networks learn at all.

The deck (page 20) names vanishing and exploding gradients as what makes deep networks hard to train, and as cures the
initialisation, ReLU and batch normalisation. Here networks of 2 to 50 hidden layers learn digits: three activation
functions, three initialisations, with and without batch normalisation, each at the best of a few learning rates.

Run:    make experiment NAME=vanishing_gradients

Expect: ?

Time:   4 min
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnn import backprop, losses, metrics, models, training
from jaxnn.lab import datasets, plots
from jaxnn.lab.config import require
from jaxnn.lab.run import Run, start

ACTIVATIONS = {"logistic": backprop.LOGISTIC, "tanh": backprop.TANH, "ReLU": backprop.RELU}
INITIALISATIONS = {  # of the weights; fan-in is the number of a neuron's inputs
    "naive": jax.nn.initializers.normal(0.01),
    "Glorot": jax.nn.initializers.glorot_normal(),  # variance 2 / (fan-in + fan-out)
    "He": jax.nn.initializers.he_normal(),  # variance 2 / fan-in
}
NUM_PROBES = 500  # images on which gradients are measured


@dataclass(frozen=True)
class Config:
    """Networks and their trainings."""

    depths: tuple[int, ...] = (2, 5, 10, 20, 50)  # hidden layers
    width: int = 50  # neurons of each hidden layer
    learning_rates: tuple[float, ...] = (0.1, 0.01, 0.001)  # each net's is the best of them, on validation images
    num_steps: int = 300  # of each training: 50 images each, momentum 0.9
    data_dir: Path | None = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: int = 0  # of the first net of each kind
    num_seeds: int = 3  # nets of each kind; the others take the seeds that follow

    def __post_init__(self):
        """Refuses what cannot be."""
        for name, allowed in (("depths", range(1, 101)), ("learning_rates", None)):
            values = getattr(self, name)
            fits = bool(values) and len(set(values)) == len(values)
            fits = fits and all(value in allowed if allowed else 0 < value <= 10 for value in values)
            require(self, name, fits, f"in {'1 ... 100' if allowed else '(0, 10]'}, at least one, all different")
        require(self, "width", 2 <= self.width <= 1000, "in 2 ... 1000")
        require(self, "num_steps", 3 <= self.num_steps <= 100_000 and self.num_steps % 3 == 0, "a multiple of 3")
        require(self, "num_seeds", 1 <= self.num_seeds <= 100, "in 1 ... 100")
        require(self, "seed", 0 <= self.seed < 2**31 - self.num_seeds, "below 2**31 - --num-seeds")


def flatten(images):
    """Images [number, 28, 28, 1] as inputs [number, 784] of mean 0 and deviation 1."""
    return (images.reshape(len(images), -1) / 255 - 0.1307) / 0.3081


def make_model(config: Config, depth: int, activation: str, initialisation: str, batch_norm: bool) -> models.Model:
    """So many hidden layers of one width."""
    settings = {"weight_init": INITIALISATIONS[initialisation], "batch_norm": batch_norm}
    return models.mlp([config.width] * depth, 10, activation=ACTIVATIONS[activation].f, **settings)


def make_program(config: Config, depth: int, activation: str, batch_norm: bool):
    """All initialisations, learning rates and seeds as one program: what was measured [inits, rates, seeds, ...]."""
    apply = make_model(config, depth, activation, "He", batch_norm).apply  # the initialisation does not matter to it

    def loss_fn(params, state, batch, keys):
        logits, state = apply(params, state, flatten(batch.inputs), keys)
        return losses.softmax_cross_entropy(logits, batch.targets), state

    def gradient_norms(net, probes):
        def loss(params):
            keys = jax.random.split(jax.random.key(0), NUM_PROBES)  # any: as in training, but nothing is drawn
            return loss_fn(params, net.state, probes, keys)[0].mean()

        return jnp.stack([jnp.linalg.norm(layer["weight"]) for layer in jax.grad(loss)(net.params)])

    def train_net(variables, key, learning_rate, train, validation):
        optimizer = optax.sgd(learning_rate, momentum=0.9)
        params, state = variables
        net = training.TrainState(jnp.zeros((), jnp.int32), params, state, optimizer.init(params), key)
        probes = jax.tree.map(lambda leaf: leaf[:NUM_PROBES], validation)
        settings = {"loss_fn": loss_fn, "optimizer": optimizer, "batch_size": 50, "num_steps": config.num_steps // 3}

        def stretch(net, _):
            before = gradient_norms(net, probes)
            return training.train_steps(net, train, **settings)[0], before

        net, norms = jax.lax.scan(stretch, net, length=3)
        norms = jnp.concatenate([norms, gradient_norms(net, probes)[None]])
        logits, _ = apply(net.params, net.state, flatten(validation.inputs))
        return metrics.accuracy(logits, validation.targets), norms

    over_seeds = jax.vmap(train_net, (0, 0, None, None, None))
    over_rates = jax.vmap(over_seeds, (None, None, 0, None, None))
    return jax.jit(jax.vmap(over_rates, (0, None, None, None, None)))


def init_nets(config: Config, depth: int, activation: str, batch_norm: bool, keys, inputs):
    """Parameters and state [inits, seeds, ...]."""
    drawn = [
        jax.jit(jax.vmap(lambda key, model=model: model.init(key, inputs)))(keys)
        for model in (make_model(config, depth, activation, name, batch_norm) for name in INITIALISATIONS)
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)


def main(config: Config, run: Run) -> dict:
    """Trains all networks and draws who learns, and how large the gradients are layer by layer."""
    train, validation, _ = jax.device_put(datasets.mnist(config.data_dir, num_validation=2000))
    run.record(data_sha256=datasets.SHA256["mnist"])
    keys = jax.vmap(jax.random.key)(jnp.arange(config.seed, config.seed + config.num_seeds))
    inputs, rates = flatten(train.inputs[:1]), jnp.array(config.learning_rates)
    kinds = list(itertools.product(config.depths, ACTIVATIONS, (False, True)))
    num_nets = len(INITIALISATIONS) * len(rates) * config.num_seeds
    accuracies, norms = {}, {}
    with run.progress(len(kinds) * num_nets, unit="nets") as report:
        for number, kind in enumerate(kinds, 1):
            nets = init_nets(config, *kind, keys, inputs)
            found = make_program(config, *kind)(nets, keys, rates, train, validation)
            accuracy, norm = (np.asarray(values, float) for values in found)
            best = accuracy.mean(axis=2).argmax(axis=1)  # [inits]: the best rate
            for index, name in enumerate(INITIALISATIONS):
                accuracies[*kind, name] = accuracy[index, best[index]]
                norms[*kind, name] = norm[index, best[index]]
                log(config, run, kind, name, accuracies[*kind, name], norms[*kind, name], best[index])
            report(number * num_nets, depth=kind[0], accuracy=accuracy.max())
    draw(config, run, accuracies, norms)
    return summarize(config, accuracies, norms) | signal_ratios(config, keys, flatten(validation.inputs[:NUM_PROBES]))


def log(config: Config, run: Run, kind, initialisation: str, accuracies, norms, best: int):
    """A row for each kind of network: at its best learning rate, the accuracy and the gradients of all layers."""
    depth, activation, batch_norm = kind
    geometric = np.exp(np.log(np.maximum(norms, 1e-45)).mean(axis=0))  # the mean over the seeds
    run.log(
        depth=depth,
        activation=activation,
        batch_norm=batch_norm,
        initialisation=initialisation,
        learning_rate=config.learning_rates[best],
        validation_accuracy=accuracies.mean(),
        validation_accuracy_sd=accuracies.std(ddof=1) if len(accuracies) > 1 else None,
        gradient_norms_at_start=geometric[0].tolist(),
        gradient_norms_at_end=geometric[-1].tolist() if np.isfinite(geometric).all() else None,
    )


def label(batch_norm: bool) -> str:
    """In titles."""
    return "with batch normalisation" if batch_norm else "without batch normalisation"


def draw(config: Config, run: Run, accuracies, norms):
    """Who learns; for 20 hidden layers, or the most, the gradients of all layers, and their ratio during training."""
    rows = [*itertools.product(ACTIVATIONS, INITIALISATIONS)]
    tables = {
        label(batch_norm): np.array(
            [[accuracies[depth, row[0], batch_norm, row[1]].mean() for depth in config.depths] for row in rows]
        )
        for batch_norm in (False, True)
    }
    figure = plots.tables(
        tables,
        rows=[" ".join(row) for row in rows],
        columns=[str(depth) for depth in config.depths],
        xlabel="hidden layers",
        label=f"accuracy on validation images, mean of {config.num_seeds} nets",
        limits=(0.1, 1),
    )
    run.save_figure("who_learns", figure)
    depth = 20 if 20 in config.depths else max(config.depths)
    layers, steps = np.arange(1, depth + 2), np.linspace(0, config.num_steps, 4)
    by_layer, by_step = {}, {}
    for batch_norm, activation in itertools.product((False, True), ACTIVATIONS):
        title = f"{activation}, {label(batch_norm)}"
        own = {name: np.maximum(norms[depth, activation, batch_norm, name], 1e-45) for name in INITIALISATIONS}
        by_layer[title] = {name: (layers, values[:, 0]) for name, values in own.items()}
        by_step[title] = {name: (steps, values[..., 0] / values[..., -2]) for name, values in own.items()}
    figure = plots.lines(by_layer, num_columns=3, xlabel="layer", ylabel="norm of the gradient at the start", log="y")
    run.save_figure("gradients", figure)
    figure = plots.lines(by_step, num_columns=3, xlabel="step", ylabel="gradient, first / last hidden layer", log="y")
    run.save_figure("gradients_in_training", figure)


def summarize(config: Config, accuracies, norms) -> dict:
    """Of each kind, the most hidden layers with which it learns: 80 % right, in the mean of its nets."""
    summary: dict[str, int | float] = {"num_seeds": config.num_seeds}
    for activation, name, batch_norm in itertools.product(ACTIVATIONS, INITIALISATIONS, (False, True)):
        learns = [depth for depth in config.depths if accuracies[depth, activation, batch_norm, name].mean() > 0.8]
        key = f"{activation}_{name}{'_batch_norm' if batch_norm else ''}".lower()
        summary[f"{key}_deepest"] = max(learns, default=0)
    return summary


def signal_ratios(config: Config, keys, inputs) -> dict:
    """By how much a layer multiplies the mean square of what reaches its neurons: 1 where the initialisation fits."""
    ratios = {}
    for name, activation in (("He", backprop.RELU), ("Glorot", backprop.IDENTITY), ("naive", backprop.TANH)):
        model = models.mlp([500] * 11, 10, weight_init=INITIALISATIONS[name])

        @jax.jit
        def squares(key, model=model, activation=activation):
            _, layers = backprop.forward(model.init(key, inputs)[0], inputs, activation=activation)
            return jnp.stack([jnp.mean(layer.v**2) for layer in layers[:-1]])

        found = np.asarray(jax.vmap(squares)(keys))
        ratios[f"{name.lower()}_signal_ratio"] = float((found[:, -1] / found[:, 0]).mean() ** 0.1)
    return ratios


if __name__ == "__main__":
    start(Config, main, quick=Config(depths=(2, 6), num_steps=30, num_seeds=2))
