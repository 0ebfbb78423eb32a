"""Deep networks: which gradients vanish or explode, and which networks learn at all.

The deck (page 20) names vanishing and exploding gradients as what makes deep networks hard to train, and the
initialisation, ReLU and batch normalisation as what helps. Here networks of 2 to 50 hidden layers learn digits, shrunk
to 14x14 pixels, for 240 steps, each at the best of a few learning rates, chosen on 1,000 validation images. One has
learned if it reads 80 % of 1,000 others. Weights are as Glorot or He draw them, or all too small (sd 0.01) or too large
(sd 1). Batch normalisation keeps gradients from vanishing and exploding, but not 50 layers of tanh or ReLU from
forgetting the digit: why, the experiment batch_normalisation shows.

Run:    make experiment NAME=vanishing_gradients

Expect: at most 2 (logistic), 20 (tanh), 10 (ReLU) hidden layers learn without batch normalisation; with it, of nets
        whose weights are Glorot's or He's, logistic ones of 50 do, tanh and ReLU no deeper ones; 3 seeds of 120 kinds

Time:   2 min 30 s
"""

import functools
import itertools
import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.nn.initializers import glorot_normal, he_normal, normal
from pydantic import Field
from pydantic.dataclasses import dataclass

from jaxnn import layers, losses, metrics, models, ops, training
from jaxnn.lab import curves, datasets, diagrams
from jaxnn.lab.config import DataDir, Rate, Seed
from jaxnn.lab.run import Run, mean_and_sd
from jaxnn.lab.start import start

ACTIVATIONS = {"logistic": jax.nn.sigmoid, "tanh": jnp.tanh, "ReLU": jax.nn.relu}
INITIALISATIONS = {"too small": normal(0.01), "Glorot": glorot_normal(), "He": he_normal(), "too large": normal(1.0)}
KINDS = list(itertools.product(ACTIVATIONS, INITIALISATIONS))
TITLES = "without batch normalisation", "with batch normalisation"


@dataclass(frozen=True)
class Config:
    """The networks and their training."""

    depths: Annotated[tuple[Annotated[int, Field(ge=1, le=100)], ...], Field(min_length=1)] = (2, 5, 10, 20, 50)
    learning_rates: Annotated[tuple[Rate, ...], Field(min_length=1)] = (0.1, 0.01, 0.001)  # each net's is the best
    num_steps: Annotated[int, Field(ge=1, le=100_000)] = 240  # on 50 images each, with momentum 0.9
    data_dir: DataDir = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: Seed = 0  # of the first net of each kind
    num_seeds: Annotated[int, Field(ge=1, le=100)] = 3  # nets of each kind; the others take the seeds that follow


def shrink(images):
    """The means of 2x2 pixels, with mean 0 and standard deviation 1 over the digits."""
    return (layers.flatten_pixels(ops.avg_pool(images.astype(float))) - 0.131) / 0.281


def train_net(config: Config, depth: int, batch_norm: bool, data, kind, learning_rate, key):
    """A net of KINDS[kind]: accuracy on each half of the validation images, 0 if it diverged; first gradients."""
    activation, initialisation = jnp.divmod(kind, len(INITIALISATIONS))  # traced: one program has nets of all kinds

    def activate(v):
        return jax.lax.select_n(activation, *(f(v) for f in ACTIVATIONS.values()))

    def init_weight(*args):
        return jax.lax.select_n(initialisation, *(init(*args) for init in INITIALISATIONS.values()))

    model = models.deep_mlp(depth, 40, 10, activation=activate, weight_init=init_weight, batch_norm=batch_norm)
    model = models.preprocess(shrink, model)
    optimizer = optax.sgd(learning_rate, momentum=0.9)
    loss_fn = training.make_loss(model, losses.softmax_cross_entropy)

    def largest_gradients(net):
        """log₁₀ of the largest absolute weight gradient of each hidden layer, on 100 images; -45 stands for 0."""
        batch, scale = jax.tree.map(lambda leaf: leaf[:100], data.validation), 2.0**60  # or float32 makes small ones 0
        gradient = jax.grad(lambda params: scale * loss_fn(params, net.state, batch, net.key)[0].mean())(net.params)
        first, others = (jnp.abs(gradient[name]["weight"]).max(axis=(-2, -1)) for name in ("first", "hidden"))
        return jnp.maximum(jnp.log10(jnp.append(first, others)) - jnp.log10(scale), -45)

    net = training.init_train_state(key, model, optimizer, data.train.inputs[:1])
    gradients, sizes = largest_gradients(net), {"batch_size": 50, "num_steps": config.num_steps}
    net, _ = training.train_steps(net, data.train, loss_fn, optimizer, **sizes)
    logits, _ = model.apply(net.params, net.state, data.validation.inputs)
    halves = jax.vmap(metrics.accuracy)(logits.reshape(2, -1, 10), data.validation.targets.reshape(2, -1))
    return jnp.where(net.step == config.num_steps, halves, 0), gradients


