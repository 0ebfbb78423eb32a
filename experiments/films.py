"""Six films: what a picture can only say, shown as it happens.

Optimizers go down the bowl (deck, page 12); a kernel slides over a digit (page 19); nets learn three functions (page
17) and two spirals (page 8: no straight boundary); kernels of a CNN learn (page 19); gradients vanish or not (page 20).

Run:    make experiment NAME=films

Expect: GIFs of 0.2 ... 0.9 MB; errors of 0.04, 0.002 and 0.0002 with 3, 6, 12 neurons; 20 layers read 10 % or 81 %

Time:   1 min
"""

from typing import Annotated

import jax
import jax.numpy as jnp
import optax
from jax.nn.initializers import glorot_normal, he_normal
from pydantic import Field
from pydantic.dataclasses import dataclass

from jaxnn import cnn, deck, descent, layers, losses, metrics, models, ops, training
from jaxnn.lab import datasets, films, formula, surfaces
from jaxnn.lab.config import DataDir, Seed
from jaxnn.lab.run import Run
from jaxnn.lab.start import start
from jaxnn.types import Batch

DEEP_NETS = {"logistic, Glorot": (jax.nn.sigmoid, glorot_normal()), "ReLU, He": (jax.nn.relu, he_normal())}


@dataclass(frozen=True)
class Config:
    """How long the nets learn."""

    num_frames: Annotated[int, Field(ge=2, le=60)] = 60  # of each net's film: the more, the longer it learns
    data_dir: DataDir = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: Seed = 1  # of the points and the nets


@jax.jit(static_argnames=("model", "loss", "optimizer", "batch_size", "steps"))
def watch(seed, data, model, loss, optimizer, *, batch_size: int, steps: tuple[int, ...]):
    """A net at each of some steps of its training."""
    net = training.init_train_state(jax.random.key(seed), model, optimizer, data.inputs[:1])
    return training.snapshots(net, data, training.make_loss(model, loss), optimizer, batch_size=batch_size, steps=steps)


@jax.jit(static_argnums=0)
def outputs_of(model, nets, inputs):
    """What each of the nets computes."""
    return jax.lax.map(lambda net: model.apply(net.params, net.state, inputs)[0], nets)


def bowl(config: Config, run: Run):
    """Four optimizers on the deck's bowl, from its start."""
    f, x0, paths = formula.parse("4*x1**2 + x2**2", ["x1", "x2"]), jnp.full(2, 3.0), {}
    for name, rate in {"descent": 0.02, "momentum": 0.02, "adagrad": 0.5, "adam": 0.15}.items():
        options = {"optimizer": training.OPTIMIZERS.get(name, optax.sgd)(rate), "max_steps": 20 + config.num_frames}
        paths[f"{name}\n$\\eta = {rate}$"] = descent.minimize(lambda x: f(*x), x0, tol=0.0, **options).path
    titles = {"formula": "$4x_1^2 + x_2^2$", "closing": "Momentum swings; adagrad and adam go straight; descent crawls"}
    run.save_animation("bowl", films.descents(lambda x: f(*x), paths, **titles))


def convolution(digit, run: Run):
    """A kernel for upright edges slides over a digit of half the size, as in a layer: not turned."""
    image, kernel = ops.avg_pool(digit)[:, 1:-1, 1:-1], jnp.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    sums = ops.conv2d(image, kernel[:, :, None, None], padding="VALID")
    run.save_animation("convolution", films.sliding_kernel(image[0, :, :, 0], kernel, sums[0, :, :, 0]))


def functions(config: Config, run: Run) -> dict:
    """Nets with 3, 6 and 12 logistic neurons learn the deck's three functions, from 200 points each."""
    x1, x2, _ = surfaces.over_grid(jnp.sum, (-2, 2), (-2, 2), resolution=41)
    inputs = jax.random.uniform(jax.random.key(config.seed), (200, 2), minval=-2, maxval=2)
    parsed = {formula.title(text): formula.parse(text, ["x1", "x2"]) for text in deck.FUNCTIONS}
    values, fits = {name: f(x1, x2) for name, f in parsed.items()}, {3: {}, 6: {}, 12: {}}
    steps, errors = tuple(2 * frame**2 for frame in range(config.num_frames)), {}  # faster and faster
    for size, found in fits.items():
        model, optimizer = models.mlp([size], 1, activation=jax.nn.sigmoid), optax.flatten(optax.adam(0.03))
        for name, f in parsed.items():
            data = Batch(inputs, f(*inputs.T)[:, None])
            nets = watch(config.seed, data, model, losses.squared_error, optimizer, batch_size=200, steps=steps)
            found[name] = outputs_of(model, nets, jnp.dstack([x1, x2]))[..., 0]
        errors[f"functions_error_{size}"] = jnp.stack([(found[name][-1] - values[name]) ** 2 for name in values]).mean()
    run.save_animation("functions", films.growing_fits(values, fits, steps))
    return errors


