"""Deep networks: which gradients vanish or explode, and which networks learn at all.

The deck (page 20) names vanishing and exploding gradients as what makes deep networks hard to train, and as cures the
initialisation, ReLU and batch normalisation. Here networks of 2 to 50 hidden layers learn digits for 240 steps: three
activation functions, three initialisations, with and without batch normalisation, each at the best of a few learning
rates: that is chosen on 1,000 validation images, and the accuracies are those on 1,000 others. A network has learned
if it reads 80 % of these; with more steps, deeper ones do.

Run:    make experiment NAME=vanishing_gradients

Expect: at most 2 (logistic), 20 (tanh), 10 (ReLU) hidden layers learn without batch normalisation; with it, of nets
        whose weights are Glorot's or He's, logistic ones of 50 do, tanh and ReLU no deeper ones; 3 seeds of 90 kinds

Time:   2 min 33 s
"""

import functools
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array

from jaxnn import backprop, layers, losses, metrics, models, training
from jaxnn.lab import datasets, plots
from jaxnn.lab.config import require, require_seeds
from jaxnn.lab.run import Run, mean_and_sd, start

ACTIVATIONS = {"logistic": backprop.LOGISTIC, "tanh": backprop.TANH, "ReLU": backprop.RELU}
INITIALISATIONS = {  # the deviation of a normal weight from its numbers of inputs and outputs
    "naive": lambda fan_in, fan_out: 0.01,
    "Glorot": lambda fan_in, fan_out: (2 / (fan_in + fan_out)) ** 0.5,
    "He": lambda fan_in, fan_out: (2 / fan_in) ** 0.5,
}
SCALE = 2.0**60  # of the loss, so that small gradients are not 0 in float32
SMALLEST = 1e-45  # gradients below are drawn as this
NUM_PROBES = 100  # images on which gradients are measured


@dataclass(frozen=True)
class Config:
    """Networks and their trainings."""

    depths: tuple[int, ...] = (2, 5, 10, 20, 50)  # hidden layers
    width: int = 40  # neurons of each hidden layer
    learning_rates: tuple[float, ...] = (0.1, 0.01, 0.001)  # each net's is the best of them, on validation images
    num_steps: int = 240  # of each training: 50 images each, momentum 0.9
    data_dir: Path | None = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: int = 0  # of the first net of each kind
    num_seeds: int = 3  # nets of each kind; the others take the seeds that follow

    def __post_init__(self):
        """Refuses what cannot be."""
        depths, rates = self.depths, self.learning_rates
        fits = bool(depths) and all(2 <= depth <= 100 for depth in depths) and len(set(depths)) == len(depths)
        require(self, "depths", fits, "in 2 ... 100, at least one, all different")
        fits = bool(rates) and all(0 < rate <= 10 for rate in rates) and len(set(rates)) == len(rates)
        require(self, "learning_rates", fits, "in (0, 10], at least one, all different")
        require(self, "width", 2 <= self.width <= 1000, "in 2 ... 1000")
        fits = 3 <= self.num_steps < 100_000 and self.num_steps % 3 == 0
        require(self, "num_steps", fits, "a multiple of 3 below 100000")
        require_seeds(self, most=100)


def flatten(images):
    """Images [number, 28, 28, 1] as inputs [number, 784] of mean 0 and deviation 1."""
    return (images.reshape(len(images), -1) / 255 - 0.1307) / 0.3081


class Setting(NamedTuple):
    """What one net of a program differs in from the others."""

    activation: Array  # place in ACTIVATIONS
    initialisation: Array  # place in INITIALISATIONS
    learning_rate: Array
    key: Array


def all_settings(config: Config) -> Setting:
    """Every activation function, initialisation, learning rate and seed, in this order."""
    seeds = range(config.seed, config.seed + config.num_seeds)
    axes = range(len(ACTIVATIONS)), range(len(INITIALISATIONS)), config.learning_rates, seeds
    activations, initialisations, rates, seeds = map(jnp.array, zip(*itertools.product(*axes), strict=True))
    return Setting(activations, initialisations, rates, jax.vmap(jax.random.key)(seeds))


def make_model(config: Config, depth: int, batch_norm: bool, setting: Setting) -> models.Model:
    """So many equal hidden layers, as a scan over their stacked parameters: 50 compile as fast as 2."""

    def draw(key, shape, dtype):
        deviations = jnp.array([deviation(*shape) for deviation in INITIALISATIONS.values()], dtype)
        return deviations[setting.initialisation] * jax.random.normal(key, shape, dtype)

    def init(key, inputs):
        first_key, last_key, *hidden_keys = jax.random.split(key, depth + 1)
        width = config.width
        params = {
            "first": layers.init_dense(first_key, inputs.shape[-1], width, weight_init=draw),
            "hidden": jax.vmap(lambda key: layers.init_dense(key, width, width, weight_init=draw))(
                jnp.stack(hidden_keys)
            ),
            "last": layers.init_dense(last_key, width, 10, weight_init=draw),
        }
        norm = layers.init_batch_norm(width)
        norms = jax.tree.map(lambda leaf: jnp.stack([leaf] * (depth - 1)), norm)
        for name, (norm_params, _) in (("first", norm), ("hidden", norms)):
            params[name]["batch_norm"] = norm_params
        return params, {"first": norm[1], "hidden": norms[1]}

    def apply(params, state, inputs, key=None):
        def layer(inputs, params_and_state):
            params, state = params_and_state
            v = layers.dense(params, inputs)
            if batch_norm:
                v, state = layers.batch_norm(params["batch_norm"], state, v, training=key is not None)
            outputs = [activation.f(v) for activation in ACTIVATIONS.values()]
            return lax.select_n(setting.activation, *outputs), state

        outputs, first = layer(inputs, (params["first"], state["first"]))
        outputs, hidden = lax.scan(layer, outputs, (params["hidden"], state["hidden"]))
        return layers.dense(params["last"], outputs), {"first": first, "hidden": hidden}

    return models.Model(init, apply)


