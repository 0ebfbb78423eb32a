"""How well predictions fit."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Integer

from jaxnn.data import refuse_rounding, require_integer


def accuracy(logits: Float[ArrayLike, "examples classes"], labels: Integer[ArrayLike, " examples"]) -> Float[Array, ""]:
    """The share of examples, 0 to 1, whose largest logit is that of their label; the first of equal logits counts.

    Of a single logit per example, [examples, 1], as a logistic model gives it, above 0 means class 1, else class 0.
    NaN where a logit is NaN, where a label is outside the classes, or without examples. In float32, or in float64 if
    the logits are.
    """
    logits, labels = jnp.asarray(logits), _labels("accuracy", "labels", labels)
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"accuracy: logits of shape {logits.shape} need labels of shape {logits.shape[:-1]}, not {labels.shape}"
        )
    predictions = logits[..., 0] > 0 if logits.shape[-1] == 1 else jnp.argmax(logits, axis=-1)
    right = jnp.mean(predictions == labels, dtype=jnp.promote_types(logits.dtype, jnp.float32))
    known = (labels >= 0) & (labels < max(logits.shape[-1], 2))
    return jnp.where(jnp.isnan(logits).any() | ~known.all(), jnp.nan, right)


def accuracies(
    logits: Float[ArrayLike, "nets examples classes"], labels: Integer[ArrayLike, " examples"]
) -> Float[Array, " nets"]:
    """The `accuracy` of each of several nets on the same examples."""
    return jax.vmap(lambda net: accuracy(net, labels))(jnp.asarray(logits))


def confusion_matrix(
    labels: Integer[ArrayLike, " examples"], predictions: Integer[ArrayLike, " examples"], *, num_classes: int
) -> Int[Array, "classes classes"]:
    """Counts of examples by label (row) and prediction (column); whatever lies outside the classes is not counted."""
    require_integer("confusion_matrix: num_classes", num_classes, 1)
    labels = _labels("confusion_matrix", "labels", labels)
    predictions = _labels("confusion_matrix", "predictions", predictions)
    if labels.shape != predictions.shape:
        raise ValueError(
            f"confusion_matrix: labels of shape {labels.shape} and predictions of shape {predictions.shape} "
            "must have the same shape"
        )
    counts = jnp.zeros((num_classes, num_classes), int)
    return counts.at[labels, predictions].add(1, mode="drop", wrap_negative_indices=False)


class Scores(NamedTuple):
    """Per class: of what was predicted, the share that is right; of what is, the share found; their harmonic mean."""

    precision: Float[Array, " classes"]
    recall: Float[Array, " classes"]
    f1: Float[Array, " classes"]


def precision_recall_f1(matrix: Integer[ArrayLike, "classes classes"]) -> Scores:
    """From a `confusion_matrix`: precision TP/(TP+FP), recall TP/(TP+FN), F1 = 2TP/(2TP+FP+FN); 0 where that is 0/0."""
    matrix = jnp.asarray(matrix, float)  # in which sums of small integers do not wrap around
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"precision_recall_f1: needs a confusion matrix [classes, classes], not {matrix.shape}")
    right, predicted, actual = jnp.diagonal(matrix), matrix.sum(axis=0), matrix.sum(axis=1)

    def share(part, whole):
        return jnp.where(whole == 0, 0, part / jnp.where(whole == 0, 1, whole))

    return Scores(share(right, predicted), share(right, actual), share(2 * right, predicted + actual))


def r2(
    outputs: Float[ArrayLike, "examples outputs"], targets: Float[ArrayLike, "examples outputs"]
) -> Float[Array, ""]:
    """R² = 1 - Σ‖yᵗ - y‖² / Σ‖yᵗ - mean yᵗ‖²: the share of the variance that is explained, summed over the outputs.

    At most 1; below 0 where the mean would be better; NaN or -inf where the targets do not vary. (Of several outputs,
    scikit-learn's `variance_weighted`.)
    """
    refuse_rounding("r2", outputs, targets)
    outputs, targets = _floats(outputs), _floats(targets)
    if outputs.shape != targets.shape or outputs.ndim != 2:
        raise ValueError(
            f"r2: needs outputs and targets [examples, outputs] of one shape, not {outputs.shape} and {targets.shape}"
        )
    varies = (targets != targets[:1]).any(axis=0)  # else the difference from the mean is its rounding
    spread = jnp.where(varies, targets - targets.mean(axis=0), 0)
    largest = jnp.abs(spread).max(initial=0)
    scale = jnp.where(largest == 0, 1, largest)  # its square may be out of range
    return 1 - jnp.sum(((targets - outputs) / scale) ** 2) / jnp.sum((spread / scale) ** 2)


def _floats(array):
    """In float32 or wider: small integers would wrap around, and squares in half precision overflow."""
    return jnp.asarray(array, jnp.promote_types(jnp.result_type(jnp.asarray(array), float), jnp.float32))


def _labels(function, name, labels):
    """As int32, with -1 for what does not fit: JAX would make NumPy's 2**32 class 0, and take bools for masks."""
    labels = labels if hasattr(labels, "dtype") else np.asarray(labels)
    if not (jnp.issubdtype(labels.dtype, jnp.integer) or labels.dtype == bool):
        raise ValueError(f"{function}: {name} must be integers 0, 1 ..., one per example, not {labels.dtype}")
    small = labels.astype(jnp.int32)
    return jnp.where(small == labels, small, -1)
