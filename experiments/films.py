"""Six films: what a picture can only say, shown as it happens.

Four optimizers go down the bowl (deck, page 12); a kernel slides over a digit (page 19); nets learn three functions
(page 17); a boundary that need not be straight (page 8) grows round two spirals; the kernels of a CNN learn (page 19);
and gradients vanish on their way through a deep net, or do not (page 20).

Run:    make experiment NAME=films

Expect: TODO

Time:   2 min
"""

import functools
import itertools
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.nn.initializers import glorot_normal, he_normal
from pydantic import Field
from pydantic.dataclasses import dataclass

from jaxnn import cnn, deck, descent, layers, losses, metrics, models, ops, training
from jaxnn.lab import datasets, films, formula, plots
from jaxnn.lab.config import DataDir, Seed
from jaxnn.lab.run import Run
from jaxnn.lab.start import start
from jaxnn.types import Batch

TEX = "$x_1^2 + x_2^2$", "$x_1^2 - x_2^2$", r"$\cos 1.2x_1\,\cos 1.2x_2$"  # of deck.FUNCTIONS
DEEP_NETS = {"logistic, Glorot": (jax.nn.sigmoid, glorot_normal()), "ReLU, He": (jax.nn.relu, he_normal())}


@dataclass(frozen=True)
class Config:
    """How long the nets learn."""

    num_frames: Annotated[int, Field(ge=2, le=200)] = 60  # of each net's film: the more, the longer it learns
    data_dir: DataDir = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: Seed = 0  # of the points and the nets


def watch(config: Config, model, loss, optimizer, data, **sizes):
    """A net at each of these steps of its training."""
    net = training.init_train_state(jax.random.key(config.seed), model, optimizer, data.inputs[:1])
    options = {"loss_fn": training.make_loss(model, loss), "optimizer": optimizer, **sizes}
    return jax.jit(functools.partial(training.snapshots, **options))(net, data)


def outputs_of(model, nets, inputs):
    """What each of the nets computes."""
    return jax.lax.map(lambda net: model.apply(net.params, net.state, inputs)[0], nets)


def bowl(run: Run) -> dict:
    """Four optimizers on the deck's bowl."""

    def f(x):
        return 4 * x[0] ** 2 + x[1] ** 2

    optimizers = {"descent": optax.sgd(0.02), "momentum": optax.sgd(0.02, momentum=0.9)}
    optimizers |= {"AdaGrad": optax.adagrad(0.5), "Adam": optax.adam(0.15)}
    settings = {"tol": 0.0, "max_steps": 80}
    ends = {name: descent.minimize(f, jnp.full(2, 3.0), optimizer=o, **settings) for name, o in optimizers.items()}
    paths = {name: np.asarray(end.path) for name, end in ends.items()}
    heights = {name: f(path.T) for name, path in paths.items()}
    grid = plots.over_grid(f, (-4, 4), (-4, 4))
    run.save_animation("bowl", films.descents(*grid, paths, heights, formula="$4x_1^2 + x_2^2$"))
    return {f"bowl_{name.lower()}": height[-1] for name, height in heights.items()}


def convolution(digit, run: Run) -> dict:
    """A kernel for upright edges slides over a digit of half the size, as in a layer: not turned."""
    image, kernel = ops.avg_pool(digit)[:, 1:-1, 1:-1], jnp.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    sums = ops.conv2d(image, kernel[:, :, None, None], padding="VALID")
    run.save_animation("convolution", films.sliding_kernel(image[0, :, :, 0], kernel, sums[0, :, :, 0]))
    return {"convolution_largest_sum": sums.max()}


def functions(config: Config, run: Run) -> dict:
    """Nets with 3, 6 and 12 logistic neurons learn the deck's three functions, from 200 points each."""
    x1, x2, _ = plots.over_grid(jnp.sum, (-2, 2), (-2, 2), resolution=41)
    inputs = jax.random.uniform(jax.random.key(config.seed), (200, 2), minval=-2, maxval=2)
    values, fits, steps = {}, {3: {}, 6: {}, 12: {}}, 2 * np.arange(config.num_frames) ** 2  # faster and faster
    for (text, name), size in itertools.product(zip(deck.FUNCTIONS, TEX, strict=True), fits):
        f, model = formula.parse(text, ["x1", "x2"]), models.mlp([size], 1, activation=jax.nn.sigmoid)
        data, optimizer = Batch(inputs, f(*inputs.T)[:, None]), optax.flatten(optax.adam(0.03))
        nets = watch(config, model, losses.squared_error, optimizer, data, batch_size=200, steps=steps)
        values[name], fits[size][name] = f(x1, x2), outputs_of(model, nets, jnp.dstack([x1, x2]))[..., 0]
    run.save_animation("functions", films.growing_fits(values, fits, steps))
    errors = {size: [(fits[size][name][-1] - values[name]) ** 2 for name in values] for size in fits}
    return {f"functions_error_{size}": np.mean(squares) for size, squares in errors.items()}


