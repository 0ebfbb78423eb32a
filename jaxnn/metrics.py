"""How well predictions fit."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int


def accuracy(logits: Float[ArrayLike, "examples classes"], labels: Int[ArrayLike, " examples"]) -> Float[Array, ""]:
    """The share of examples, 0 to 1, whose largest logit is that of their label; the first of equal logits counts.

    Of a single logit per example, [examples, 1], as a logistic model gives it, above 0 means class 1, else class 0.
    """
    if jnp.shape(logits)[:-1] != jnp.shape(labels):
        raise ValueError(
            f"accuracy: logits of shape {jnp.shape(logits)} need labels of shape {jnp.shape(logits)[:-1]}, "
            f"not {jnp.shape(labels)}"
        )
    logits = jnp.asarray(logits)
    predictions = logits[..., 0] > 0 if logits.shape[-1] == 1 else jnp.argmax(logits, axis=-1)
    return jnp.mean(predictions == labels)


def accuracies(
    logits: Float[ArrayLike, "nets examples classes"], labels: Int[ArrayLike, " examples"]
) -> Float[Array, " nets"]:
    """The `accuracy` of each of several nets on the same examples."""
    return jax.vmap(accuracy, (0, None))(jnp.asarray(logits), jnp.asarray(labels))


def confusion_matrix(
    labels: Int[ArrayLike, " examples"], predictions: Int[ArrayLike, " examples"], *, num_classes: int
) -> Int[Array, "classes classes"]:
    """Counts of examples by label (row) and prediction (column); whatever lies outside the classes is not counted."""
    if jnp.shape(labels) != jnp.shape(predictions):
        raise ValueError(
            f"confusion_matrix: labels of shape {jnp.shape(labels)} and predictions of shape {jnp.shape(predictions)} "
            "must have the same shape"
        )
    counts = jnp.zeros((num_classes, num_classes), int)
    return counts.at[labels, predictions].add(1, mode="drop", wrap_negative_indices=False)


class Scores(NamedTuple):
    """Per class: of what was predicted, the share that is right; of what is, the share found; their harmonic mean."""

    precision: Float[Array, " classes"]
    recall: Float[Array, " classes"]
    f1: Float[Array, " classes"]


def precision_recall_f1(matrix: Int[ArrayLike, "classes classes"]) -> Scores:
    """From a `confusion_matrix`: precision TP/(TP+FP), recall TP/(TP+FN), F1 = 2TP/(2TP+FP+FN); 0 where that is 0/0."""
    matrix = jnp.asarray(matrix)
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
    outputs, targets = jnp.asarray(outputs), jnp.asarray(targets)
    if outputs.shape != targets.shape or outputs.ndim != 2:
        raise ValueError(
            f"r2: needs outputs and targets [examples, outputs] of one shape, not {outputs.shape} and {targets.shape}"
        )
    return 1 - jnp.sum((targets - outputs) ** 2) / jnp.sum((targets - targets.mean(axis=0)) ** 2)
