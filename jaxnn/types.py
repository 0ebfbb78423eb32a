"""The few names that every room shares."""

from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Array, Float, Key, PyTree, Shaped

Params: TypeAlias = PyTree
"""What is learned: a pytree of float arrays."""

State: TypeAlias = PyTree
"""What a model keeps beside its parameters, such as batch statistics; empty for most models."""

PRNGKey: TypeAlias = Key[Array, ""]
"""One key, as `jax.random.key` makes it."""


class Batch(NamedTuple):
    """Examples: every leaf has them along its first axis. A whole data set is a batch too."""

    inputs: Any
    targets: Any


@runtime_checkable
class Init(Protocol):
    """Draws the parameters of a model; of `inputs`, an example batch, only shape and dtype count."""

    def __call__(self, key: PRNGKey, inputs: PyTree, /) -> tuple[Params, State]:
        """The parameters and the state before training."""
        ...


@runtime_checkable
class Apply(Protocol):
    """Computes the outputs of a model: with a key as in training, without one as in inference.

    In training, noise is drawn from the key, and batch statistics are used and updated.
    """

    def __call__(
        self, params: Params, state: State, inputs: PyTree, key: PRNGKey | None = None, /
    ) -> tuple[Any, State]:
        """The outputs, and the state after them."""
        ...


@runtime_checkable
class LossFn(Protocol):
    """What a training makes small: the mean of one loss per example. The key is drawn anew for each step.

    More numbers per example, by their names, may follow: (losses, state, {"accuracy": ...}).
    """

    def __call__(
        self, params: Params, state: State, batch: Batch, key: PRNGKey, /
    ) -> (
        tuple[Float[Array, " batch"], State] | tuple[Float[Array, " batch"], State, dict[str, Shaped[Array, " batch"]]]
    ):
        """The loss of each example, and the state after the batch."""
        ...
