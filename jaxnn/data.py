"""Which examples come when: pure functions of a key and a step."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from jaxnn.types import PRNGKey


def num_examples(data: PyTree) -> int:
    """The length of the first axis, which all leaves must share."""
    sizes = {leaf.shape[0] for leaf in jax.tree.leaves(data)}
    if len(sizes) != 1:
        raise ValueError(
            f"data: the leaves must have equally many examples along their first axis, not {sorted(sizes)}"
        )
    return sizes.pop()


def batch_indices(
    key: PRNGKey,
    step: Int[Array, ""] | int,
    *,
    num_steps: int,
    num_examples: int,
    batch_size: int,
    shuffle: bool = True,
) -> Int[Array, "num_steps batch_size"]:
    """The examples that `num_steps` training steps from `step` on take, a row each.

    Epoch e is the permutation drawn from `fold_in(key, e)`, cut into whole batches; what is left over at its end waits
    for another epoch. Without `shuffle` the examples come as they stand, after the last again the first. A row depends
    only on `key` and its absolute step, so that a run may be cut into chunks anywhere.
    """
    if not 1 <= batch_size <= num_examples:
        raise ValueError(f"batch_size must be in 1 ... {num_examples} (the number of examples), not {batch_size}")
    if not shuffle:
        period = num_examples // math.gcd(num_examples, batch_size)
        starts = np.arange(period) * batch_size % num_examples  # in 64 bits, which their product may need
        first = jnp.asarray(starts, jnp.int32)[(step + jnp.arange(num_steps)) % period]
        return (first[:, None] + jnp.arange(batch_size)) % num_examples
    steps_per_epoch = num_examples // batch_size
    first_epoch = step // steps_per_epoch
    num_epochs = (num_steps + 2 * steps_per_epoch - 2) // steps_per_epoch  # wherever in its epoch `step` stands
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, first_epoch + jnp.arange(num_epochs))
    orders = jax.vmap(lambda key: jax.random.permutation(key, num_examples))(keys)
    batches = orders[:, : steps_per_epoch * batch_size].reshape(-1, batch_size)
    return batches[step - first_epoch * steps_per_epoch + jnp.arange(num_steps)]


def fold_masks(key: PRNGKey, *, num_examples: int, num_folds: int) -> Bool[Array, "num_folds num_examples"]:
    """For k-fold cross-validation: each row marks the examples held out, every example in one row.

    The folds are random and differ by at most one example. Masks, unlike lists of indices, have equal shapes: all folds
    can be one vmapped program, in which the training loss is a mean over `~mask`.
    """
    if not 2 <= num_folds <= num_examples:
        raise ValueError(f"num_folds must be in 2 ... {num_examples} (the number of examples), not {num_folds}")
    fold = jax.random.permutation(key, jnp.arange(num_examples) % num_folds)
    return fold == jnp.arange(num_folds)[:, None]


class Standardizer(NamedTuple):
    """Mean and standard deviation of each feature."""

    mean: Float[Array, " features"]
    sd: Float[Array, " features"]


def fit_standardizer(
    inputs: Float[ArrayLike, "examples features"], mask: Bool[ArrayLike, " examples"] | None = None
) -> Standardizer:
    """Of the examples in `mask`, or of all; the variance is divided by their number.

    A feature that never varies gets the standard deviation 1.
    """
    inputs = jnp.asarray(inputs)
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise ValueError(f"fit_standardizer: the inputs must be floats, not {inputs.dtype}")
    chosen = jnp.ones(len(inputs), bool) if mask is None else jnp.asarray(mask)
    low = jnp.min(inputs, axis=0, initial=jnp.inf, where=chosen[:, None])
    high = jnp.max(inputs, axis=0, initial=-jnp.inf, where=chosen[:, None])
    constant = low == high  # where the standard deviation would be rounding
    size = jnp.where(constant, 1, jnp.maximum(jnp.abs(low), jnp.abs(high)))  # whose square may be out of range
    mean, sd = (size * moment(inputs / size, axis=0, where=chosen[:, None]) for moment in (jnp.mean, jnp.std))
    return Standardizer(mean, jnp.where(constant, 1, sd))


def standardize(
    standardizer: Standardizer, inputs: Float[ArrayLike, "examples features"]
) -> Float[Array, "examples features"]:
    """(x - mean) / sd, for any inputs: those it was fitted on get mean 0 and standard deviation 1."""
    return (jnp.asarray(inputs) - standardizer.mean) / standardizer.sd
