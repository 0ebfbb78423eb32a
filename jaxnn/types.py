"""The few names that every room shares."""

from typing import Any, NamedTuple, TypeAlias

from jaxtyping import Array, Key, PyTree

Params: TypeAlias = PyTree
"""What is learned: a pytree of float arrays."""

State: TypeAlias = PyTree
"""What a model keeps beside its parameters, such as batch statistics; empty for most models."""

PRNGKey: TypeAlias = Key[Array, ""]
"""One key, as `jax.random.key` makes it."""

Noise: TypeAlias = Key[Array, ""] | Key[Array, " batch"]
"""One key, or one per example: then an example's noise depends neither on its neighbours nor on the batch size."""


class Batch(NamedTuple):
    """Examples: every leaf has them along its first axis. A whole data set is a batch too."""

    inputs: Any
    targets: Any
