"""Losses, one value per example (whoever trains takes the mean); information measures; penalties on the weights."""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import entr
from jaxtyping import Array, Float, Integer

from jaxnn.types import Params


def squared_error(
    outputs: Float[Array, "*batch outputs"], targets: Float[Array, "*batch outputs"]
) -> Float[Array, "*batch"]:
    """‖y - yᵗ‖² over the last axis (deck, page 13). Its gradient is 2(y - yᵗ): the deck's Δ belongs to half of it."""
    outputs, targets = _floats("squared_error", outputs=outputs, targets=targets)
    return jnp.sum((outputs - targets) ** 2, axis=-1)


def softmax_cross_entropy(
    logits: Float[Array, "*batch classes"],
    targets: Integer[Array, "*batch"] | Float[Array, "*batch classes"],
) -> Float[Array, "*batch"]:
    """-Σᵢ tᵢ log softmax(z)ᵢ (deck, page 13) in nats; its gradient is softmax(z) - t where t sums to 1.

    `targets` are integer labels or distributions over the classes. An integer label outside 0 ... classes - 1 gives
    NaN, and a gradient of NaN; so does a negative probability. The largest logit is subtracted first, so that every
    dtype keeps its precision at logits of ±1e4, and log1p keeps the digits of a loss near 0.
    """
    function, targets = "softmax_cross_entropy", _array(targets)
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        logits, targets = _floats(function, logits=logits, targets=targets, hint="; or give integer labels")
        targets = jnp.where(targets < 0, jnp.nan, targets)
        return jnp.sum(-_times(targets, _log_softmax(logits)), axis=-1)
    (logits,) = _floats(function, logits=logits)
    if targets.shape != logits.shape[:-1]:
        raise ValueError(
            f"{function}: logits of shape {logits.shape} need integer labels of shape {logits.shape[:-1]}, "
            f"not {targets.shape}"
        )
    log_probs = _log_softmax(logits)
    labels = targets.astype(jnp.int32).clip(0, logits.shape[-1] - 1)
    chosen = labels[..., None] == jnp.arange(logits.shape[-1])
    known = jnp.where(labels == targets, 1, jnp.nan).astype(log_probs.dtype)
    return jnp.sum(jnp.where(chosen, -log_probs, 0), axis=-1) * known


def sigmoid_cross_entropy(logits: Float[Array, "*batch"], targets: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """-t log σ(z) - (1 - t) log(1 - σ(z)) in nats (deck, page 5), one value per logit.

    `targets` lie in [0, 1]; others give NaN, and a gradient of NaN.
    """
    logits, targets = _floats("sigmoid_cross_entropy", logits=logits, targets=targets)
    targets = jnp.where((targets >= 0) & (targets <= 1), targets, jnp.nan)
    return _times(targets, jax.nn.softplus(-logits)) + _times(1 - targets, jax.nn.softplus(logits))


def entropy(probs: Float[Array, "*batch outcomes"], *, base: int | float | None = None) -> Float[Array, "*batch"]:
    """H(p) = -Σ p log p with 0 log 0 = 0 (deck, page 14), in nats, or in bits with `base=2`.

    NaN where p < 0. The gradient is inf at p = 0.
    """
    (probs,) = _floats("entropy", probs=probs)
    return _in_base(jnp.sum(jnp.where(probs < 0, jnp.nan, entr(probs)), axis=-1), base)


def kl_divergence(
    p: Float[Array, "*batch outcomes"], q: Float[Array, "*batch outcomes"], *, base: int | float | None = None
) -> Float[Array, "*batch"]:
    """KL(p‖q) = Σ p log(p/q) (deck, page 14). Nats, or bits with `base=2`.

    inf where q = 0 < p, with the gradient -p/q = -inf; NaN where p or q is below 0. An outcome with p = 0 adds nothing,
    to the gradient neither.
    """
    p, q = _floats("kl_divergence", p=p, q=q)
    nothing = (p == 0) & (q >= 0)
    p, q = jnp.where(nothing, 1, p), jnp.where(nothing, 1, q)  # 1 log(1/1) is 0
    return _in_base(jnp.sum(p * jnp.log(p) - p * jnp.log(q), axis=-1), base)


def cross_entropy(
    p: Float[Array, "*batch outcomes"], q: Float[Array, "*batch outcomes"], *, base: int | float | None = None
) -> Float[Array, "*batch"]:
    """H(p, q) = -Σ p log q = KL(p‖q) + H(p) (deck, page 14). Nats, or bits with `base=2`.

    inf where q = 0 < p, NaN where p or q is below 0. From logits, `softmax_cross_entropy` is the precise way.
    """
    p, q = _floats("cross_entropy", p=p, q=q)
    log_q = jnp.log(jnp.where((p == 0) & (q == 0), 1, q))
    return _in_base(-jnp.sum(jnp.where(p < 0, jnp.nan, p) * log_q, axis=-1), base)


def l1_penalty(params: Params) -> Float[Array, ""]:
    """Σ |w| over the weights, those that `is_weight` names. Its gradient is sign(w), 0 at 0."""
    return jnp.asarray(sum((jnp.sum(weight * jnp.sign(weight)) for weight in _weights(params)), start=0.0))


def l2_penalty(params: Params) -> Float[Array, ""]:
    """Σ w² over the weights, as in `l1_penalty`. Its gradient is 2w."""
    return jnp.asarray(sum((jnp.sum(weight**2) for weight in _weights(params)), start=0.0))


def is_weight(path: tuple, leaf: Array) -> bool:
    """Whether penalties and weight decay act on this leaf of the params, for `jax.tree.map_with_path`.

    It has two axes or more and is called neither "bias" nor "scale", as in jaxnn and in Flax: those stay free in params
    stacked over seeds too. Params of other names must be those of one net.
    """
    name = jax.tree_util.keystr(path[-1:], simple=True)
    return leaf.ndim >= 2 and name not in ("bias", "scale")


def _weights(params):
    return [leaf for path, leaf in jax.tree.leaves_with_path(params) if is_weight(path, leaf)]


@jax.custom_jvp
def _log_softmax(logits):
    """log softmax(z) = z - max z - log1p(Σ exp(z - max z) over all but one of the largest)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    largest = shifted == 0
    others = jnp.sum(jnp.where(largest, 0, jnp.exp(shifted)), axis=-1, keepdims=True)
    return shifted - jnp.log1p(others + (jnp.sum(largest, axis=-1, keepdims=True) - 1))


@_log_softmax.defjvp
def _log_softmax_jvp(primals, tangents):
    return _log_softmax(*primals), jax.jvp(jax.nn.log_softmax, primals, tangents)[1]


def _times(factor, value):
    """The product, but 0 · inf = 0."""
    return factor * jnp.where((factor == 0) & jnp.isinf(value), 0, value)


def _in_base(nats, base):
    return nats if base is None else nats / math.log(base)


def _array(array):
    """A list as JAX's array; NumPy's stays, for JAX would cut its integers to 32 bits."""
    return array if hasattr(array, "dtype") else jnp.asarray(array)


def _floats(function, hint="", **arrays):
    """The arrays, which must have one shape, as floats: small integers would wrap around."""
    arrays = {name: _array(array) for name, array in arrays.items()}
    if len({array.shape for array in arrays.values()}) > 1:
        both = " and ".join(f"{name} of shape {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{function}: {both} must have the same shape{hint}")
    dtype = jnp.result_type(*arrays.values(), float)
    return [x if jnp.issubdtype(x.dtype, jnp.floating) else jnp.asarray(x, dtype) for x in arrays.values()]
