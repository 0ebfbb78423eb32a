"""Which examples come when: pure functions of a key and a step."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from jaxnn.types import PRNGKey


def num_examples(data: PyTree) -> int:
    """The length of the first axis, which all leaves must share; at least 1."""
    shapes = {np.shape(leaf) for leaf in jax.tree.leaves(data)}
    sizes = {shape[0] if shape else 0 for shape in shapes}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(
            "data: the leaves must be arrays, not lists, with equally many examples along their first axis, at least "
            f"one, not the shapes {sorted(shapes)}"
        )
    return sizes.pop()


def require_integer(name: str, value: Any, least: int, most: int | None = None):
    """Raises ValueError unless `value` is an integer, and no bool, from `least` to `most`."""
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_integer or value < least or (most is not None and value > most):
        limits = f"of {least} or more" if most is None else f"in {least} ... {most}"
        raise ValueError(f"{name} must be an integer {limits}, not {value!r}")


def refuse_rounding(function: str, *arrays: ArrayLike):
    """Raises ValueError for NumPy's 64 bits of which JAX, without jax_enable_x64, would silently make other numbers.

    Those are float64, and integers that 32 bits do not hold. Words are refused, too.
    """
    for array in arrays:
        if isinstance(array, np.ndarray | list | str) and np.asarray(array).dtype.kind in "USO":
            raise ValueError(
                f"{function}: {np.ravel(array)[0]!r} is no number: number the words by "
                "names, labels = np.unique(words, return_inverse=True)"
            )
        if getattr(array, "dtype", None) == np.float64 and jax.dtypes.canonicalize_dtype(float) == np.float32:
            raise ValueError(
                f"{function}: float64 would be rounded to float32: switch on jax_enable_x64, or give float32 yourself"
            )
        if isinstance(array, np.ndarray | np.integer) and array.dtype.kind in "iu":
            kept = jax.dtypes.canonicalize_dtype(array.dtype)
            wrong = [] if kept == array.dtype else np.extract(array.astype(kept) != array, array)
            if len(wrong):
                raise ValueError(
                    f"{function}: {wrong[0]} does not fit into {kept}: switch on jax_enable_x64, or give smaller "
                    "numbers"
                )


def permutation(key: PRNGKey, num_examples: int) -> Int[Array, " num_examples"]:
    """0 ... num_examples - 1 in a random order, which depends on the key.

    A radix sort by 3 log₂ n random bits or more, by which few of the n places tie, as in `jax.random.permutation`. XLA
    sorts plain numbers on CPU in a fifth of the time that it needs for pairs, as they are there; so a number is here
    some of these bits, and behind them a place.
    """
    require_integer("permutation: num_examples", num_examples, 1, 2**31 - 1)
    place_bits = max(1, (num_examples - 1).bit_length())
    order = places = jnp.arange(num_examples, dtype=jnp.uint32)
    num_rounds = math.ceil(3 * place_bits / (32 - place_bits))
    for round_key in jax.random.split(key, num_rounds):
        bits = jax.random.bits(round_key, (num_examples,), jnp.uint32) << place_bits
        order = order[jnp.sort(bits | places) & (2**place_bits - 1)]
    return order.astype(jnp.int32)


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
    require_integer("num_examples", num_examples, 1)
    require_integer(f"batch_size for {num_examples} examples", batch_size, 1, num_examples)
    require_integer("num_steps", num_steps, 0)
    if not shuffle:
        period = num_examples // math.gcd(num_examples, batch_size)
        starts = np.arange(period) * batch_size % num_examples  # in 64 bits, which their product may need
        first = jnp.asarray(starts, jnp.int32)[(step + jnp.arange(num_steps)) % period]
        return (first[:, None] + jnp.arange(batch_size)) % num_examples
    steps_per_epoch = num_examples // batch_size
    first_epoch = step // steps_per_epoch
    num_epochs = (num_steps + 2 * steps_per_epoch - 2) // steps_per_epoch  # wherever in its epoch `step` stands
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, first_epoch + jnp.arange(num_epochs))
    orders = jax.vmap(lambda key: permutation(key, num_examples))(keys)
    batches = orders[:, : steps_per_epoch * batch_size].reshape(-1, batch_size)
    return batches[step - first_epoch * steps_per_epoch + jnp.arange(num_steps)]


def fold_masks(key: PRNGKey, *, num_examples: int, num_folds: int) -> Bool[Array, "num_folds num_examples"]:
    """For k-fold cross-validation: each row marks the examples held out, every example in one row.

    The folds are random and differ by at most one example. Masks, unlike lists of indices, have equal shapes: all folds
    can be one vmapped program, in which the training loss is a mean over `~mask`.
    """
    require_integer("num_examples", num_examples, 2)
    require_integer(f"num_folds for {num_examples} examples", num_folds, 2, num_examples)
    fold = jax.random.permutation(key, jnp.arange(num_examples) % num_folds)
    return fold == jnp.arange(num_folds)[:, None]


class Standardizer(NamedTuple):
    """Mean and standard deviation of each feature."""

    mean: Float[Array, " features"]
    sd: Float[Array, " features"]


def fit_standardizer(
    inputs: Float[ArrayLike, "examples features"], mask: Bool[ArrayLike, " examples"] | None = None
) -> Standardizer:
    """Of the examples in `mask`, or of all; the variance is divided by their number. NaN where the mask has no example.

    A feature that never varies gets the standard deviation 1. In float32, inputs and mean are rounded to 6e-8 of
    themselves: for a mean of 1e5 standard deviations, to 1/150 of one.
    """
    inputs = _check("fit_standardizer", inputs)
    chosen = jnp.ones(len(inputs), bool) if mask is None else jnp.asarray(mask)
    if not len(inputs) or chosen.shape != (len(inputs),) or chosen.dtype != bool:
        raise ValueError(
            "fit_standardizer: needs at least one example, and a mask with a bool for each, not inputs "
            f"{jax.typeof(inputs)} and mask {jax.typeof(chosen)}"
        )
    low = jnp.min(inputs, axis=0, initial=jnp.inf, where=chosen[:, None])
    high = jnp.max(inputs, axis=0, initial=-jnp.inf, where=chosen[:, None])
    middle, half_range = high / 2 + low / 2, high / 2 - low / 2  # halved first: the sum may be out of range
    constant = half_range == 0
    scaled = (inputs - middle) / jnp.where(constant, 1, half_range)  # to -1 ... 1, so that no digit is lost in squares
    mean, sd = (moment(scaled, axis=0, where=chosen[:, None]) for moment in (jnp.mean, jnp.std))
    return Standardizer(middle + half_range * mean, jnp.where(constant, 1, half_range * sd))


def standardize(
    standardizer: Standardizer, inputs: Float[ArrayLike, "examples features"]
) -> Float[Array, "examples features"]:
    """(x - mean) / sd, for any inputs: those it was fitted on get mean 0 and standard deviation 1."""
    refuse_rounding("standardize", *standardizer)
    inputs = _check("standardize", inputs)
    if inputs.shape[1:] != jnp.shape(standardizer.mean):
        raise ValueError(
            f"standardize: fitted on {len(standardizer.mean)} features, so it takes as many, not {inputs.shape[1]}"
        )
    return (inputs - standardizer.mean) / standardizer.sd


def _check(function, inputs):
    refuse_rounding(function, inputs)
    inputs = jnp.asarray(inputs)
    if inputs.ndim != 2 or not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise ValueError(f"{function}: the inputs must be floats [examples, features], not {jax.typeof(inputs)}")
    return inputs