def spirals(config: Config, run: Run) -> dict:
    """A net 2-32-32-2 learns to tell two spirals apart."""
    angles = jnp.linspace(0.5, 4, 97)[:, None] * jnp.pi
    arm = jnp.hstack([jnp.cos(angles), jnp.sin(angles)]) * angles / 4
    data, optimizer = Batch(jnp.array([*arm, *-arm]), jnp.repeat(jnp.arange(2), 97)), optax.flatten(optax.adam(0.003))
    model, steps = models.mlp([32, 32], 2, activation=jnp.tanh), tuple(i**2 // 2 for i in range(config.num_frames))
    nets = watch(config.seed, data, model, losses.softmax_cross_entropy, optimizer, batch_size=194, steps=steps)
    accuracies, x = metrics.accuracies(outputs_of(model, nets, data.inputs), data.targets), jnp.linspace(-3.6, 3.6, 121)
    probs = jax.nn.softmax(outputs_of(model, nets, jnp.dstack(jnp.meshgrid(x, x))))[..., 1]
    run.save_animation("spirals", films.growing_boundary(x, probs, data.inputs, data.targets, accuracies, steps))
    return {"spirals_accuracy": accuracies[-1]}


def kernels(config: Config, data, run: Run) -> dict:
    """The first kernels of a CNN, and what they make of a digit, while it learns to read."""
    net, sizes = cnn.from_flax(cnn.CNN()), {"batch_size": 50, "steps": tuple(range(0, 8 * config.num_frames, 8))}

    def init(key, inputs):
        params, state = net.init(key, inputs)
        params["Conv_0"]["kernel"] *= 0.01  # which batch normalisation undoes: one sees them grow out of nothing
        return params, state

    model = models.Model(init, net.apply)
    nets = watch(config.seed, data.train, model, losses.softmax_cross_entropy, optax.adam(0.005), **sizes)
    found, digit = nets.params["Conv_0"]["kernel"], data.validation.inputs[2:3] / 255
    maps = jax.lax.map(lambda kernel: ops.conv2d(digit, kernel, padding="VALID")[0], found)
    accuracies = metrics.accuracies(outputs_of(model, nets, data.validation.inputs), data.validation.targets)
    run.save_animation("kernels", films.learning_kernels(found[..., 0, :], digit[0], maps, accuracies, sizes["steps"]))
    return {"kernels_accuracy": accuracies[-1]}


def gradient_norms(model, data, net):
    """Of the weights of each hidden layer of a `deep_mlp`."""
    loss_fn = training.make_loss(model, losses.softmax_cross_entropy)
    gradient = jax.grad(lambda params: loss_fn(params, net.state, data, None)[0].mean())(net.params)
    return jnp.append(*(jnp.linalg.norm(gradient[part]["weight"], axis=(-2, -1)) for part in ("first", "hidden")))


def gradients(config: Config, data, run: Run) -> dict:
    """What reaches each of 20 hidden layers, of logistic units that begin as Glorot has it, and of ReLU and He."""
    sizes, norms, accuracies = {"batch_size": 50, "steps": tuple(range(0, 10 * config.num_frames, 10))}, {}, {}
    for name, (activation, weight_init) in DEEP_NETS.items():
        deep = models.deep_mlp(20, 40, 10, activation=activation, weight_init=weight_init)
        model, optimizer = models.preprocess(layers.flatten_pixels, deep), optax.sgd(0.01, momentum=0.9)
        nets = watch(config.seed, data.train, model, losses.softmax_cross_entropy, optimizer, **sizes)
        norms[name] = jax.lax.map(lambda net, model=model: gradient_norms(model, data.validation, net), nets)
        accuracies[name] = metrics.accuracies(outputs_of(model, nets, data.validation.inputs), data.validation.targets)
    run.save_animation("gradients", films.layer_gradients(norms, accuracies, sizes["steps"]))
    return {f"gradients_accuracy_{name.split(',')[0].lower()}": found[-1] for name, found in accuracies.items()}


def main(config: Config, run: Run) -> dict:
    """One film after the other."""
    data = jax.device_put(datasets.mnist(config.data_dir, num_train=10_000, num_validation=500))
    run.record(data_sha256=datasets.SHA256["mnist"])
    bowl(config, run)
    convolution(data.validation.inputs[2:3, : 6 + 2 * config.num_frames] / 255, run)  # few frames: a part of it
    return functions(config, run) | spirals(config, run) | kernels(config, data, run) | gradients(config, data, run)


if __name__ == "__main__":
    start(Config, main, quick=Config(num_frames=3))
