"""Back-propagation written out as on the deck's pages 15 and 16, for batches, beside `jax.grad`.

The deck has columns, W⁽ᵏ⁾ [outputs, inputs]; here a row is an example and `weight` [inputs, outputs] is (W⁽ᵏ⁾)ᵀ, the
params those of `models.mlp`. Layer k maps x⁽ᵏ⁻¹⁾ to v⁽ᵏ⁾ = x⁽ᵏ⁻¹⁾ · weight + bias and to x⁽ᵏ⁾ = f(v⁽ᵏ⁾).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from jaxnn.layers import dense
from jaxnn.types import Params


class Activation(NamedTuple):
    """f and its derivative f', by its formula."""

    f: Callable
    derivative: Callable


def _logistic_derivative(v):
    return jax.nn.sigmoid(v) * (1 - jax.nn.sigmoid(v))


IDENTITY = Activation(lambda v: v, jnp.ones_like)
LOGISTIC = Activation(jax.nn.sigmoid, _logistic_derivative)
TANH = Activation(jnp.tanh, lambda v: 1 - jnp.tanh(v) ** 2)
RELU = Activation(jax.nn.relu, lambda v: (v > 0).astype(v.dtype))


class Layer(NamedTuple):
    """What a layer got, x⁽ᵏ⁻¹⁾, and its activity v⁽ᵏ⁾ before the activation function f."""

    x: Float[Array, "batch inputs"]
    v: Float[Array, "batch outputs"]
    activation: Activation


def forward(
    params: Sequence[Params],
    inputs: Float[Array, "batch inputs"],
    *,
    activation: Activation,
    output_activation: Activation = IDENTITY,
) -> tuple[Float[Array, "batch outputs"], list[Layer]]:
    """The outputs of the net, and what every layer saw on the way (deck, page 10)."""
    if inputs.ndim != 2:
        raise ValueError(f"forward: inputs must be [batch, inputs], not of shape {inputs.shape}")
    layers = []
    for number, layer in enumerate(params, 1):
        f = output_activation if number == len(params) else activation
        layers.append(Layer(inputs, dense(layer, inputs), f))
        inputs = f.f(layers[-1].v)
    return inputs, layers


def squared_error_gradient(
    outputs: Float[Array, "batch outputs"], targets: Float[Array, "batch outputs"], *, half: bool = True
) -> Float[Array, "batch outputs"]:
    """∂L/∂y of each example: -(yᵗ - y) for L = ½‖y - yᵗ‖², to which the deck's Δ belongs; twice that without `half`."""
    _require_shape("squared_error_gradient: targets", targets, outputs.shape)
    return -(targets - outputs) if half else -2 * (targets - outputs)


def softmax_cross_entropy_gradient(
    logits: Float[Array, "batch classes"], labels: Integer[Array, " batch"]
) -> Float[Array, "batch classes"]:
    """∂L/∂z of each example, softmax(z) - t, for the cross-entropy of logits z and labels (deck, page 13).

    NaN for a label outside 0 ... classes - 1.
    """
    _require_shape("softmax_cross_entropy_gradient: labels", labels, logits.shape[:-1])
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"softmax_cross_entropy_gradient: labels must be integers, not {labels.dtype}")
    chosen = labels[..., None] == np.arange(logits.shape[-1])  # NumPy's labels are compared before JAX cuts their bits
    return jnp.where(chosen.any(axis=-1, keepdims=True), jax.nn.softmax(logits) - chosen, jnp.nan)


def deltas(
    params: Sequence[Params], layers: Sequence[Layer], output_gradient: Float[Array, "batch outputs"]
) -> list[Float[Array, "batch _"]]:
    """Δ⁽ᵏ⁾ = ∂L/∂v⁽ᵏ⁾ of each example and layer, the first layer first (deck, page 15).

    Output layer: Δ⁽ᴷ⁾ = ∂L/∂y ⊙ f'(v⁽ᴷ⁾). Hidden layers: Δ⁽ᵏ⁾ = (Δ⁽ᵏ⁺¹⁾ W⁽ᵏ⁺¹⁾) ⊙ f'(v⁽ᵏ⁾).
    """
    _require_shape("deltas: output_gradient", output_gradient, layers[-1].v.shape)
    found = [output_gradient * layers[-1].activation.derivative(layers[-1].v)]
    for above, layer in zip(reversed(params[1:]), reversed(layers[:-1]), strict=True):
        output_gradient = found[-1] @ above["weight"].T
        _require_shape("deltas: ∂L/∂x of a hidden layer", output_gradient, layer.v.shape)
        found.append(output_gradient * layer.activation.derivative(layer.v))
    return found[::-1]


def gradients(layers: Sequence[Layer], deltas: Sequence[Float[Array, "batch _"]]) -> list[Params]:
    """∂L/∂weight = (x⁽ᵏ⁻¹⁾)ᵀΔ⁽ᵏ⁾ and ∂L/∂b⁽ᵏ⁾ = Δ⁽ᵏ⁾ (deck, page 16), the mean over the examples of the batch."""
    for layer, delta in zip(layers, deltas, strict=True):
        _require_shape("gradients: the delta of a layer", delta, layer.v.shape)
    return [
        {"weight": layer.x.T @ delta / len(delta), "bias": delta.mean(axis=0)}
        for layer, delta in zip(layers, deltas, strict=True)
    ]


def update(params: Sequence[Params], gradients: Sequence[Params], *, learning_rate: float) -> list[Params]:
    """W ← W - η ∂L/∂W and b ← b - η ∂L/∂b (deck, page 16)."""
    for layer, gradient in zip(params, gradients, strict=True):
        for name in ("weight", "bias"):
            _require_shape(f"update: the gradient of a {name}", gradient[name], layer[name].shape)
    return [
        {name: layer[name] - learning_rate * gradient[name] for name in ("weight", "bias")}
        for layer, gradient in zip(params, gradients, strict=True)
    ]


def _require_shape(name, array, shape):
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, not {array.shape}")