def train_nets(config: Config, run: Run, data):
    """Trains all nets, in a program per depth with and without batch normalisation; logs each kind at its best rate."""
    programs, rates = list(itertools.product(config.depths, (False, True))), jnp.array(config.learning_rates)
    grid = jnp.arange(len(KINDS)), rates, training.seed_keys(config.seed, config.num_seeds)
    for number, _ in run.chunks({}, len(programs), every=1, unit="nets", per_step=math.prod(map(len, grid))):
        depth, batch_norm = programs[number - 1]
        train = jax.vmap(functools.partial(train_net, config, depth, batch_norm, data), (None, None, 0))
        train = jax.jit(jax.vmap(jax.vmap(train, (None, 0, None)), (0, None, None)))
        accuracies, gradients = jax.device_get(train(*grid))  # [kinds, learning rates, seeds, ...]
        best_rates = accuracies[..., 0].mean(axis=2).argmax(axis=1)
        for kind, (rate, (activation, name)) in enumerate(zip(best_rates, KINDS, strict=True)):
            row = {"depth": depth, "batch_norm": batch_norm, "activation": activation, "initialisation": name}
            row |= {"learning_rate": rates[rate], "validation_accuracy": accuracies[kind, rate, :, 1]}
            run.log_seeds(config.seed, **row, log10_gradients=gradients[kind, rate])


def draw(config: Config, run: Run, accuracies, gradients):
    """Who learns; for one depth, the largest weight gradient of each hidden layer."""
    tables = {title: accuracies[:, norm].swapaxes(0, 1) for norm, title in enumerate(TITLES)}
    names = {"rows": [", ".join(kind) for kind in KINDS], "columns": config.depths, "xlabel": "hidden layers"}
    run.save_figure(
        "who_learns", diagrams.tables(tables, **names, label="validation images read right, mean ± sd; 0: diverged")
    )
    layer, panels = np.arange(1, gradients.shape[-1] + 1), {}
    for (norm, title), (kind, (activation, name)) in itertools.product(enumerate(TITLES), enumerate(KINDS)):
        panels.setdefault(f"{activation}, {title}", {})[name] = layer, gradients[norm, kind]
    run.save_figure("gradients", curves.gradients(panels))


def signal_ratio(key, initialisation: str, activation):
    """By how much each of ten layers multiplies the mean square of its inputs: 1 where the initialisation fits."""
    outputs = jnp.ones(500)
    for layer_key in jax.random.split(key, 10):
        outputs = activation(outputs @ INITIALISATIONS[initialisation](layer_key, (500, 500)))
    return jnp.mean(outputs**2) ** (1 / 10)


def main(config: Config, run: Run) -> dict:
    """Of each kind, the most hidden layers with which it learns, and what batch normalisation adds, seed by seed."""
    data = jax.device_put(datasets.mnist(config.data_dir, num_train=10_000, num_validation=2000))
    run.record(data_sha256=datasets.SHA256["mnist"])
    train_nets(config, run, data)
    rows = np.array(run.read_log()).reshape(len(config.depths), 2, len(KINDS), config.num_seeds)
    accuracies = np.vectorize(lambda row: row["validation_accuracy"])(rows)
    place, depth = min(enumerate(config.depths), key=lambda item: abs(item[1] - 20))  # shown more closely
    gradients = np.array([row["log10_gradients"] for row in rows[place].flat], float)
    draw(config, run, accuracies, gradients.reshape(*rows.shape[1:], depth))
    deepest = np.where(accuracies.mean(axis=-1) > 0.8, np.reshape(config.depths, (-1, 1, 1)), 0).max(axis=0)
    summary: dict = {"num_seeds": config.num_seeds, "gain_depth": depth}
    for kind, name in enumerate("_".join(names).lower().replace(" ", "_") for names in KINDS):
        summary |= {f"{name}_deepest": deepest[0, kind], f"{name}_batch_norm_deepest": deepest[1, kind]}
        summary |= mean_and_sd(f"{name}_batch_norm_gain", accuracies[place, 1, kind] - accuracies[place, 0, kind])
    for name, f in (("He", jax.nn.relu), ("Glorot", lambda v: v), ("too small", jnp.tanh)):
        summary[f"{name}_signal_ratio".lower().replace(" ", "_")] = signal_ratio(
            jax.random.key(config.seed + config.num_seeds), name, f
        )
    return summary


if __name__ == "__main__":
    start(Config, main, quick=Config((2,), (0.1,), num_steps=12, num_seeds=2), resumable=True)
