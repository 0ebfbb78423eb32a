"""Models as pairs of pure functions over a pytree of parameters."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.layers import dense, glorot_uniform, init_dense
from jaxnn.types import Params


class Model(NamedTuple):
    """A model is two pure functions.

    `init(key, inputs) -> (params, state)` draws the parameters; of `inputs`, an example batch, only shape and dtype
    count. `apply(params, state, inputs, key=None) -> (outputs, state)` computes: with a key (one, or one per example)
    as in training, where noise is drawn from it and batch statistics are used and updated; without one as in
    inference.
    """

    init: Callable
    apply: Callable


def linear(num_outputs: int, *, weight_init=glorot_uniform) -> Model:
    """Linear neurons, y = xW + b (deck, page 3). With a softmax or logistic loss: softmax or logistic regression.

    inputs [*batch, features], outputs [*batch, num_outputs]; params {"weight", "bias"}; no state.
    """

    def init(key, inputs):
        return init_dense(
            key, inputs.shape[-1], num_outputs, weight_init=weight_init, dtype=jnp.result_type(inputs)
        ), {}

    def apply(params, state, inputs, key=None):
        return dense(params, inputs), state

    return Model(init, apply)


def mlp(
    hidden_sizes: Sequence[int], num_outputs: int, *, activation: Callable = jax.nn.relu, weight_init=glorot_uniform
) -> Model:
    """The fully connected network f: Rᵐ → Rⁿ, f(W³ f(W² f(W¹x + b¹) + b²) + b³), last layer linear (deck, page 10).

    inputs [*batch, features], outputs [*batch, num_outputs]; params a list of {"weight", "bias"}, one per layer, the
    first layer first; no state. No hidden sizes: `linear`, in a list.
    """
    sizes = [*hidden_sizes, num_outputs]
    if any(size < 1 for size in sizes):
        raise ValueError(f"mlp: every layer needs at least one neuron, not {sizes}")

    def init(key, inputs):
        keys = jax.random.split(key, len(sizes))
        fan_ins = [inputs.shape[-1], *hidden_sizes]
        params = [
            init_dense(key, fan_in, size, weight_init=weight_init, dtype=jnp.result_type(inputs))
            for key, fan_in, size in zip(keys, fan_ins, sizes, strict=True)
        ]
        return params, {}

    def apply(params, state, inputs, key=None):
        *hidden, last = params
        for layer in hidden:
            inputs = activation(dense(layer, inputs))
        return dense(last, inputs), state

    return Model(init, apply)


def collapse(params: Sequence[Params]) -> Params:
    """The one layer that an `mlp` with the identity as its activation amounts to: w₂ᵀ(Wx) = (Wᵀw₂)ᵀx (deck, page 8)."""
    first, *others = params
    for layer in others:
        first = {"weight": first["weight"] @ layer["weight"], "bias": dense(layer, first["bias"])}
    return first
