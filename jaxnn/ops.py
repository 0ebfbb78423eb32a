"""Convolution and pooling of images, channels last, in forms that stay fast inside compiled loops."""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Num

Padding = str | Sequence[tuple[int, int]]


def conv2d(
    inputs: Float[Array, "batch height width in_channels"],
    kernel: Float[Array, "kernel_height kernel_width in_channels_per_group out_channels"],
    *,
    stride: int | tuple[int, int] = 1,
    padding: Padding = "SAME",
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    precision: lax.PrecisionLike = None,
) -> Float[Array, "batch out_height out_width out_channels"]:
    """The correlation that convolution layers compute: y[i, j] = Σ_st x[i·stride + s, j·stride + t] · kernel[s, t].

    The deck's page 19 calls it convolution; the mathematical convolution flips the kernel. `padding` is "SAME",
    "VALID" or ((top, bottom), (left, right)); `dilation` spreads the kernel's pixels; it and `stride` are one number or
    one for each axis; the channels may fall into `groups` that do not mix. `precision` is that of the products on GPU
    and TPU, where None follows the setting `jax_default_matmul_precision`.

    Differentiable in reverse mode to every order, and forward over reverse. Plain forward mode (`jax.jvp`,
    `jax.jacfwd`) raises TypeError: JAX lets a function have gradients of its own in one mode only (or in both, but then
    without `vmap`); `lax.conv_general_dilated` has it. On CPU, XLA is 15-25 times slower inside `lax.scan` with the
    gradients that JAX makes of a convolution (jax-ml/jax#12868); so they are written here in the one layout in which it
    stays fast.
    """
    _check_conv2d(inputs, kernel, groups)
    stride, dilation = _pair("conv2d", "stride", stride), _pair("conv2d", "dilation", dilation)
    height, width = ((size - 1) * step + 1 for size, step in zip(kernel.shape[:2], dilation, strict=True))
    padding = _pads("conv2d", inputs.shape, (height, width), stride, padding)
    return _correlate_with_gradients(inputs, kernel, _Settings(stride, padding, dilation, groups, precision))


def _pair(function, name, value) -> tuple[int, int]:
    """`value` for both axes of an image: 2 means (2, 2)."""
    match value:
        case int() if value >= 1:
            return value, value
        case [int(), int()] if min(value) >= 1:
            return tuple(value)
    raise ValueError(f"{function}: {name} must be a whole number of 1 or more, or two of them, not {value!r}")


def _pads(function, shape, window, stride, padding) -> tuple[tuple[int, int], tuple[int, int]]:
    """`padding` of images of that shape as ((top, bottom), (left, right))."""
    match padding:
        case str() if padding.upper() in ("SAME", "SAME_LOWER", "VALID"):
            padding = lax.padtype_to_pads(shape[1:3], window, stride, padding)
        case [[int(), int()], [int(), int()]]:
            pass
        case _:
            raise ValueError(
                f'{function}: padding must be "SAME", "VALID" or ((top, bottom), (left, right)), not {padding!r}'
            )
    (top, bottom), (left, right) = padding
    if shape[1] + top + bottom < window[0] or shape[2] + left + right < window[1]:
        raise ValueError(
            f"{function}: a window of {window} does not fit into images of shape {shape} with padding {padding}"
        )
    return (int(top), int(bottom)), (int(left), int(right))


class _Settings(NamedTuple):
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    groups: int
    precision: lax.PrecisionLike


def _check_conv2d(inputs, kernel, groups):
    if groups < 1 or 0 in kernel.shape:
        raise ValueError(f"conv2d: groups must be 1 or more and the kernel not empty, not {groups} and {kernel.shape}")
    if inputs.ndim != 4 or kernel.ndim != 4 or inputs.shape[-1] != kernel.shape[2] * groups:
        per_group = f" in {groups} groups" if groups > 1 else ""
        raise ValueError(
            "conv2d: inputs [batch, height, width, channels] need a kernel [height, width, channels, out_channels]"
            f"{per_group}, but their shapes are {inputs.shape} and {kernel.shape}"
        )
    if kernel.shape[-1] % groups:
        raise ValueError(f"conv2d: {kernel.shape[-1]} output channels cannot be split into {groups} groups")
    if inputs.dtype != kernel.dtype or not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise ValueError(
            f"conv2d: inputs of dtype {inputs.dtype} and a kernel of dtype {kernel.dtype}: make both the same float"
        )


