"""Training as a pure function: a chunk of steps maps one `TrainState` to the next. The caller jits and maps it."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, PyTree, Shaped

from jaxnn.data import batch_indices, num_examples, refuse_rounding, require_integer
from jaxnn.losses import is_weight
from jaxnn.models import Model
from jaxnn.types import Batch, LossFn, Params, PRNGKey, State


class TrainState(NamedTuple):
    """All that a run needs to go on.

    The key never changes. With `order_key, noise_key = split(key)`, epoch e is shuffled by `fold_in(order_key, e)` and
    step t draws from `fold_in(noise_key, t)`.
    """

    step: Int[Array, ""]
    params: Params
    state: State
    opt_state: Any
    key: PRNGKey


OptimizerName = Literal["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "muon"]

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "momentum": functools.partial(optax.sgd, momentum=0.9),
    "nesterov": functools.partial(optax.sgd, momentum=0.9, nesterov=True),
    "adagrad": optax.adagrad,
    "rmsprop": optax.rmsprop,
    "adam": optax.adam,
    "adamw": functools.partial(
        optax.adamw, weight_decay=0.01, mask=functools.partial(jax.tree.map_with_path, is_weight)
    ),
    "muon": optax.contrib.muon,
}
"""Optimizers by name (deck, pages 12 and 20), as functions of the learning rate or of its schedule.