def spirals(config: Config, run: Run) -> dict:
    """A net 2-32-32-2 learns to tell two spirals apart."""
    angles = np.linspace(0.5, 3, 97) * np.pi
    arm = np.stack([angles * np.cos(angles), angles * np.sin(angles)], axis=1) / 3
    data = Batch(jnp.array([*arm, *-arm]), jnp.repeat(jnp.arange(2), 97))
    model, steps = models.mlp([32, 32], 2, activation=jnp.tanh), np.arange(config.num_frames) ** 2
    optimizer, loss = optax.flatten(optax.adam(0.003)), losses.softmax_cross_entropy
    nets = watch(config, model, loss, optimizer, data, batch_size=194, steps=steps)
    accuracies = metrics.accuracies(outputs_of(model, nets, data.inputs), data.targets)
    x1, x2 = jnp.meshgrid(*[jnp.linspace(-3.6, 3.6, 121)] * 2)
    probs = jax.nn.softmax(outputs_of(model, nets, jnp.dstack([x1, x2])))[..., 1]
    run.save_animation("spirals", films.growing_boundary(x1, x2, probs, *data, accuracies, steps))
    return {"spirals_accuracy": accuracies[-1]}


def kernels(config: Config, data, digit, run: Run) -> dict:
    """The first kernels of a CNN, and what they make of a digit, while it learns to read."""
    model, steps = cnn.from_flax(cnn.CNN()), 4 * np.arange(config.num_frames)
    optimizer, loss = optax.adam(0.005), losses.softmax_cross_entropy
    nets = watch(config, model, loss, optimizer, data.train, batch_size=50, steps=steps)
    found = nets.params["Conv_0"]["kernel"]
    maps = jax.lax.map(lambda kernel: ops.conv2d(digit, kernel, padding="VALID")[0], found)
    accuracies = metrics.accuracies(outputs_of(model, nets, data.validation.inputs), data.validation.targets)
    run.save_animation("kernels", films.learning_kernels(found[..., 0, :], digit[0], maps, accuracies, steps))
    return {"kernels_accuracy": accuracies[-1]}


def loss_of(loss_fn, data, params):
    """The mean loss of a net without a state."""
    return loss_fn(params, {"first": {}, "hidden": {}}, data, None)[0].mean()


def gradients(config: Config, data, run: Run) -> dict:
    """Norms of the hidden layers' gradients, of logistic units that begin as Glorot has it, and of ReLU and He."""
    steps, loss, norms, accuracies = 5 * np.arange(config.num_frames), losses.softmax_cross_entropy, {}, {}
    for name, (activation, init) in DEEP_NETS.items():
        deep = models.deep_mlp(20, 40, 10, activation=activation, weight_init=init)
        model = models.preprocess(layers.flatten_pixels, deep)
        nets = watch(config, model, loss, optax.sgd(0.01, momentum=0.9), data.train, batch_size=50, steps=steps)
        mean_loss = functools.partial(loss_of, training.make_loss(model, loss), data.validation)
        found = jax.lax.map(jax.grad(mean_loss), nets.params)
        parts = [jnp.linalg.norm(found[part]["weight"], axis=(-2, -1)) for part in ("first", "hidden")]
        norms[name] = jnp.column_stack(parts)
        accuracies[name] = metrics.accuracies(outputs_of(model, nets, data.validation.inputs), data.validation.targets)
    run.save_animation("gradients", films.layer_gradients(norms, accuracies, steps))
    return {f"gradients_accuracy_{name.split(',')[0].lower()}": found[-1] for name, found in accuracies.items()}


def main(config: Config, run: Run) -> dict:
    """One film after the other."""
    data = datasets.mnist(config.data_dir, num_train=10_000, num_validation=500)
    run.record(data_sha256=datasets.SHA256["mnist"])
    digit = jnp.asarray(data.validation.inputs[:1], jnp.float32) / 255
    summary = bowl(run) | convolution(digit, run) | functions(config, run) | spirals(config, run)
    return summary | kernels(config, data, digit, run) | gradients(config, data, run)


if __name__ == "__main__":
    start(Config, main, quick=Config(num_frames=3))
