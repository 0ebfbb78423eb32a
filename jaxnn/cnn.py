"""Convolutional networks in Flax linen, and any linen module as a jaxnn `Model`."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Float, Num

from jaxnn import ops
from jaxnn.models import Model


def from_flax(module: nn.Module) -> Model:
    """A linen module as a `Model`: its `__call__(inputs, *, train)` is told `train=True` where there is a key.

    Parameters keep Flax's names and dtypes; all other collections (`batch_stats`) are the state. Modules draw noise by
    `make_rng("dropout")`, as `nn.Dropout` does.
    """

    def init(key, inputs):
        variables = module.init(key, inputs, train=False)
        return variables.get("params", {}), {name: value for name, value in variables.items() if name != "params"}

    def apply(params, state, inputs, key=None):
        variables = {"params": params, **state}
        if key is None:
            return module.apply(variables, inputs, train=False), state
        outputs, updated = module.apply(variables, inputs, train=True, rngs={"dropout": key}, mutable=list(state))
        return outputs, jax.tree.map(lambda new, old: new.astype(old.dtype), updated, state)

    return Model(init, apply)


def _conv_general_dilated(inputs, kernel, strides, padding, **options):
    """`ops.conv2d` under the signature by which `nn.Conv` calls its convolution."""
    if {*options["lhs_dilation"]} != {1}:
        raise ValueError("jaxnn.cnn.Conv has no input dilation: use flax.linen.Conv")
    return ops.conv2d(
        inputs,
        kernel,
        stride=tuple(strides),
        padding=padding,
        dilation=tuple(options["rhs_dilation"]),
        groups=options["feature_group_count"],
        precision=options["precision"],
    )


Conv = functools.partial(nn.Conv, conv_general_dilated=_conv_general_dilated)
"""`nn.Conv` for images, with the convolution of `jaxnn.ops`."""


class CNN(nn.Module):
    """Convolution blocks, then dense layers (deck, page 19).

    Each block is a convolution without padding, a 2x2 max pool, batch normalisation and a ReLU; the flattened maps go
    through one hidden dense layer with batch normalisation, ReLU and dropout to the logits. Normalisation and
    ReLU come after the pool, which is a quarter of the work. Pixels are 0 ... 255; the net divides them by 255.
    """

    channels: Sequence[int] = (24, 32)
    kernel_sizes: Sequence[int] = (5, 3)
    hidden_size: int = 256
    num_classes: int = 10
    batch_norm: bool = True
    dropout: float = 0.0

    def __post_init__(self):
        sizes = [*self.channels, *self.kernel_sizes, self.hidden_size, self.num_classes]
        if len(self.channels) != len(self.kernel_sizes):
            raise ValueError(f"CNN: {len(self.channels)} channels need as many kernel_sizes, not {self.kernel_sizes}")
        if min(sizes) < 1:
            raise ValueError(f"CNN: channels, kernel_sizes and sizes of layers must be 1 or more, not {sizes}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"CNN: dropout must be in [0, 1), not {self.dropout}")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Num[ArrayLike, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        """The logits."""

        def normalise(x):
            if not self.batch_norm:
                return x
            return nn.BatchNorm(use_running_average=not train, momentum=0.9, use_fast_variance=False)(x)

        x = jnp.asarray(images) / 255
        if x.ndim != 4:
            raise ValueError(f"CNN: images are [batch, height, width, channels], not of shape {x.shape}")
        for channels, size in zip(self.channels, self.kernel_sizes, strict=True):
            x = Conv(channels, (size, size), padding="VALID", use_bias=not self.batch_norm)(x)
            x = nn.relu(normalise(ops.max_pool(x)))
        x = jax.lax.collapse(x, 1)
        x = nn.relu(normalise(nn.Dense(self.hidden_size, use_bias=not self.batch_norm)(x)))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes)(x)