adamw has Loshchilov and Hutter's decoupled weight decay, which leaves biases and scales free. muon is for matrices:
all other parameters are trained by adam.
"""


def seed_keys(seed: int, num_seeds: int) -> Key[Array, " num_seeds"]:
    """The keys of the seeds `seed`, `seed` + 1, ...: seed i is `jax.random.key(i)`."""
    require_integer("seed_keys: num_seeds", num_seeds, 1)
    require_integer("seed_keys: seed", seed, 0, 2**31 - num_seeds)  # the keys of others depend on jax_enable_x64
    return jax.vmap(jax.random.key)(seed + jnp.arange(num_seeds))


def init_train_state(key: PRNGKey, model: Model, optimizer: optax.GradientTransformation, inputs: PyTree) -> TrainState:
    """The state before the first step. Of `inputs`, an example batch as the model gets it, shape and dtype count."""
    params_key, key = jax.random.split(key)
    params, state = model.init(params_key, inputs)
    return TrainState(jnp.zeros((), jnp.int32), params, state, optimizer.init(params), key)


def restart(train_state: TrainState, optimizer: optax.GradientTransformation) -> TrainState:
    """The same net at step 0 of another training, with the optimizer's own state; vmap it over nets.

    The key stays: the orders and the noise are those of the training before.
    """
    _check_one_net("restart", train_state)
    return train_state._replace(step=jnp.zeros_like(train_state.step), opt_state=optimizer.init(train_state.params))


def make_loss(model: Model, loss: Callable) -> Callable:
    """The usual loss for `train_steps`: `loss`, such as `losses.softmax_cross_entropy`, of outputs and targets.

    Called with the key None it is the loss in inference.
    """

    def loss_fn(params, state, batch, key):
        outputs, state = model.apply(params, state, batch.inputs, key)
        return loss(outputs, batch.targets), state

    return loss_fn


def train_steps(
    train_state: TrainState,
    data: Batch,
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    num_steps: int,
    shuffle: bool = True,
    micro_batch: int | None = None,
    mesh: Mesh | None = None,
) -> tuple[TrainState, dict[str, Shaped[Array, " num_steps"]]]:
    """Mini-batch training (deck, page 13) for `num_steps` steps as one `lax.scan`: jit it, vmap it over states.

    A step goes down the gradient of the mean of its losses. One chunk of 2n steps does what two of n do, bit for bit
    where XLA compiles the step alike. A step is not taken whose loss, gradient norm or outcome (params, state,
    optimizer state) is not finite: all stays as it was before it, in the steps that follow too, and `step` tells where
    the training diverged.

    data: all training examples, on the device; `batch_indices` says which come when.
    loss_fn: `(params, state, batch, key) -> (losses, state)`, one loss per example, and one key per step; or with
        more numbers per example, by their names: `(losses, state, {"accuracy": ...})`.
    optimizer: any of Optax whose update asks for `value`, `grad` or `value_fn` (`optax.lbfgs`, `polyak_sgd`,
        `contrib.reduce_on_plateau`), the loss, the gradient and the loss as a function of the params, or for no more.
        One small net alone trains in two thirds of the time with `optax.flatten(optimizer)`.
    shuffle: each epoch in an order of its own; a batch of all examples at once is never shuffled.
    micro_batch: a divisor of the batch size. The gradient is then the mean of those of the micro-batches, one after the
        other: the same to rounding, in less memory (on CPU, for convolutions on 512 images, also in half the time); but
        a model with batch statistics takes those of each, and micro-batch i draws noise from `fold_in(key, i)`.
    mesh: such as `batch_mesh` makes. The examples of a batch are spread over its devices, which compute as one: means,
        batch statistics and noise are those of the whole batch. State and data must lie on all of them (`replicate`).

    Returns the state after the last step, and metrics of each step: `loss`, the mean over the batch before the update,
    and so the other numbers of `loss_fn`; `gradient_norm`, the Euclidean norm of the gradient; `diverged`, whether the
    step was not taken.
    """
    _check_one_net("train_steps", train_state)
    refuse_rounding("train_steps", *jax.tree.leaves((train_state, data)))
    data = jax.tree.map(jnp.asarray, data)
    sizes = {"num_steps": num_steps, "num_examples": num_examples(data), "batch_size": batch_size}
    micro_batch = batch_size if micro_batch is None else micro_batch
    shuffle = shuffle and not micro_batch == batch_size == num_examples(data)
    order_key, noise_key = jax.random.split(train_state.key)
    indices = batch_indices(order_key, train_state.step, **sizes, shuffle=shuffle)
    require_integer("train_steps: micro_batch", micro_batch, 1)
    if batch_size % micro_batch:
        raise ValueError(f"train_steps: micro_batch {micro_batch} does not divide the batch size {batch_size}")
    if mesh is not None and micro_batch % mesh.size:
        raise ValueError(f"train_steps: {mesh.size} devices cannot share {micro_batch} examples evenly")

    _check_opt_state(train_state, optimizer)
    update = optax.with_extra_args_support(optimizer).update

    def mean_loss(params, state, batch, key):
        result = loss_fn(params, state, batch, key)
        _check_result(result, state, micro_batch)
        losses, state, *others = result
        means = {name: jnp.mean(values) for name, values in (others[0] if others else {}).items()}
        return losses.mean(), (state, means)

    def gradient_of(params, state, batch, key):
        (loss, (state, means)), gradient = jax.value_and_grad(mean_loss, has_aux=True)(params, state, batch, key)
        return gradient, state, means | {"loss": loss}

    def take_step(train_state, step_and_indices):
        step, indices = step_and_indices
        batch = _spread(jax.tree.map(lambda leaf: leaf[indices], data), mesh)
        key = jax.random.fold_in(noise_key, train_state.step)
        parts = None if micro_batch == batch_size else _micro_batches(batch, micro_batch, mesh)

        def loss_at(params):
            if parts is None:
                return mean_loss(params, train_state.state, batch, key)[0]
            return _mean_over_parts(mean_loss, params, train_state.state, parts, key)

        if parts is None:
            gradient, state, metrics = gradient_of(train_state.params, train_state.state, batch, key)
        else:
            gradient, state, metrics = _mean_gradient(gradient_of, train_state.params, train_state.state, parts, key)
        asked = {"value": metrics["loss"], "grad": gradient, "value_fn": loss_at}
        updates, opt_state = update(gradient, train_state.opt_state, train_state.params, **asked)
        params = optax.apply_updates(train_state.params, updates)
        stepped = TrainState(train_state.step + 1, params, state, opt_state, train_state.key)
        outcome = stepped._replace(opt_state=_without_infinite_scalars(opt_state))
        metrics["gradient_norm"] = _norm(gradient)
        finite = _all_finite((metrics["loss"], metrics["gradient_norm"], outcome))
        taken = finite & (train_state.step == step)  # none after one that was not
        metrics["diverged"] = ~taken
        return jax.tree.map(lambda new, old: jnp.where(taken, new, old), stepped, train_state), metrics

    return lax.scan(take_step, train_state, (train_state.step + jnp.arange(num_steps), indices))


def batch_mesh(batch_size: int, *, num_devices: int | None = None) -> Mesh:
    """A mesh with the axis "batch" for `train_steps`: of `num_devices` devices, or as many as are of use.

    Those are the most that divide a batch into 64 examples or more each: with fewer, two are not faster than one. They
    are devices of all processes that `jax.distributed` has brought together.
    """
    devices = jax.devices()
    require_integer("batch_mesh: batch_size", batch_size, 1)
    if num_devices is None:
        most = min(len(devices), max(1, batch_size // 64))
        num_devices = max(number for number in range(1, most + 1) if batch_size % number == 0)
    require_integer("batch_mesh: num_devices", num_devices, 1, len(devices))
    if batch_size % num_devices:
        raise ValueError(f"batch_mesh: {num_devices} devices cannot share {batch_size} examples evenly")
    return Mesh(np.array(devices[:num_devices]), ("batch",))


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """The arrays, each of them on every device of the mesh; of several processes, all must give the same arrays."""
    refuse_rounding("replicate", *jax.tree.leaves(tree))
    everywhere = NamedSharding(mesh, PartitionSpec())

    def put(leaf):
        if jnp.issubdtype(jax.typeof(leaf).dtype, jax.dtypes.prng_key):  # which device_put takes to no other process
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        return jax.device_put(leaf, everywhere)

    return jax.tree.map(put, tree)


def _spread(tree: PyTree, mesh: Mesh | None, *, axis: int = 0) -> PyTree:
    """The leaves with this axis spread over the devices of the mesh."""
    if mesh is None:
        return tree
    spec = PartitionSpec(*[None] * axis, "batch")
    return lax.with_sharding_constraint(tree, NamedSharding(mesh, spec))


def _micro_batches(batch: Batch, size: int, mesh: Mesh | None) -> Batch:
    """The examples as [number, size, ...]; each device keeps those that it has."""
    parts = jax.tree.map(lambda leaf: leaf.reshape(size, -1, *leaf.shape[1:]).swapaxes(0, 1), batch)
    return _spread(parts, mesh, axis=1)


def _mean_over_parts(mean_loss, params, state, parts, key):
    """The mean loss over micro-batches, each from the same state: batch statistics in training do not depend on it."""
    numbered = jnp.arange(num_examples(parts)), parts
    return lax.map(lambda part: mean_loss(params, state, part[1], jax.random.fold_in(key, part[0]))[0], numbered).mean()


def _mean_gradient(gradient_of, params, state, parts, key):
    """Mean gradient and metrics over micro-batches, one after the other, through which the state passes."""
    num_parts = num_examples(parts)

    def accumulate(carry, number_and_part):
        (total, state), (number, part) = carry, number_and_part
        gradient, state, metrics = gradient_of(params, state, part, jax.random.fold_in(key, number))
        return (jax.tree.map(lambda sum, new: sum + new / num_parts, total, gradient), state), metrics

    zeros = jax.tree.map(jnp.zeros_like, params)
    (gradient, state), metrics = lax.scan(accumulate, (zeros, state), (jnp.arange(num_parts), parts))
    return gradient, state, jax.tree.map(jnp.mean, metrics)


def _check_one_net(function, train_state):
    shape = jnp.shape(train_state.step)
    if shape:
        raise ValueError(f"{function}: these are {shape[0]} nets: vmap it over them, or load one, by its seed")


def _check_opt_state(train_state, optimizer):
    """Raises ValueError where the optimizer's state is another's."""

    def describe(tree):
        return jax.tree.structure(tree), [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(tree)]

    own = jax.eval_shape(optimizer.init, train_state.params)
    if describe(train_state.opt_state) != describe(own):
        raise ValueError(
            "train_steps: the state of the optimizer is not one of this optimizer's: begin its training with "
            "restart(train_state, optimizer)"
        )


def _check_result(result, state, size):
    """Raises ValueError unless `loss_fn` has returned one loss per example, and a state like the one it was given."""

    def kinds(tree):
        return jax.tree.map(lambda leaf: f"{jnp.result_type(leaf)}{[*jnp.shape(leaf)]}", tree)

    fits = isinstance(result, tuple) and len(result) in (2, 3) and kinds(result[1]) == kinds(state)
    if not (fits and isinstance(result[0], Array) and result[0].shape == (size,) and _is_float(result[0])):
        raise ValueError(
            f"train_steps: loss_fn must return (losses, state): one loss per example, float[{size}], and a state like "
            f"the one it was given, {kinds(state)}, not {kinds(result)}"
        )
    others = result[2] if len(result) == 3 else {}
    named = isinstance(others, dict) and not others.keys() & {"loss", "gradient_norm", "diverged"}
    arrays = named and all(isinstance(values, Array | np.ndarray) for values in others.values())
    if not (arrays and all(values.shape == (size,) for values in others.values())):
        raise ValueError(
            f"train_steps: the metrics of loss_fn must be arrays, one number per example, [{size}], by names other "
            f"than loss, gradient_norm and diverged, not {kinds(others)}"
        )


def _is_float(leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _without_infinite_scalars(opt_state):
    """Some optimizers keep the best loss so far, which is infinite at first."""
    return jax.tree.map(
        lambda leaf: jnp.where(jnp.isinf(leaf), 0, leaf) if leaf.ndim == 0 and _is_float(leaf) else leaf, opt_state
    )


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether all floats are finite.

    Those that are not are counted. (To sum 0 · x would not do: XLA makes 0 · x of 0 · (c · x), though c · x overflows.)
    """
    leaves = [leaf for leaf in jax.tree.leaves(tree) if _is_float(leaf)]
    small = jnp.concatenate([leaf.ravel() for leaf in leaves if leaf.size < _LARGE])
    num_bad = sum(
        [_sum((~jnp.isfinite(leaf)).astype(jnp.float32)) for leaf in leaves if leaf.size >= _LARGE], jnp.zeros(())
    )
    return jnp.isfinite(small).all() & (num_bad == 0)


