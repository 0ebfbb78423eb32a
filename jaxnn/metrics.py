"""How well predictions fit the labels."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int


def accuracy(logits: Float[ArrayLike, "examples classes"], labels: Int[ArrayLike, " examples"]) -> Float[Array, ""]:
    """The share of examples, 0 to 1, whose largest logit is that of their label; the first of equal logits counts."""
    if jnp.shape(logits)[:-1] != jnp.shape(labels):
        raise ValueError(
            f"accuracy: logits of shape {jnp.shape(logits)} need labels of shape {jnp.shape(logits)[:-1]}, "
            f"not {jnp.shape(labels)}"
        )
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels)


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