class Outcome(NamedTuple):
    """What came of a net: its accuracy on each half of the validation images, 0 if it has diverged; its gradients.

    These are norms [4, hidden layers] of the weights of each layer, at the start and after each third of the training,
    times SCALE.
    """

    chosen_by: plots.Values  # on the first half
    reported: plots.Values  # on the second half
    norms: plots.Values


def norm(weight):
    """The square root of the sum of squares, also where these would be too small or too large for float32."""
    largest = jnp.maximum(jnp.abs(weight).max(), jnp.finfo(weight.dtype).tiny)
    return largest * jnp.linalg.norm(weight / largest)


def train_net(config: Config, depth: int, batch_norm: bool, setting: Setting, train, validation) -> Outcome:
    """From the first step to the last."""
    model, optimizer = make_model(config, depth, batch_norm, setting), optax.sgd(setting.learning_rate, momentum=0.9)
    probes = jax.tree.map(lambda leaf: leaf[:NUM_PROBES], validation)

    def loss_fn(params, state, batch, keys):
        logits, state = model.apply(params, state, flatten(batch.inputs), keys)
        return losses.softmax_cross_entropy(logits, batch.targets), state

    def gradient_norms(net):  # times SCALE
        keys = jax.random.split(net.key, NUM_PROBES)  # as in training; no number is drawn
        gradient = jax.grad(lambda params: SCALE * loss_fn(params, net.state, probes, keys)[0].mean())(net.params)
        return jnp.append(norm(gradient["first"]["weight"]), jax.vmap(norm)(gradient["hidden"]["weight"]))

    def stretch(net, _):
        settings = {"loss_fn": loss_fn, "optimizer": optimizer, "batch_size": 50, "num_steps": config.num_steps // 3}
        return training.train_steps(net, train, **settings)[0], gradient_norms(net)

    net = training.init_train_state(setting.key, model, optimizer, flatten(train.inputs[:1]))
    net, norms = lax.scan(stretch, net, length=3)
    logits, _ = model.apply(net.params, net.state, flatten(validation.inputs))
    halves = zip(jnp.split(logits, 2), jnp.split(validation.targets, 2), strict=True)
    chosen_by, reported = (jnp.where(net.step == config.num_steps, metrics.accuracy(*half), 0) for half in halves)
    return Outcome(chosen_by, reported, jnp.vstack([norms, gradient_norms(net)]))


def main(config: Config, run: Run) -> dict:
    """Trains all networks and draws who learns, and how large the gradients are layer by layer."""
    data = datasets.mnist(config.data_dir, num_validation=2000)
    train, validation = jax.device_put((jax.tree.map(lambda leaf: leaf[:10_000], data.train), data.validation))
    run.record(data_sha256=datasets.SHA256["mnist"])
    settings = all_settings(config)
    kinds, num_nets = list(itertools.product(config.depths, (False, True))), len(settings.key)
    axes = len(ACTIVATIONS), len(INITIALISATIONS), len(config.learning_rates), config.num_seeds
    accuracies, norms = {}, {}
    with run.progress(len(kinds) * num_nets, unit="nets") as report:
        for number, (depth, batch_norm) in enumerate(kinds, 1):
            program = jax.jit(jax.vmap(functools.partial(train_net, config, depth, batch_norm), (0, None, None)))
            outcomes = (np.asarray(values, float) for values in program(settings, train, validation))
            outcome = Outcome(*(values.reshape(*axes, *values.shape[1:]) for values in outcomes))
            best = outcome.chosen_by.mean(axis=3).argmax(axis=2)
            for row, column in np.ndindex(best.shape):
                activation, name = list(ACTIVATIONS)[row], list(INITIALISATIONS)[column]
                kind, rate = (depth, activation, batch_norm, name), best[row, column]
                accuracies[kind] = outcome.reported[row, column, rate]
                norms[kind] = outcome.norms[row, column, rate] / SCALE
                log(run, kind, config.learning_rates[rate], accuracies[kind], norms[kind])
            report(number * num_nets, depth=depth)
    draw(config, run, accuracies, norms)
    return summarize(config, accuracies) | signal_ratios(config, flatten(validation.inputs[:NUM_PROBES]))


def log(run: Run, kind, learning_rate: float, accuracies, norms):
    """A row for each kind of network: at its best learning rate, the accuracy and the gradients of all layers."""
    depth, activation, batch_norm, initialisation = kind
    logs = np.log10(np.maximum(norms, SMALLEST)).mean(axis=0)  # over the seeds
    at_start, at_end = ([round(log, 6) if np.isfinite(log) else None for log in logs[k].tolist()] for k in (0, -1))
    run.log(
        depth=depth,
        activation=activation,
        batch_norm=batch_norm,
        initialisation=initialisation,
        learning_rate=learning_rate,
        **mean_and_sd("validation_accuracy", accuracies),
        log10_gradient_norms_at_start=at_start,
        log10_gradient_norms_at_end=at_end,
    )


def label(batch_norm: bool) -> str:
    """In titles."""
    return "with batch normalisation" if batch_norm else "without batch normalisation"


def shown_depth(config: Config) -> int:
    """Hidden layers of the nets that are looked at closely."""
    return 20 if 20 in config.depths else max(config.depths)


def draw(config: Config, run: Run, accuracies, norms):
    """Who learns; for 20 hidden layers, or the most, the gradients of all layers, and their ratio during training."""
    rows = [*itertools.product(ACTIVATIONS, INITIALISATIONS)]
    tables = {
        label(batch_norm): np.array(
            [[accuracies[depth, activation, batch_norm, name] for depth in config.depths] for activation, name in rows]
        )
        for batch_norm in (False, True)
    }
    figure = plots.tables(
        tables,
        rows=[" ".join(row) for row in rows],
        columns=[str(depth) for depth in config.depths],
        xlabel="hidden layers",
        label=f"accuracy on held-out images, {config.num_seeds} nets",
        limits=(0.1, 1.0),
    )
    run.save_figure("who_learns", figure)
    depth = shown_depth(config)
    numbers, steps = np.arange(1, depth + 1), np.arange(4) * config.num_steps // 3
    by_layer, by_step = {}, {}
    for batch_norm, activation in itertools.product((False, True), ACTIVATIONS):
        title = f"{activation}, {label(batch_norm)}"
        logs = {name: norms[depth, activation, batch_norm, name] for name in INITIALISATIONS}
        logs = {name: np.log10(np.maximum(values, SMALLEST)) for name, values in logs.items()}
        by_layer[title] = {name: (numbers, values[:, 0]) for name, values in logs.items()}
        by_step[title] = {name: (steps, values[..., 0] - values[..., -1]) for name, values in logs.items()}
    for name, panels, xlabel, ylabel in (
        ("gradients", by_layer, "layer", "log₁₀ of the gradient's norm"),
        ("gradients_in_training", by_step, "step", "log₁₀ of first / last hidden layer's"),
    ):
        figure = plots.lines(panels, num_columns=3, xlabel=xlabel, ylabel=ylabel, share_y=True)
        run.save_figure(name, figure)


def summarize(config: Config, accuracies) -> dict:
    """Of each kind, the most hidden layers with which it learns: 80 % right, in the mean of its nets.

    And what batch normalisation adds to the accuracy, seed by seed, of nets with `gain_depth` hidden layers.
    """
    depth = shown_depth(config)
    summary: dict[str, int | float | None] = {"num_seeds": config.num_seeds, "gain_depth": depth}
    for activation, name, batch_norm in itertools.product(ACTIVATIONS, INITIALISATIONS, (False, True)):
        learns = [depth for depth in config.depths if accuracies[depth, activation, batch_norm, name].mean() > 0.8]
        key = f"{activation}_{name}{'_batch_norm' if batch_norm else ''}".lower()
        summary[f"{key}_deepest"] = max(learns, default=0)
    for activation, name in itertools.product(ACTIVATIONS, INITIALISATIONS):
        gains = accuracies[depth, activation, True, name] - accuracies[depth, activation, False, name]
        summary |= mean_and_sd(f"{activation}_{name}_batch_norm_gain".lower(), gains)
    return summary


def signal_ratios(config: Config, inputs) -> dict:
    """By how much a layer multiplies the mean square of what reaches its neurons: 1 where the initialisation fits."""
    ratios = {}
    *_, own_key = jax.random.split(jax.random.key(config.seed), 3)  # the nets of this seed take the first two
    keys = jax.random.split(own_key, 10)
    for name, activation in (("He", backprop.RELU), ("Glorot", backprop.IDENTITY), ("naive", backprop.TANH)):
        deviation = INITIALISATIONS[name](500, 500)
        v = [inputs[:, :500]]
        for key in keys:
            v.append(activation.f(v[-1]) @ (deviation * jax.random.normal(key, (500, 500))))
        ratios[f"{name.lower()}_signal_ratio"] = float((jnp.mean(v[-1] ** 2) / jnp.mean(v[1] ** 2)) ** (1 / 9))
    return ratios


if __name__ == "__main__":
    start(Config, main, quick=Config(depths=(4,), num_steps=30, num_seeds=2))