def _convolve(lhs, rhs, **options):
    """XLA's convolution in its canonical layout; half precision is rounded once, at the end."""
    sums = jnp.promote_types(lhs.dtype, jnp.float32)
    options |= {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "preferred_element_type": sums}
    return lax.conv_general_dilated(lhs, rhs, **options).astype(lhs.dtype)


def _correlate(inputs, kernel, settings: _Settings):
    stride, padding, dilation, groups, precision = settings
    options = {"rhs_dilation": dilation, "feature_group_count": groups, "precision": precision}
    return _convolve(inputs, kernel, window_strides=stride, padding=padding, **options)


_correlate_with_gradients = jax.custom_vjp(_correlate, nondiff_argnums=(2,))


def _correlate_forward(inputs, kernel, settings):
    return _correlate(inputs, kernel, settings), (inputs, kernel)


def _correlate_backward(settings, residuals, cotangent):
    def by_jax(inputs, kernel, cotangent):
        return jax.vjp(lambda inputs, kernel: _correlate(inputs, kernel, settings), inputs, kernel)[1](cotangent)

    def by_hand(inputs, kernel, cotangent):
        return (
            _input_gradient(inputs.shape, kernel, cotangent, settings),
            _kernel_gradient(inputs, kernel.shape, cotangent, settings),
        )

    return lax.platform_dependent(*residuals, cotangent, cpu=by_hand, default=by_jax)


_correlate_with_gradients.defvjp(_correlate_forward, _correlate_backward)


