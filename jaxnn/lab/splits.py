"""A data set in three parts: those that come so, and one's own examples, split by a key."""

from typing import NamedTuple

import jax
import numpy as np

from jaxnn.data import num_examples
from jaxnn.types import Batch, PRNGKey


class Splits(NamedTuple):
    """A data set in three parts. Validation is for choosing; the test set is for the end."""

    train: Batch
    validation: Batch
    test: Batch


def split(examples: Batch, key: PRNGKey | None = None, *, share: float = 0.1) -> Splits:
    """Splits NumPy arrays at random: `share` of the examples is for validation, as many for the test, at least one.

    Where the targets are labels, one array of integers [examples], that holds for each class. The examples of a part
    are shuffled.

    key: draws the order; None is `jax.random.key(0)`.

    Raises ValueError where a class has fewer than 3 examples, or nothing would be left to train on.
    """
    if not 0 < share < 0.5:
        raise ValueError(f"share must be between 0 and 0.5, so that examples are left to train on, not {share}")
    size, targets = num_examples(examples), examples.targets
    is_label = getattr(targets, "ndim", 0) == 1 and targets.dtype.kind in "iu"
    strata = np.asarray(targets) if is_label else np.zeros(size, int)
    order = np.asarray(jax.random.permutation(jax.random.key(0) if key is None else key, size))
    part = np.zeros(size, int)
    for stratum in np.unique(strata):
        members = order[strata[order] == stratum]
        held_out = max(1, round(share * len(members)))
        if len(members) <= 2 * held_out:
            who = f"class {stratum}" if is_label else "the data set"
            hint = " (floats are never taken for labels)" if is_label else ""
            raise ValueError(f"{who} has {len(members)} examples, too few for three parts{hint}")
        part[members[:held_out]], part[members[held_out : 2 * held_out]] = 1, 2
    rows = [order[part[order] == number] for number in range(3)]
    return Splits(*(jax.tree.map(lambda leaf, r=r: np.asarray(leaf)[r], examples) for r in rows))
