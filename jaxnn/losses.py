"""Losses, one value per example (whoever trains takes the mean); information measures; penalties on the weights."""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import entr, rel_entr
from jaxtyping import Array, Float, Integer

from jaxnn.types import Params


def squared_error(
    outputs: Float[Array, "*batch outputs"], targets: Float[Array, "*batch outputs"]
) -> Float[Array, "*batch"]:
    """‖y - yᵗ‖² over the last axis (deck, page 13). Its gradient is 2(y - yᵗ): the deck's Δ belongs to half of it."""
    _require_same_shape("squared_error", outputs=outputs, targets=targets)
    return jnp.sum((outputs - targets) ** 2, axis=-1)


def softmax_cross_entropy(
    logits: Float[Array, "*batch classes"],
    targets: Integer[Array, "*batch"] | Float[Array, "*batch classes"],
) -> Float[Array, "*batch"]:
    """-Σᵢ tᵢ log softmax(z)ᵢ (deck, page 13) in nats; its gradient is softmax(z) - t where t sums to 1.

    `targets` are integer labels or distributions over the classes. An integer label outside 0 ... classes - 1 gives
    NaN, and a gradient of NaN. The largest logit is subtracted first, so that every dtype keeps its precision at logits
    of ±1e4.
    """
    log_probs = jax.nn.log_softmax(logits)
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        _require_same_shape("softmax_cross_entropy", logits=logits, targets=targets, hint="; or give integer labels")
        return jnp.sum(-_times(targets, log_probs), axis=-1)
    if targets.shape != logits.shape[:-1]:
        raise ValueError(
            f"softmax_cross_entropy: logits of shape {logits.shape} need integer labels of shape {logits.shape[:-1]}, "
            f"not {targets.shape}"
        )
    labels = jnp.clip(targets.astype(jnp.int32), 0, logits.shape[-1] - 1)
    chosen = labels[..., None] == jnp.arange(logits.shape[-1])
    known = jnp.where(labels == targets, 1, jnp.nan).astype(logits.dtype)
    return -jnp.sum(jnp.where(chosen, log_probs, 0), axis=-1) * known


def sigmoid_cross_entropy(logits: Float[Array, "*batch"], targets: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """-t log σ(z) - (1 - t) log(1 - σ(z)) in nats (deck, page 5), one value per logit; `targets` lie in [0, 1]."""
    _require_same_shape("sigmoid_cross_entropy", logits=logits, targets=targets)
    return _times(targets, jax.nn.softplus(-logits)) + _times(1 - targets, jax.nn.softplus(logits))


def entropy(probs: Float[Array, "*batch outcomes"], *, base: int | float | None = None) -> Float[Array, "*batch"]:
    """H(p) = -Σ p log p with 0 log 0 = 0 (deck, page 14), in nats, or in bits with `base=2`."""
    return _in_base(jnp.sum(entr(probs), axis=-1), base)


def kl_divergence(
    p: Float[Array, "*batch outcomes"], q: Float[Array, "*batch outcomes"], *, base: int | float | None = None
) -> Float[Array, "*batch"]:
    """KL(p‖q) = Σ p log(p/q) (deck, page 14): 0 log 0 = 0, and inf where q = 0 < p. Nats, or bits with `base=2`."""
    _require_same_shape("kl_divergence", p=p, q=q)
    return _in_base(jnp.sum(rel_entr(p, q), axis=-1), base)


def cross_entropy(
    p: Float[Array, "*batch outcomes"], q: Float[Array, "*batch outcomes"], *, base: int | float | None = None
) -> Float[Array, "*batch"]:
    """H(p, q) = -Σ p log q = KL(p‖q) + H(p) (deck, page 14), inf where q = 0 < p. Nats, or bits with `base=2`.

    From logits, `softmax_cross_entropy` is the precise way.
    """
    _require_same_shape("cross_entropy", p=p, q=q)
    log_q = jnp.log(jnp.where((p == 0) & (q == 0), 1, q))
    return _in_base(-jnp.sum(_times(p, log_q), axis=-1), base)


def l1_penalty(params: Params) -> Float[Array, ""]:
    """Σ |w| over the weights of one net, as `is_weight` knows them: biases and scales are free."""
    return jnp.asarray(sum((jnp.sum(jnp.abs(weight)) for weight in _weights(params)), start=0.0))


def l2_penalty(params: Params) -> Float[Array, ""]:
    """Σ w² over the weights of one net, as in `l1_penalty`. Its gradient is 2w."""
    return jnp.asarray(sum((jnp.sum(weight**2) for weight in _weights(params)), start=0.0))


def is_weight(leaf: Array) -> bool:
    """Whether penalties and weight decay act on this leaf of the params of one net: it has two axes or more.

    So have the biases of Flax's DenseGeneral and ConvLocal: they count as weights.
    """
    return leaf.ndim >= 2


def _weights(params):
    return [leaf for leaf in jax.tree.leaves(params) if is_weight(leaf)]


def _times(factor, value):
    """The product, but 0 · inf = 0."""
    return factor * jnp.where((factor == 0) & jnp.isinf(value), 0, value)


def _in_base(nats, base):
    return nats if base is None else nats / math.log(base)


def _require_same_shape(function, hint="", **arrays):
    (first, first_shape), (second, second_shape) = ((name, array.shape) for name, array in arrays.items())
    if first_shape != second_shape:
        raise ValueError(
            f"{function}: {first} of shape {first_shape} and {second} of shape {second_shape} "
            f"must have the same shape{hint}"
        )
