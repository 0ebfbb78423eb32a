"""Models as pairs of pure functions over a pytree of parameters."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxnn import layers
from jaxnn.layers import dense, glorot_uniform, init_dense
from jaxnn.types import Apply, Init, Params


class Model(NamedTuple):
    """A model is two pure functions.

    `init(key, inputs) -> (params, state)` draws the parameters; of `inputs`, an example batch, only shape and dtype
    count. `apply(params, state, inputs, key=None) -> (outputs, state)` computes: with a key as in training, where noise
    is drawn from it and batch statistics are used and updated; without one as in inference.
    """

    init: Init
    apply: Apply


def preprocess(transform: Callable, model: Model) -> Model:
    """The model behind a fixed function of its inputs, so that it takes the data as they are on disk.

    `preprocess(layers.flatten_pixels, mlp([300, 100], 10))` is a fully connected net on images of pixels 0 ... 255.
    """

    def init(key, inputs):
        return model.init(key, transform(inputs))

    def apply(params, state, inputs, key=None):
        return model.apply(params, state, transform(inputs), key)

    return Model(init, apply)


def chain(*models: Model) -> Model:
    """The models one after the other, each on the outputs of the one before; params and state are lists of theirs."""
    if not models:
        raise ValueError("chain: give one model or more")

    def init(key, inputs):
        params, state = [], []
        for model, model_key in zip(models, jax.random.split(key, len(models)), strict=True):
            drawn = model.init(model_key, inputs)
            inputs, _ = jax.eval_shape(model.apply, *drawn, inputs)
            inputs = jnp.zeros(inputs.shape, inputs.dtype)
            params, state = [*params, drawn[0]], [*state, drawn[1]]
        return params, state

    def apply(params, state, inputs, key=None):
        keys = [None if key is None else jax.random.fold_in(key, number) for number in range(len(models))]
        new = []
        for model, model_params, model_state, model_key in zip(models, params, state, keys, strict=True):
            inputs, model_state = model.apply(model_params, model_state, inputs, model_key)
            new.append(model_state)
        return inputs, new

    return Model(init, apply)


def in_groups(model: Model, *, size: int, mesh: Mesh | None = None) -> Model:
    """The same model, computed for `size` examples at a time, so that all that a group needs stays in the cache.

    On CPU that pays for convolutions without batch statistics between them; dense layers are faster on the whole batch:
    `chain(in_groups(convolutions, size=8), dense_layers)`.

    model: without state, and what it computes for an example must not depend on the others.
    mesh: the one of `train_steps`, where it has one. Each device then takes its share of the groups; or all of them,
        where the batch does not go into groups for each device evenly.
    """
    _check_sizes("in_groups", [size])

    def apply(params, state, inputs, key=None):
        if jax.tree.leaves(state):
            raise ValueError("in_groups: a model with a state, such as batch statistics, needs the whole batch")

        def outputs_of(params, key, number, group):
            return model.apply(params, state, group, None if key is None else jax.random.fold_in(key, number))[0]

        def outputs_of_all(params, key, numbers, groups):
            return jax.lax.map(lambda group: outputs_of(params, key, *group), (numbers, groups))

        number = len(inputs) // size
        whole, rest = inputs[: number * size], inputs[number * size :]
        if mesh is not None and len(inputs) % (size * mesh.size) == 0:
            shared, spread = PartitionSpec(), PartitionSpec("batch")
            specs = {"in_specs": (shared, shared, spread, spread), "out_specs": spread, "check_vma": False}
            outputs_of_all = jax.shard_map(outputs_of_all, mesh=mesh, **specs)
        outputs = outputs_of_all(params, key, jnp.arange(number), whole.reshape(number, size, *inputs.shape[1:]))
        outputs = outputs.reshape(number * size, *outputs.shape[2:])
        return jnp.concatenate([outputs, outputs_of(params, key, number, rest)]) if len(rest) else outputs, state

    return Model(model.init, apply)


def linear(num_outputs: int, *, weight_init=glorot_uniform) -> Model:
    """Linear neurons, y = xW + b (deck, page 3). With a softmax or logistic loss: softmax or logistic regression.

    inputs [*batch, features], outputs [*batch, num_outputs]; params {"weight", "bias"}; no state.
    """
    _check_sizes("linear", [num_outputs])

    def init(key, inputs):
        num_inputs, dtype = _features(inputs)
        return init_dense(key, num_inputs, num_outputs, weight_init=weight_init, dtype=dtype), {}

    def apply(params, state, inputs, key=None):
        return dense(params, inputs), state

    return Model(init, apply)


def _check_sizes(model, sizes):
    if min(sizes) < 1:
        raise ValueError(f"{model}: every layer needs at least one neuron, not {sizes}")


def _features(inputs):
    """Number and dtype of the features."""
    if inputs.ndim == 0:
        raise ValueError("init: inputs are [*batch, features], not a scalar")
    return inputs.shape[-1], jnp.result_type(inputs)


def _init_hidden(key, num_inputs, size, *, weight_init, batch_norm, dtype):
    """Parameters and state of a hidden layer, where batch normalisation stands instead of the bias."""
    params = init_dense(key, num_inputs, size, weight_init=weight_init, dtype=dtype)
    if not batch_norm:
        return params, {}
    norm, state = layers.init_batch_norm(size, dtype=dtype)
    return {"weight": params["weight"], "batch_norm": norm}, state


def _hidden(params, state, inputs, *, activation, training):
    """y = f(v) of v = xW + b, or of v = xW, normalised."""
    v = dense(params, inputs)
    if "batch_norm" in params:
        v, state = layers.batch_norm(params["batch_norm"], state, v, training=training)
    return activation(v), state


def mlp(
    hidden_sizes: Sequence[int],
    num_outputs: int,
    *,
    activation: Callable = jax.nn.relu,
    weight_init=glorot_uniform,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> Model:
    """The fully connected network f: Rᵐ → Rⁿ, f(W³ f(W² f(W¹x + b¹) + b²) + b³), last layer linear (deck, page 10).

    inputs [*batch, features], outputs [*batch, num_outputs]; params a list of {"weight", "bias"}, one per layer, the
    first layer first. No hidden sizes: `linear`, in a list.

    With `batch_norm`, batch normalisation stands between each hidden W and f, instead of b: hidden layers have
    {"weight", "batch_norm"}, and the state has the statistics of each. With `dropout`, each hidden neuron is dropped in
    training with that probability.
    """
    _check_sizes("mlp", [*hidden_sizes, num_outputs])
    if not 0 <= dropout < 1:
        raise ValueError(f"mlp: dropout must be in [0, 1), not {dropout}")

    def init(key, inputs):
        num_inputs, dtype = _features(inputs)
        keys, fan_ins = jax.random.split(key, len(hidden_sizes) + 1), [num_inputs, *hidden_sizes]
        options = {"weight_init": weight_init, "dtype": dtype}
        hidden = [
            _init_hidden(key, fan_in, size, batch_norm=batch_norm, **options)
            for key, fan_in, size in zip(keys, fan_ins, hidden_sizes, strict=False)  # the last are those of the outputs
        ]
        last = init_dense(keys[-1], fan_ins[-1], num_outputs, **options)
        return [*(params for params, _ in hidden), last], [state for _, state in hidden] if batch_norm else {}

    def apply(params, state, inputs, key=None):
        *hidden, last = params
        old, new = state if batch_norm else [{}] * len(hidden), []
        for number, layer in enumerate(zip(hidden, old, strict=True)):
            inputs, statistics = _hidden(*layer, inputs, activation=activation, training=key is not None)
            new.append(statistics)
            if key is not None:
                inputs = layers.dropout(inputs, jax.random.fold_in(key, number), rate=dropout)
        return dense(last, inputs), new if batch_norm else state

    return Model(init, apply)


def deep_mlp(
    num_hidden: int,
    hidden_size: int,
    num_outputs: int,
    *,
    activation: Callable = jax.nn.relu,
    weight_init=glorot_uniform,
    batch_norm: bool = False,
) -> Model:
    """An `mlp` of equal hidden layers as a scan over their stacked parameters: 50 layers compile as fast as 2.

    params {"first", "hidden", "last"}, the hidden layers but the first stacked along the first axis; so is the state of
    batch normalisation, {"first", "hidden"}. With it, each layer has {"weight", "batch_norm"}, else {"weight", "bias"}.
    """
    if num_hidden < 1:
        raise ValueError(f"deep_mlp: num_hidden must be 1 or more, not {num_hidden}")
    _check_sizes("deep_mlp", [hidden_size, num_outputs])

    def init(key, inputs):
        num_inputs, dtype = _features(inputs)
        options = {"weight_init": weight_init, "dtype": dtype}
        init_hidden = functools.partial(_init_hidden, size=hidden_size, batch_norm=batch_norm, **options)
        keys = jax.random.split(key, num_hidden + 1)
        first, first_state = init_hidden(keys[0], num_inputs)
        hidden, state = jax.vmap(lambda key: init_hidden(key, hidden_size))(keys[1:-1])
        last = init_dense(keys[-1], hidden_size, num_outputs, **options)
        return {"first": first, "hidden": hidden, "last": last}, {"first": first_state, "hidden": state}

    def apply(params, state, inputs, key=None):
        def layer(inputs, params_and_state):
            params, state = params_and_state
            return _hidden(params, state, inputs, activation=activation, training=key is not None)

        outputs, first = layer(inputs, (params["first"], state["first"]))
        outputs, hidden = jax.lax.scan(layer, outputs, (params["hidden"], state["hidden"]), length=num_hidden - 1)
        return dense(params["last"], outputs), {"first": first, "hidden": hidden}

    return Model(init, apply)


def collapse(params: Sequence[Params]) -> Params:
    """The one layer that an `mlp` with the identity as its activation amounts to: w₂ᵀ(Wx) = (Wᵀw₂)ᵀx (deck, page 8)."""
    if any("bias" not in layer for layer in params):
        raise ValueError("collapse: the layers need weight and bias each, without batch normalisation")
    first, *others = params
    for layer in others:
        first = {"weight": first["weight"] @ layer["weight"], "bias": dense(layer, first["bias"])}
    return first