def _input_gradient(shape, kernel, cotangent, settings):
    """The cotangent, spread by the stride, correlated with the flipped kernel, whose channels change places."""
    height, width, in_channels, out_channels = kernel.shape
    groups = settings.groups
    flipped = kernel[::-1, ::-1].reshape(height, width, in_channels, groups, out_channels // groups)
    flipped = flipped.transpose(0, 1, 4, 3, 2).reshape(height, width, out_channels // groups, groups * in_channels)
    padding = []
    for axis, (before, _) in enumerate(settings.padding):
        reach, step = (kernel.shape[axis] - 1) * settings.dilation[axis], settings.stride[axis]
        spread = (cotangent.shape[1 + axis] - 1) * step + 1
        padding.append((reach - before, shape[1 + axis] + before - spread, step - 1))
    padded = lax.pad(cotangent, jnp.zeros((), cotangent.dtype), [(0, 0, 0), *padding, (0, 0, 0)])
    return _convolve(
        lax.optimization_barrier(padded),  # or XLA pads inside the convolution, which is then not in its fast form
        flipped,
        window_strides=(1, 1),
        padding="VALID",
        rhs_dilation=settings.dilation,
        feature_group_count=groups,
        precision=settings.precision,
    )


def _kernel_gradient(inputs, shape, cotangent, settings):
    """The inputs correlated with the cotangent, the sum running over the batch: channels and batch change places."""
    padding = []
    for axis, (before, _) in enumerate(settings.padding):
        reach = (shape[axis] - 1) * settings.dilation[axis]
        spread = (cotangent.shape[1 + axis] - 1) * settings.stride[axis] + 1
        padding.append((before, reach + spread - inputs.shape[1 + axis] - before))
    gradient = _convolve(
        inputs.transpose(3, 1, 2, 0),
        cotangent.transpose(1, 2, 0, 3),
        window_strides=settings.dilation,
        padding=padding,
        rhs_dilation=settings.stride,
        batch_group_count=settings.groups,
        precision=settings.precision,
    )
    return gradient.transpose(1, 2, 0, 3)


def max_pool(
    inputs: Num[Array, "batch height width channels"],
    *,
    window: int | tuple[int, int] = (2, 2),
    stride: int | tuple[int, int] | None = None,
    padding: Padding = "VALID",
) -> Num[Array, "batch out_height out_width channels"]:
    """The largest value of each window, as `flax.linen.max_pool` has it; the padding is -∞.

    `window` and `stride` are one number or one for each axis; without a stride, the windows lie side by side. `padding`
    is that of `conv2d`, and smaller than the window. What is left beyond the last whole window drops out.

    Where several values tie, the gradient is split between them. (`lax.reduce_window` has a gradient 5 times slower
    on CPU.)
    """
    windows = _windows("max_pool", inputs.shape, window, stride, padding)
    lowest = -jnp.inf if jnp.issubdtype(inputs.dtype, jnp.floating) else jnp.iinfo(inputs.dtype).min
    padded = _pad(inputs, windows.padding, lowest)
    if windows.stride != windows.size:
        return _reduce_windows(jnp.maximum, padded, windows)
    return _max_of_blocks(_whole_blocks(padded, windows.size), windows)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _max_of_blocks(images, windows):
    """The largest value of windows that lie side by side, with a gradient that takes one pass."""
    return _reduce_windows(jnp.maximum, images, windows)


@_max_of_blocks.defjvp
def _max_of_blocks_jvp(windows, primals, tangents):
    (images,), (tangent,), (rows, columns) = primals, tangents, windows.size
    largest = _max_of_blocks(images, windows)
    places = itertools.product(range(rows), range(columns))
    num_ties = sum((images[:, i::rows, j::columns] == largest).astype(tangent.dtype) for i, j in places)
    is_largest = _blocks(images, windows.size) == largest[:, :, None, :, None]
    return largest, jnp.where(is_largest, _blocks(tangent, windows.size), 0).sum(axis=(2, 4)) / num_ties


def avg_pool(
    inputs: Num[Array, "batch height width channels"],
    *,
    window: int | tuple[int, int] = (2, 2),
    stride: int | tuple[int, int] | None = None,
    padding: Padding = "VALID",
) -> Float[Array, "batch out_height out_width channels"]:
    """The mean of each window; settings as for `max_pool`.

    The padding's zeros count, as they do in Flax and PyTorch unless `count_include_pad=False`.
    """
    windows = _windows("avg_pool", inputs.shape, window, stride, padding)
    padded, (rows, columns) = _pad(inputs, windows.padding, 0), windows.size
    if windows.stride != windows.size:
        sums = _reduce_windows(jnp.add, padded.astype(jnp.promote_types(inputs.dtype, jnp.float32)), windows)
        return (sums / (rows * columns)).astype(jnp.result_type(inputs, 1.0))
    return _blocks(_whole_blocks(padded, windows.size), windows.size).mean(axis=(2, 4))


class _Windows(NamedTuple):
    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]


def _windows(function, shape, window, stride, padding):
    """The windows of a pool of images of that shape."""
    if len(shape) != 4:
        raise ValueError(f"{function}: inputs are [batch, height, width, channels], not of shape {shape}")
    size = _pair(function, "window", window)
    stride = size if stride is None else _pair(function, "stride", stride)
    pads = _pads(function, shape, size, stride, padding)
    if any(not 0 <= min(pair) <= max(pair) < length for pair, length in zip(pads, size, strict=True)):
        raise ValueError(f"{function}: padding {pads} must be 0 or more, and smaller than the window of {size}")
    return _Windows(size, stride, pads)


def _pad(images, padding, value):
    return jnp.pad(images, ((0, 0), *padding, (0, 0)), constant_values=value)


def _whole_blocks(images, size):
    """The images without the rows and columns beyond the last whole block."""
    _, height, width, _ = images.shape
    return images[:, : height // size[0] * size[0], : width // size[1] * size[1]]


def _blocks(images, size):
    """[batch, blocks down, rows of a block, blocks across, columns of a block, channels]."""
    batch, height, width, channels = images.shape
    return images.reshape(batch, height // size[0], size[0], width // size[1], size[1], channels)


def _reduce_windows(combine, images, windows: _Windows):
    """The values of each window combined, its rows first and then its columns."""
    for axis, size, stride in zip((1, 2), windows.size, windows.stride, strict=True):
        reach = (images.shape[axis] - size) // stride * stride + 1  # from the first window to the last
        slices = [lax.slice_in_dim(images, start, start + reach, stride, axis) for start in range(size)]
        images = functools.reduce(combine, slices)
    return images
