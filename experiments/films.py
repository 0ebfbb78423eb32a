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

OPTIMIZERS = {
    "descent": optax.sgd(0.02),
    "momentum": optax.sgd(0.02, momentum=0.9),
    "AdaGrad": optax.adagrad(0.5),
    "Adam": optax.adam(0.15),
}
DEEP_NETS = {"logistic, Glorot": (jax.nn.sigmoid, glorot_normal()), "ReLU, He": (jax.nn.relu, he_normal())}


@dataclass(frozen=True)
class Config:
    """How long the nets learn."""

    num_frames: Annotated[int, Field(ge=2, le=200)] = 60  # of each net's film: the more, the longer it learns
    data_dir: DataDir = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: Seed = 0  # of the points and the nets


def watch(config: Config, model, loss, optimizer, data, **options):
    """A net at each of these steps of its training."""
    net = training.init_train_state(jax.random.key(config.seed), model, optimizer, data.inputs[:1])
    options |= {"loss_fn": training.make_loss(model, loss), "optimizer": optimizer}
    return jax.jit(functools.partial(training.snapshots, **options))(net, data)


def outputs_of(model, nets, inputs):
    """What each of the nets computes."""
    return jax.lax.map(lambda net: model.apply(net.params, net.state, inputs)[0], nets)


def bowl(run: Run) -> dict:
    """Four optimizers on the deck's bowl."""

    def f(x):
        return 4 * x[0] ** 2 + x[1] ** 2

    def descend(optimizer):
        return descent.minimize(f, jnp.full(2, 3.0), optimizer=optimizer, tol=0.0, max_steps=80).path

    paths = {name: descend(optimizer) for name, optimizer in OPTIMIZERS.items()}
    heights = {name: jax.vmap(f)(path) for name, path in paths.items()}
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
    options = {"batch_size": 200, "steps": 2 * np.arange(config.num_frames) ** 2}  # faster and faster
    values, fits = {}, {3: {}, 6: {}, 12: {}}
    for name, size in itertools.product(deck.FUNCTIONS, fits):
        f, model = formula.parse(name, ["x1", "x2"]), models.mlp([size], 1, activation=jax.nn.sigmoid)
        data, optimizer = Batch(inputs, f(*inputs.T)[:, None]), optax.flatten(optax.adam(0.03))
        nets = watch(config, model, losses.squared_error, optimizer, data, **options)
        values[name], fits[size][name] = f(x1, x2), outputs_of(model, nets, np.dstack([x1, x2]))[..., 0]
    run.save_animation("functions", films.growing_fits(values, fits, options["steps"]))
    errors = {
        size: [jnp.mean((fit[-1] - values[name]) ** 2) for name, fit in row.items()] for size, row in fits.items()
    }
    return {f"functions_largest_error_{size}": max(found) for size, found in errors.items()}


def spirals(config: Config, run: Run) -> dict:
    """A net 2-32-32-1 learns to tell two spirals apart."""
    angles = np.linspace(0.5, 3, 97) * np.pi
    arm = np.stack([angles * np.cos(angles), angles * np.sin(angles)], axis=1) / 3
    data = Batch(jnp.array([*arm, *-arm]), jnp.repeat(jnp.array([[0.0], [1.0]]), len(arm), axis=0))
    model, steps = models.mlp([32, 32], 1, activation=jnp.tanh), np.arange(config.num_frames) ** 2

    def loss(logits, targets):
        return losses.sigmoid_cross_entropy(logits, targets)[:, 0]

    nets = watch(config, model, loss, optax.flatten(optax.adam(0.003)), data, batch_size=194, steps=steps)
    right = (outputs_of(model, nets, data.inputs) > 0) == (data.targets > 0)
    x1, x2 = np.meshgrid(*[np.linspace(-3.6, 3.6, 121)] * 2)
    probs = jax.nn.sigmoid(outputs_of(model, nets, np.dstack([x1, x2])))[..., 0]
    accuracies = right.mean(axis=(1, 2))
    run.save_animation("spirals", films.growing_boundary(x1, x2, probs, *data, accuracies, steps))
    return {"spirals_accuracy": accuracies[-1]}


def kernels(config: Config, data, digit, run: Run) -> dict:
    """The first kernels of a CNN, and what they make of a digit, while it learns to read."""
    model, steps = cnn.from_flax(cnn.CNN()), 4 * np.arange(config.num_frames)
    options = {"batch_size": 50, "steps": steps}
    nets = watch(config, model, losses.softmax_cross_entropy, optax.adam(0.005), data.train, **options)
    found = nets.params["Conv_0"]["kernel"]
    maps = jax.lax.map(lambda kernel: ops.conv2d(digit, kernel, padding="VALID")[0], found)
    accuracies = metrics.accuracies(outputs_of(model, nets, data.validation.inputs), data.validation.targets)
    run.save_animation("kernels", films.learning_kernels(found[..., 0, :], digit[0], maps, accuracies, steps))
    return {"kernels_accuracy": accuracies[-1]}


def gradients(config: Config, data, run: Run) -> dict:
    """Two nets of 20 hidden layers: logistic units that begin as Glorot has it, ReLU as He has it."""
    steps, norms, accuracies = 5 * np.arange(config.num_frames), {}, {}
    for name, (activation, init) in DEEP_NETS.items():
        model = models.deep_mlp(20, 40, 10, activation=activation, weight_init=init)
        model = models.preprocess(layers.flatten_pixels, model)
        training_options = losses.softmax_cross_entropy, optax.sgd(0.01, momentum=0.9)
        nets = watch(config, model, *training_options, data.train, batch_size=50, steps=steps)
        loss_fn = training.make_loss(model, losses.softmax_cross_entropy)
        norms[name] = jax.lax.map(functools.partial(gradient_norms, loss_fn, data.validation), nets)
        logits = outputs_of(model, nets, data.validation.inputs)
        accuracies[name] = metrics.accuracies(logits, data.validation.targets)
    run.save_animation("gradients", films.layer_gradients(norms, accuracies, steps))
    return {f"gradients_{name.split(',')[0].lower()}_accuracy": found[-1] for name, found in accuracies.items()}


def gradient_norms(loss_fn, data, net):
    """The norm of the weights' gradient in each hidden layer of a `deep_mlp`."""
    gradient = jax.grad(lambda params: loss_fn(params, net.state, data, None)[0].mean())(net.params)
    first, others = (jnp.linalg.norm(gradient[part]["weight"], axis=(-2, -1)) for part in ("first", "hidden"))
    return jnp.append(first, others)


def main(config: Config, run: Run) -> dict:
    """One film after the other."""
    data = datasets.mnist(config.data_dir, num_train=10_000, num_validation=500)
    run.record(data_sha256=datasets.SHA256["mnist"])
    digit = jnp.asarray(data.validation.inputs[:1], jnp.float32) / 255
    summary = bowl(run) | convolution(digit, run) | functions(config, run) | spirals(config, run)
    return summary | kernels(config, data, digit, run) | gradients(config, data, run)


if __name__ == "__main__":
    start(Config, main, quick=Config(num_frames=3))
