"""The deck's library mentat, redone in JAX: its updates, its initial weights, its errors.

The deck (page 17) fits three functions by mentat, in NumPy, one net after the other. Here hundreds of nets take its
updates side by side: momentum on gradients that a decaying rate has scaled, batches in a cycle, weights that begin
nearly at 0. The first updates are held against NumPy's, the errors at the end against mentat's.

Run:    make experiment NAME=mentat

Expect: median training error of 32 seeds, for 3, 6 and 12 neurons: 0.036, 0.0025, 0.0015; 0.54, 0.0021, 0.0012; 0.099,
        0.10, 0.11; an update takes 27 times less per net than in NumPy

Time:   15 s
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from pydantic.dataclasses import dataclass

from jaxnn import deck, losses, training
from jaxnn.lab import formula, plots, surfaces
from jaxnn.lab.config import Count, NumSeeds, Seed
from jaxnn.lab.run import Run
from jaxnn.lab.start import start
from jaxnn.layers import dense
from jaxnn.types import Batch

RATE, DECAY, MOMENTUM = 0.6, 0.3, 0.7  # mentat's: the learning rate of a step is RATE / step ** DECAY
SIZES = (3, 6, 12)  # logistic neurons of each kind of net
GRID = np.stack(np.meshgrid(*[np.linspace(-2, 2, 41)] * 2))  # [2, 41, 41]: x1 and x2 of the points that are drawn


@dataclass(frozen=True)
class Config:
    """The nets and their training."""

    num_steps: Count = 30_000  # mentat's updates
    seed: Seed = 0  # of the examples and weights of the first nets
    num_seeds: NumSeeds = 32  # nets of each kind; the others take the seeds that follow


def init_nets(config: Config, h: int):
    """The nets of all seeds, h neurons each, as mentat draws them: from [0, 1/200), weights [outputs, inputs] first."""
    draws = [np.random.RandomState(config.seed + i).random_sample(4 * h + 1) for i in range(config.num_seeds)]
    w1, b1, w2, b2 = np.split(np.stack(draws) / 200, [2 * h, 3 * h, 4 * h], axis=1)
    return [{"weight": w1.reshape(-1, h, 2).mT, "bias": b1}, {"weight": w2.reshape(-1, 1, h).mT, "bias": b2}]


def compute(params, inputs):
    """The net: two inputs, one layer of logistic neurons, a linear output."""
    return dense(params[1], jax.nn.sigmoid(dense(params[0], inputs)))


def train_net(params, examples: Batch, *, num_steps: int):
    """One net by mentat's updates: its params at the end."""
    scale = optax.scale_by_learning_rate(lambda step: RATE / jnp.maximum(step, 1.0) ** DECAY)
    optimizer = optax.chain(scale, optax.trace(decay=MOMENTUM))

    def loss_fn(params, state, batch, key):
        return losses.squared_error(compute(params, batch.inputs), batch.targets) / 2, state

    # Its cycle: rows 0-39, 40-79, 80-99 (a batch of 20, here twice, which has the same mean), 20-59, 60-99.
    cycle = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[80:], leaf[20:]]), examples)
    net = training.TrainState(jnp.zeros((), jnp.int32), params, {}, optimizer.init(params), jax.random.key(0))
    net, _ = training.train_steps(net, cycle, loss_fn, optimizer, batch_size=40, num_steps=num_steps, shuffle=False)
    return net.params


def train_in_numpy(params, examples: Batch, *, num_steps: int):
    """The reference: the same in plain NumPy."""
    arrays = w1, b1, w2, b2 = [np.array(layer[name]) for layer in params for name in ("weight", "bias")]
    velocities, first = [np.zeros_like(array) for array in arrays], 0
    for step in range(num_steps):
        x, targets = (array[first : first + 40] for array in examples)  # at the end of the 100 examples, 20 only
        first = (first + 40) % 100
        hidden = 1 / (1 + np.exp(-(x @ w1 + b1)))
        delta = (hidden @ w2 + b2 - targets) / len(x)
        hidden_delta = delta @ w2.T * hidden * (1 - hidden)
        gradients = x.T @ hidden_delta, hidden_delta.sum(axis=0), hidden.T @ delta, delta.sum(axis=0)
        for array, velocity, gradient in zip(arrays, velocities, gradients, strict=True):
            velocity[:] = MOMENTUM * velocity - RATE / max(step, 1) ** DECAY * gradient
            array += velocity  # in place: w1, b1, w2, b2 are these arrays
    return [{"weight": w1, "bias": b1}, {"weight": w2, "bias": b2}]


