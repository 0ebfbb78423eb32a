"""Convolution and pooling of images, channels last, in forms that stay fast inside compiled loops."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Padding = str | Sequence[tuple[int, int]]

_DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")


def conv2d(
    inputs: Float[Array, "batch height width in_channels"],
    kernel: Float[Array, "kernel_height kernel_width in_channels out_channels"],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: Padding = "SAME",
    precision: lax.PrecisionLike = None,
) -> Float[Array, "batch out_height out_width out_channels"]:
    """The correlation that convolution layers compute: y[i, j] = Σ_st x[i·stride + s, j·stride + t] · kernel[s, t].

    The deck's page 19 calls it convolution; the mathematical convolution flips the kernel. `padding` is "SAME",
    "VALID" or ((top, bottom), (left, right)). Differentiable in every mode and to every order.

    On CPU, XLA runs a convolution inside `lax.scan` 15-25 times slower than outside (jax-ml/jax#12868), so there it is
    written as one matrix product per kernel row; other backends get their own convolution.
    """
    _check_conv2d(inputs, kernel)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(inputs.shape[1:3], kernel.shape[:2], stride, padding)
    for size, kernel_size, pads in zip(inputs.shape[1:3], kernel.shape[:2], padding, strict=True):
        if size + sum(pads) < kernel_size:
            raise ValueError(
                f"conv2d: images of shape {inputs.shape} with padding {tuple(padding)} are smaller than the kernel of "
                f"shape {kernel.shape}"
            )
    if jax.default_backend() == "cpu":
        return _conv2d_by_rows(inputs, kernel, stride, padding, precision)
    return lax.conv_general_dilated(
        inputs, kernel, stride, padding, dimension_numbers=_DIMENSION_NUMBERS, precision=precision
    )


def _check_conv2d(inputs, kernel):
    if inputs.ndim != 4 or kernel.ndim != 4 or inputs.shape[-1] != kernel.shape[2]:
        raise ValueError(
            "conv2d: inputs [batch, height, width, channels] need a kernel [height, width, channels, out_channels], "
            f"but their shapes are {inputs.shape} and {kernel.shape}"
        )
    if inputs.dtype != kernel.dtype:
        raise ValueError(
            f"conv2d: inputs of dtype {inputs.dtype} and a kernel of dtype {kernel.dtype}: cast one of them"
        )


def _conv2d_by_rows(inputs, kernel, stride, padding, precision):
    kernel_height, kernel_width, in_channels, out_channels = kernel.shape
    inputs = lax.pad(inputs, jnp.zeros((), inputs.dtype), [(0, 0, 0), *((*pads, 0) for pads in padding), (0, 0, 0)])
    out_height = (inputs.shape[1] - kernel_height) // stride[0] + 1
    out_width = (inputs.shape[2] - kernel_width) // stride[1] + 1
    columns = [_strided(inputs, 2, t, out_width, stride[1]) for t in range(kernel_width)]
    patches = jnp.concatenate(columns, axis=-1)
    rows = [_strided(patches, 1, s, out_height, stride[0]) for s in range(kernel_height)]
    weights = kernel.reshape(kernel_height, kernel_width * in_channels, out_channels)
    if in_channels * kernel_width < 16:  # too thin for a matrix product a row: one for all rows
        rows, weights = [jnp.concatenate(rows, axis=-1)], [weights.reshape(-1, out_channels)]
    sum_dtype = jnp.promote_types(inputs.dtype, jnp.float32)  # half precision is rounded once, at the end
    product = functools.partial(jnp.matmul, precision=precision, preferred_element_type=sum_dtype)
    return functools.reduce(jnp.add, map(product, rows, weights)).astype(inputs.dtype)


def _strided(array, axis, start, size, stride):
    return lax.slice_in_dim(array, start, start + (size - 1) * stride + 1, stride, axis)


def max_pool(
    inputs: Float[Array, "batch height width channels"], *, window: tuple[int, int] = (2, 2)
) -> Float[Array, "batch out_height out_width channels"]:
    """The largest value of each window; windows do not overlap, and what is left beyond the last whole one drops out.

    Where several values tie, the gradient is split between them. (`lax.reduce_window` has a gradient 5 times slower
    on CPU.)
    """
    _check_window("max_pool", inputs, window)
    for axis, size in zip((1, 2), window, strict=True):
        length = inputs.shape[axis] // size
        inputs = functools.reduce(jnp.maximum, [_strided(inputs, axis, start, length, size) for start in range(size)])
    return inputs


def avg_pool(
    inputs: Float[Array, "batch height width channels"], *, window: tuple[int, int] = (2, 2)
) -> Float[Array, "batch out_height out_width channels"]:
    """The mean of each window; windows do not overlap, and what is left beyond the last whole one drops out."""
    _check_window("avg_pool", inputs, window)
    height, width = inputs.shape[1] // window[0], inputs.shape[2] // window[1]
    whole = inputs[:, : height * window[0], : width * window[1]]
    return whole.reshape(inputs.shape[0], height, window[0], width, window[1], -1).mean(axis=(2, 4))


def _check_window(function, inputs, window):
    if not all(1 <= size <= length for size, length in zip(window, inputs.shape[1:3], strict=True)):
        raise ValueError(f"{function}: a window of {window} does not fit into images of shape {inputs.shape}")