def _norm(tree: PyTree) -> Float[Array, ""]:
    return jnp.sqrt(sum([_sum(jnp.abs(leaf) ** 2) for leaf in jax.tree.leaves(tree)], jnp.zeros(())))


_LARGE = 4096  # numbers, from which on CPU a product with ones is faster than a sum


def _sum(leaf):
    if leaf.size < _LARGE:
        return leaf.sum()
    ones = jnp.ones(leaf.shape[-1:], leaf.dtype)
    return jnp.dot(leaf, ones, precision=lax.Precision.HIGHEST).sum()


class Average(NamedTuple):
    """The moving average of the params and the state of a net, after so many updates."""

    params: Params
    state: State
    num_updates: Int[Array, ""]


def init_average(train_state: TrainState) -> Average:
    """The net as it is, in float32 at least: a narrower average would lose most of what is added to it."""

    def widen(leaf):
        return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) if _is_float(leaf) else leaf

    params, state = jax.tree.map(widen, (train_state.params, train_state.state))
    return Average(params, state, jnp.zeros((), jnp.int32))


def update_average(average: Average, train_state: TrainState, *, decay: float) -> Average:
    """The exponential moving average: `decay` of what it was, and 1 - `decay` of the net as it is now.

    After n updates the decay is (1 + n) / (10 + n) at most, so that the beginning is soon forgotten (as TensorFlow's
    ExponentialMovingAverage has it). A model that is evaluated with it is often better than the last one.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"update_average: decay must be in [0, 1), not {decay}")
    num_updates = average.num_updates + 1
    kept = jnp.minimum(decay, (1 + num_updates) / (10 + num_updates))

    def mean(old, new):
        return (kept * old + (1 - kept) * new).astype(old.dtype) if _is_float(new) else new

    params = jax.tree.map(mean, average.params, train_state.params)
    return Average(params, jax.tree.map(mean, average.state, train_state.state), num_updates)


class EarlyStopping(NamedTuple):
    """A training, and the best that it has had: `params` and `state` at `step`, when the score was `score`.

    `num_worse` evaluations have followed that were no better. `failed` is a training whose score was NaN once.
    """

    train_state: TrainState
    params: Params
    state: State
    step: Int[Array, ""]
    score: Float[Array, ""]
    num_worse: Int[Array, ""]
    failed: Bool[Array, ""]


def init_early_stopping(train_state: TrainState) -> EarlyStopping:
    """Nothing has been evaluated yet."""
    now = train_state.params, train_state.state, train_state.step
    score, num_worse, failed = jnp.array(-jnp.inf), jnp.zeros((), jnp.int32), jnp.array(False)
    return EarlyStopping(train_state, *now, score, num_worse, failed)


def update_early_stopping(
    stopping: EarlyStopping, train_state: TrainState, score: ArrayLike, *, patience: int, min_delta: float = 0.0
) -> EarlyStopping:
    """After an evaluation on validation data, where a higher `score` is better (Prechelt, "Early stopping", 1998).

    After `patience` evaluations in a row without a better score, the training has stopped: nothing changes any more.
    Nor does it after a score of NaN, by which the caller says that the training has failed; its best is what it was
    before. Better is what exceeds the best so far, and by at least `min_delta`.
    """
    require_integer("update_early_stopping: patience", patience, 1)
    if not min_delta >= 0:
        raise ValueError(f"update_early_stopping: min_delta must be 0 or more, not {min_delta}")
    if jnp.shape(score):
        raise ValueError(f"update_early_stopping: needs one score, not {jnp.shape(score)}: vmap it over trainings")
    score = jnp.asarray(score, stopping.score.dtype)
    better = (score > stopping.score) & (score >= stopping.score + min_delta)
    failed = jnp.isnan(score)
    num_worse = jnp.where(better, 0, stopping.num_worse + ~failed)
    now = train_state.params, train_state.state, train_state.step, score
    params, state, step, score = jax.tree.map(functools.partial(jnp.where, better), now, stopping[1:5])
    evaluated = EarlyStopping(train_state, params, state, step, score, num_worse, failed)
    return jax.tree.map(functools.partial(jnp.where, is_training(stopping, patience=patience)), evaluated, stopping)


def is_training(stopping: EarlyStopping, *, patience: int) -> Bool[Array, "..."]:
    """Whether the training, or each of many, goes on: it has neither stopped nor failed."""
    return (stopping.num_worse < patience) & ~stopping.failed


def map_batches(fn: Callable, data: PyTree, *, batch_size: int, mesh: Mesh | None = None) -> PyTree:
    """The values per example that `fn` gives for a batch, for all of `data`: every example counts, whatever the batch.

    Whole batches run in one compiled loop; the rest is one more call of its own, smaller shape. With `mesh`, the
    examples of each whole batch, not the rest, are spread over its devices; all that `fn` uses must lie on all of them.
    """
    require_integer("map_batches: batch_size", batch_size, 1)
    refuse_rounding("map_batches", *jax.tree.leaves(data))
    if mesh is not None and batch_size % mesh.size:
        raise ValueError(f"map_batches: {mesh.size} devices cannot share {batch_size} examples evenly")

    def values_of(batch):
        values, size = fn(batch), num_examples(batch)
        if {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(values)} != {(size,)}:
            shapes = jax.tree.map(jnp.shape, values)
            raise ValueError(f"map_batches: fn must give values per example, [{size}, ...], not of shapes {shapes}")
        return values

    total = num_examples(data)
    num_whole = total // batch_size
    whole = jax.tree.map(
        lambda leaf: leaf[: num_whole * batch_size].reshape(num_whole, batch_size, *leaf.shape[1:]), data
    )
    whole = _spread(whole, mesh, axis=1)
    rest = jax.tree.map(lambda leaf: leaf[num_whole * batch_size :], data)
    parts = []
    if num_whole:
        parts.append(jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), lax.map(values_of, whole)))
    if num_whole * batch_size < total:
        parts.append(values_of(rest))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
