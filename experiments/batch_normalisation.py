"""What batch normalisation mends in a deep network, and what it does not.

The deck (page 20) names batch normalisation against vanishing gradients. It keeps the signals of all layers at one
size, but ReLU bends them in each, and the normalisation stretches what was bent. So in random nets, which have learned
nothing yet, layer after layer forgets which digit it saw, and gradients grow on their way back, in wide ReLU nets by
√(π / (π - 1)) = 1.21 a layer (Yang et al., "A mean field theory of batch normalization", 2019). That is why, in
vanishing_gradients, 50 layers of ReLU do not learn with it; logistic neurons, which hardly bend, do. Skip connections,
which add its inputs to the outputs of a layer (He et al., "Deep residual learning", 2015), keep both in bounds.

Run:    make experiment NAME=batch_normalisation

Expect: a linear model reads right from the 20th layer 42 ± 3 % (logistic), 24 ± 2 % (tanh), 12 ± 1 % (ReLU), 49 ± 4 %
        (ReLU, skip connections); a gradient grows by 1.01, 1.07, 1.18, 1.04 a layer; 5 seeds

Time:   10 s
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import he_normal
from pydantic import Field
from pydantic.dataclasses import dataclass

from jaxnn import layers, linear_models, losses, metrics, training
from jaxnn.lab import curves, datasets
from jaxnn.lab.config import DataDir, NumSeeds, Seed, Width
from jaxnn.lab.run import Run, mean_and_sd
from jaxnn.lab.start import start
from jaxnn.types import Batch


@dataclass(frozen=True)
class Config:
    """The nets."""

    num_layers: Annotated[int, Field(ge=3, le=1000)] = 50  # hidden layers
    hidden_size: Width = 40  # neurons of each
    num_digits: Annotated[int, Field(ge=200, le=5000, multiple_of=2)] = 2000  # half to fit linear models, half to test
    data_dir: DataDir = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: Seed = 0  # of the first net of each kind
    num_seeds: NumSeeds = 5  # nets of each kind; the others take the seeds that follow


class Kind(NamedTuple):
    """A kind of net."""

    activation: Callable
    skip: bool = False  # each layer adds its inputs to its outputs


KINDS = {
    "logistic": Kind(jax.nn.sigmoid),
    "tanh": Kind(jnp.tanh),
    "ReLU": Kind(jax.nn.relu),
    "ReLU, skip connections": Kind(jax.nn.relu, skip=True),
}


def init_net(config: Config, key, num_inputs: int):
    """He's weights: of the first layer, of the others, stacked, and of the logits."""
    keys, size = jax.random.split(key, config.num_layers + 1), config.hidden_size
    hidden = jax.vmap(lambda key: he_normal()(key, (size, size)))(keys[1:-1])
    return {
        "first": he_normal()(keys[0], (num_inputs, size)),
        "hidden": hidden,
        "last": he_normal()(keys[-1], (size, 10)),
    }


def apply_net(kind: Kind, params, inputs):
    """The logits, and the outputs of all hidden layers [layers, examples, neurons]."""

    def normalised(inputs, weight):
        v = inputs @ weight
        return kind.activation((v - v.mean(axis=0)) / v.std(axis=0))

    def layer(inputs, weight):
        outputs = normalised(inputs, weight) + (inputs if kind.skip else 0)
        return outputs, outputs

    first = normalised(inputs, params["first"])
    last, others = jax.lax.scan(layer, first, params["hidden"])
    return last @ params["last"], jnp.concatenate([first[None], others])


def readable(outputs, labels):
    """The share of the second half of the labels that least squares on the first half reads from the outputs right."""
    half = len(labels) // 2
    fit = linear_models.least_squares(outputs[:half], jax.nn.one_hot(labels[:half], 10))
    return metrics.accuracy(layers.dense(fit.params, outputs[half:]), labels[half:])


@jax.jit(static_argnames=("config", "kind"))
def look_into(config: Config, kind: Kind, key, digits: Batch):
    """Of a random net: what is read from each layer, and log₁₀ of each layer's largest weight gradient."""
    params = init_net(config, key, digits.inputs.shape[1])
    _, outputs = apply_net(kind, params, digits.inputs)

    def loss(params):
        return losses.softmax_cross_entropy(apply_net(kind, params, digits.inputs)[0], digits.targets).mean()

    gradient = jax.grad(loss)(params)
    largest = jnp.append(jnp.abs(gradient["first"]).max(), jnp.abs(gradient["hidden"]).max(axis=(1, 2)))
    return jax.lax.map(lambda outputs: readable(outputs, digits.targets), outputs), jnp.log10(largest)


def main(config: Config, run: Run) -> dict:
    """Looks into random nets of each kind; draws and logs what is left of the digits, and how gradients grow."""
    data = datasets.mnist(config.data_dir, num_validation=config.num_digits).validation
    run.record(data_sha256=datasets.SHA256["mnist"])
    digits = Batch((layers.flatten_pixels(jnp.asarray(data.inputs)) - 0.1307) / 0.3081, jnp.asarray(data.targets))
    layer, keys = np.arange(1, config.num_layers + 1), training.seed_keys(config.seed, config.num_seeds)
    read, grown, summary = {}, {}, {"num_seeds": config.num_seeds, "num_layers": config.num_layers}
    for name, kind in KINDS.items():
        shares, gradients = (
            np.stack(rows) for rows in zip(*(look_into(config, kind, key, digits) for key in keys), strict=True)
        )
        run.log_seeds(config.seed, net=name, readable=shares, log10_gradients=gradients)
        read[name], grown[name] = (layer, 100 * shares), (layer, gradients)
        label = name.lower().replace(", skip connections", "_skip")
        growth = 10 ** ((gradients[:, 1] - gradients[:, -1]) / (config.num_layers - 2))
        summary |= mean_and_sd(f"{label}_gradient_growth", growth)
        for depth in sorted({min(depth, config.num_layers) for depth in (10, 20, config.num_layers)}):
            summary |= mean_and_sd(f"{label}_readable_{depth}", shares[:, depth - 1])
    run.save_figure("layers", curves.batch_normalisation(read, grown))
    return summary


if __name__ == "__main__":
    start(Config, main, quick=Config(num_layers=5, num_digits=200, num_seeds=2))
