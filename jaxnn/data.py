"""Which examples come when: pure functions of a key and a step."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

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
    key: PRNGKey, step: Int[Array, ""] | int, *, num_steps: int, num_examples: int, batch_size: int
) -> Int[Array, "num_steps batch_size"]:
    """The examples that `num_steps` training steps from `step` on take, a row each.

    Epoch e is the permutation drawn from `fold_in(key, e)`, cut into whole batches; what is left over at its end waits
    for another epoch. A row depends only on `key` and its absolute step, so that a run may be cut into stretches
    anywhere.
    """
    if not 1 <= batch_size <= num_examples:
        raise ValueError(f"batch_size must be in 1 ... {num_examples} (the number of examples), not {batch_size}")
    steps_per_epoch = num_examples // batch_size
    first_epoch = step // steps_per_epoch
    num_epochs = (num_steps + 2 * steps_per_epoch - 2) // steps_per_epoch  # wherever in its epoch `step` stands
    epochs = first_epoch + jnp.arange(num_epochs)
    orders = jax.vmap(lambda epoch: jax.random.permutation(jax.random.fold_in(key, epoch), num_examples))(epochs)
    batches = orders[:, : steps_per_epoch * batch_size].reshape(-1, batch_size)
    return batches[step - first_epoch * steps_per_epoch + jnp.arange(num_steps)]
