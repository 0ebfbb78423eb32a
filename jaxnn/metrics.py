"""How well predictions fit the labels."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int


def accuracy(logits: Float[ArrayLike, "examples classes"], labels: Int[ArrayLike, " examples"]) -> Float[Array, ""]:
    """The share of examples, 0 to 1, whose largest logit is that of their label; the first of equal logits counts."""
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels)


def confusion_matrix(
    labels: Int[ArrayLike, " examples"], predictions: Int[ArrayLike, " examples"], *, num_classes: int
) -> Int[Array, "classes classes"]:
    """Counts of examples by label (row) and prediction (column); whatever lies outside the classes is not counted."""
    counts = jnp.zeros((num_classes, num_classes), int)
    return counts.at[labels, predictions].add(1, mode="drop", wrap_negative_indices=False)