def train(config: Config, nets: dict, examples: Batch) -> tuple[dict, float]:
    """The nets of all sizes and seeds, for every function, in one program and in float32; the seconds that it takes."""
    in_float32 = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (nets, examples))
    train_all = jax.vmap(jax.vmap(functools.partial(train_net, num_steps=config.num_steps)), (None, 0))
    program = jax.jit(lambda nets, examples: {size: train_all(params, examples) for size, params in nets.items()})
    compiled = program.lower(*in_float32).compile()
    began = time.perf_counter()
    trained = jax.block_until_ready(compiled(*in_float32))
    return trained, time.perf_counter() - began


def compare_with_numpy(nets: dict, examples: Batch) -> dict[str, float]:
    """How far the first 100 updates of a net of each size are from NumPy's, in float64, and how long NumPy's take."""
    train_few = jax.jit(functools.partial(train_net, num_steps=100))
    pairs = [(train_few(net, examples), train_in_numpy(net, examples, num_steps=100)) for net in nets.values()]
    differences = [jax.tree.map(lambda ours, theirs: np.abs(ours - theirs).max(), *pair) for pair in pairs]
    began = time.perf_counter()
    train_in_numpy(nets[SIZES[0]], examples, num_steps=2000)
    seconds = (time.perf_counter() - began) / 2000
    return {"difference_to_numpy": max(jax.tree.leaves(differences)), "numpy_update_seconds": seconds}


def draw(run: Run, functions: dict, nets: dict, examples: Batch, errors: dict):
    """Page 17: the functions, and the nets with the median error; the errors [functions, seeds] of all."""
    fits = {}
    for size, params in nets.items():
        median = np.arange(len(functions)), np.argsort(errors[size])[:, (errors[size].shape[1] - 1) // 2]
        net, batch = jax.tree.map(lambda leaf, median=median: leaf[median], (params, examples))
        outputs = jax.vmap(compute, (0, None))(net, jnp.asarray(GRID).reshape(2, -1).T)
        fits[f"{size} neurons"] = outputs, np.concatenate(batch, axis=-1), np.median(errors[size], axis=1)
    run.save_figure("fits", surfaces.fits(GRID[0], GRID[1], {name: f(*GRID) for name, f in functions.items()}, fits))
    panels = {formula.title(f): {f"{size} neurons": errors[size][i] for size in nets} for i, f in enumerate(functions)}
    means = [[mean for mean, _ in deck.MENTAT_ERRORS[name].values()] for name in functions]
    marks = {"mentat, mean of 6": dict(zip(panels, means, strict=True))}
    run.save_figure("errors", plots.spread(panels, ylabel="training error", scale="log", marks=marks))


def main(config: Config, run: Run) -> dict:
    """Trains all nets in one program, and compares them with mentat itself and with NumPy."""
    functions = {name: formula.parse(name, ["x1", "x2"]) for name in deck.FUNCTIONS}
    keys = jax.vmap(jax.random.split)(training.seed_keys(config.seed, config.num_seeds))[:, 0]
    inputs = jax.vmap(lambda key: jax.random.uniform(key, (100, 2), minval=-2, maxval=2))(keys)
    targets = jnp.stack([function(inputs[..., 0], inputs[..., 1])[..., None] for function in functions.values()])
    examples = Batch(jnp.stack([inputs] * len(functions)), targets)
    nets = {size: init_nets(config, size) for size in SIZES}
    trained, seconds = train(config, nets, examples)
    summary, errors = {"num_seeds": config.num_seeds, "num_steps": config.num_steps}, {}
    for size, params in trained.items():
        outputs = jax.vmap(jax.vmap(compute))(params, examples.inputs)
        errors[size] = np.asarray(losses.squared_error(outputs, targets).mean(axis=-1))
        for number, (name, values) in enumerate(zip(functions, errors[size], strict=True), 1):
            run.log_seeds(config.seed, function=name, neurons=size, train_error=values)
            summary[f"function_{number}_{size}_train_median"] = np.median(values)
    draw(run, functions, trained, examples, errors)
    first = jax.tree.map(lambda leaf: leaf[0], nets), jax.tree.map(lambda leaf: np.asarray(leaf[0, 0]), examples)
    per_net = seconds / len(functions) / len(SIZES) / config.num_seeds / config.num_steps
    return summary | compare_with_numpy(*first) | {"train_seconds": seconds, "update_per_net_seconds": per_net}


if __name__ == "__main__":
    start(Config, main, quick=Config(num_steps=200, num_seeds=3), x64=True)
