"""Convolutional networks in Flax linen, and any linen module as a jaxnn `Model`."""

import functools
import zlib
from collections.abc import Sequence

import jax
from flax import linen as nn
from jaxtyping import Array, Float

from jaxnn import layers, ops
from jaxnn.models import Model


def from_flax(module: nn.Module) -> Model:
    """A linen module as a `Model`: its `__call__(inputs, *, train)` is told `train=True` where there is a key.

    Parameters keep Flax's names; all other collections (`batch_stats`) are the state. The key reaches `Dropout` of this
    file example by example; modules that draw with `make_rng("dropout")`, such as `nn.Dropout`, draw one noise for the
    batch as a whole.
    """

    def init(key, inputs):
        variables = module.init(key, inputs, train=False)
        return variables.get("params", {}), {name: value for name, value in variables.items() if name != "params"}

    def apply(params, state, inputs, key=None):
        variables = {"params": params, **state}
        if key is None:
            return module.apply(variables, inputs, train=False), state
        keys = layers.example_keys(key, inputs.shape[0])
        return module.apply(
            {**variables, "noise": {"keys": keys}},
            inputs,
            train=True,
            rngs={"dropout": keys[0]},
            mutable=list(state),
        )

    return Model(init, apply)


def _conv_general_dilated(inputs, kernel, strides, padding, **options):
    """`ops.conv2d` under the signature by which `nn.Conv` calls its convolution."""
    dilations = {*options["lhs_dilation"], *options["rhs_dilation"]}
    if dilations != {1} or options["feature_group_count"] != 1:
        raise ValueError("jaxnn.cnn.Conv has no dilation and no groups: use flax.linen.Conv")
    return ops.conv2d(inputs, kernel, stride=tuple(strides), padding=padding)


Conv = functools.partial(nn.Conv, conv_general_dilated=_conv_general_dilated)
"""`nn.Conv` for images, with the convolution of `jaxnn.ops`."""


class Dropout(nn.Module):
    """`jaxnn.layers.dropout` for a module inside `from_flax`: every example draws from its own key."""

    rate: float

    @nn.compact
    def __call__(self, inputs: Float[Array, "batch ..."], *, train: bool) -> Float[Array, "batch ..."]:
        """The inputs themselves where `train` is false."""
        if not train:
            return inputs
        assert self.scope is not None  # Flax gives every module in use its scope
        keys = self.scope.root.get_variable("noise", "keys")
        place = zlib.crc32("/".join(self.scope.path).encode())  # tells one dropout of a network from another
        return layers.dropout(inputs, jax.vmap(jax.random.fold_in, (0, None))(keys, place), rate=self.rate)


class CNN(nn.Module):
    """Convolution blocks, then dense layers (deck, page 19).

    Each block is a convolution without padding, a 2x2 max pool, batch normalisation and a ReLU; the flattened maps go
    through one hidden dense layer with batch normalisation, ReLU and dropout to the logits. Pooling before the ReLU
    gives the same as after it, for a quarter of the work.
    """

    channels: Sequence[int] = (24, 32)
    kernel_sizes: Sequence[int] = (5, 3)
    hidden_size: int = 256
    num_classes: int = 10
    batch_norm: bool = True
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        """The logits."""

        def normalise(x):
            if not self.batch_norm:
                return x
            return nn.BatchNorm(use_running_average=not train, momentum=0.9, use_fast_variance=False)(x)

        x = images
        for channels, size in zip(self.channels, self.kernel_sizes, strict=True):
            x = Conv(channels, (size, size), padding="VALID", use_bias=not self.batch_norm)(x)
            x = nn.relu(normalise(ops.max_pool(x)))
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(normalise(nn.Dense(self.hidden_size, use_bias=not self.batch_norm)(x)))
        x = Dropout(self.dropout)(x, train=train)
        return nn.Dense(self.num_classes)(x)
