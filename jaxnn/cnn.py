"""Convolutional networks in Flax linen, and any Flax module, of linen or NNX, as a jaxnn `Model`."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx
from jaxtyping import Array, ArrayLike, Float, Num

from jaxnn import layers, ops
from jaxnn.models import Model


def from_flax(module: nn.Module | Callable[..., nnx.Module]) -> Model:
    """A Flax module, of linen or of NNX, as a `Model`. Parameters keep Flax's names and dtypes.

    module: a linen module, or a function of `rngs` that makes an NNX module, since NNX draws the weights there: the
        class itself, or `lambda rngs: Net(10, rngs=rngs)`.

    The state is all variables but parameters and random streams: batch statistics. With a key, the module is told to
    train: by True for `train`, `training` or `is_training`, False for `deterministic` or `use_running_average` and, in
    NNX, `rngs`, whichever its `__call__` has; by the first five where they are fields of a linen module; by the method
    `train()` of an NNX module. All noise is drawn from the key. Without one, linen refuses to draw, and NNX draws the
    same in every call, if it is made to.

    Raises ValueError where another argument of a linen module's `__call__` has a default of True or False: it may be
    such a flag.
    """
    if isinstance(module, nn.Module):
        return _from_linen(module)
    is_class = isinstance(module, type)
    if isinstance(module, nnx.Module) or not callable(module) or (is_class and issubclass(module, nn.Module)):
        raise ValueError(
            "from_flax: needs a linen module, Net(...), or a function that makes an NNX module, "
            f"lambda rngs: Net(..., rngs=rngs), not {module if is_class else f'an object of {type(module)}'}"
        )
    return _from_nnx(module)


def _from_linen(module):
    fields = {field.name for field in dataclasses.fields(module)}
    arguments = inspect.signature(module.__call__).parameters.keys() - fields
    _refuse_other_switches(module)

    def told(training):
        return module.clone(**_flags(fields, training)), _flags(arguments, training)

    def init(key, inputs):
        net, flags = told(training=False)
        variables = net.init(key, inputs, **flags)
        return variables.get("params", {}), {name: value for name, value in variables.items() if name != "params"}

    def apply(params, state, inputs, key=None):
        net, flags = told(training=key is not None)
        variables = {"params": params, **state}
        if key is None:
            return net.apply(variables, inputs, **flags), state
        rngs = {"dropout": key, "params": jax.random.fold_in(key, 0)}  # Flax takes "params" for names that are missing
        outputs, updated = net.apply(variables, inputs, **flags, rngs=rngs, mutable=list(state))
        return outputs, _with_dtypes(updated, state)

    return Model(init, apply)


def _refuse_other_switches(module):
    parameters = inspect.signature(module.__call__).parameters
    switches = {name for name, parameter in parameters.items() if isinstance(parameter.default, bool)}
    for name in sorted(switches - _flags(switches, training=True).keys()):
        raise ValueError(
            f"from_flax: does the argument {name} of {type(module).__name__}.__call__ tell that it trains? Then name "
            "it train or deterministic, else make it a field"
        )


def _from_nnx(make_module):
    try:
        inspect.signature(make_module).bind(rngs=None)
    except TypeError as error:
        raise ValueError("from_flax: the function must take `rngs` alone: lambda rngs: Net(..., rngs=rngs)") from error

    def make(rngs):
        module = make_module(rngs=rngs)
        if not isinstance(module, nnx.Module):
            raise ValueError(f"from_flax: the function must make an NNX module, not a {type(module).__name__}")
        return module

    def split(module):
        """Its structure, parameters and state, and all else: random streams, constants."""
        kept = nnx.All(nnx.Variable, nnx.Not(nnx.RngState), nnx.Not(nnx.Intermediate))
        structure, params, state, others = nnx.split(module, nnx.Param, kept, ...)
        return structure, nnx.to_pure_dict(params), nnx.to_pure_dict(state), others

    def init(key, inputs):
        return split(make(nnx.Rngs(key)))[1:3]

    def apply(params, state, inputs, key=None):
        # The module is made anew, since its constants belong to one trace; the compiler drops the weights drawn for it.
        rngs = nnx.Rngs(0 if key is None else key)
        structure, *drawn, others = split(make(rngs))
        given = jax.tree.map(lambda _, given: given, drawn, [params, state])
        module = nnx.merge(structure, *given, others)
        arguments = inspect.signature(module.__call__).parameters
        if key is None:
            module.eval()
            return module(inputs, **_flags(arguments, training=False, rngs=None)), state
        module.train()
        outputs = module(inputs, **_flags(arguments, training=True, rngs=rngs))
        return outputs, _with_dtypes(split(module)[2], state)

    return Model(init, apply)


def _flags(names, training, **others):
    """The keywords among `names` that tell a module whether it trains."""
    flags = dict.fromkeys(("train", "training", "is_training"), training)
    flags |= dict.fromkeys(("deterministic", "use_running_average"), not training)
    return {name: value for name, value in (flags | others).items() if name in names}


def _with_dtypes(updated, state):
    return jax.tree.map(lambda new, old: new.astype(old.dtype), updated, state)


def conv_general_dilated(inputs, kernel, strides, padding, **options):
    """`ops.conv2d` as Flax's layers call a convolution: `nnx.Conv(..., conv_general_dilated=cnn.conv_general_dilated)`.

    On CPU it trains many times faster than theirs inside a compiled loop. It has no input dilation, and images only.
    """
    if {*options["lhs_dilation"]} != {1}:
        raise ValueError("jaxnn.cnn: this convolution has no input dilation: use Flax's own, in linen.Conv or nnx.Conv")
    return ops.conv2d(
        inputs,
        kernel,
        stride=tuple(strides),
        padding=padding,
        dilation=tuple(options["rhs_dilation"]),
        groups=options["feature_group_count"],
        precision=options["precision"],
    )


Conv = functools.partial(nn.Conv, conv_general_dilated=conv_general_dilated)
"""`nn.Conv` for images, with the convolution of `jaxnn.ops`."""


class BatchNorm(nn.Module):
    """`layers.batch_norm`, with the variables of `nn.BatchNorm`; on CPU its training is several times as fast."""

    @nn.compact
    def __call__(self, inputs: Float[Array, "*batch features"], *, train: bool) -> Float[Array, "*batch features"]:
        """The normalised inputs."""
        init_params, init_state = layers.init_batch_norm(inputs.shape[-1], dtype=inputs.dtype)
        params = {name: self.param(name, lambda _, value=value: value) for name, value in init_params.items()}
        state = {
            name: self.variable("batch_stats", name, lambda value=value: value) for name, value in init_state.items()
        }
        given = {name: variable.value for name, variable in state.items()}
        outputs, new = layers.batch_norm(params, given, inputs, training=train)
        for name, variable in state.items() if train else ():
            variable.value = new[name]
        return outputs


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
            return BatchNorm()(x, train=train)

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
