"""Convolution and pooling of images, channels last, in forms that stay fast inside compiled loops."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Padding = str | Sequence[tuple[int, int]]


def conv2d(
    inputs: Float[Array, "batch height width in_channels"],
    kernel: Float[Array, "kernel_height kernel_width in_channels_per_group out_channels"],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: Padding = "SAME",
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    precision: lax.PrecisionLike = None,
) -> Float[Array, "batch out_height out_width out_channels"]:
    """The correlation that convolution layers compute: y[i, j] = Σ_st x[i·stride + s, j·stride + t] · kernel[s, t].

    The deck's page 19 calls it convolution; the mathematical convolution flips the kernel. `padding` is "SAME",
    "VALID" or ((top, bottom), (left, right)); `dilation` spreads the kernel's pixels; the channels may fall into
    `groups` that do not mix. `precision` is that of the products on GPU and TPU, where None follows the setting
    `jax_default_matmul_precision`.

    Differentiable in reverse mode to every order, and forward over reverse; plain forward mode (`jax.jvp`,
    `jax.jacfwd`) raises TypeError. On CPU, XLA is 15-25 times slower inside `lax.scan` with the gradients that JAX
    makes of a convolution (jax-ml/jax#12868); so they are written here in the one layout in which it stays fast.
    """
    _check_conv2d(inputs, kernel, groups)
    extent = [(size - 1) * step + 1 for size, step in zip(kernel.shape[:2], dilation, strict=True)]
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(inputs.shape[1:3], extent, stride, padding)
    for size, needed, pads in zip(inputs.shape[1:3], extent, padding, strict=True):
        if size + sum(pads) < needed:
            raise ValueError(
                f"conv2d: images of shape {inputs.shape} with padding {tuple(padding)} are smaller than the kernel of "
                f"shape {kernel.shape} with dilation {tuple(dilation)}"
            )
    (top, bottom), (left, right) = padding
    settings = _Settings(tuple(stride), ((top, bottom), (left, right)), tuple(dilation), groups, precision)
    return _correlate_with_gradients(inputs, kernel, settings)


class _Settings(NamedTuple):
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    groups: int
    precision: lax.PrecisionLike


def _check_conv2d(inputs, kernel, groups):
    if inputs.ndim != 4 or kernel.ndim != 4 or inputs.shape[-1] != kernel.shape[2] * groups:
        per_group = f" in {groups} groups" if groups > 1 else ""
        raise ValueError(
            "conv2d: inputs [batch, height, width, channels] need a kernel [height, width, channels, out_channels]"
            f"{per_group}, but their shapes are {inputs.shape} and {kernel.shape}"
        )
    if kernel.shape[-1] % groups:
        raise ValueError(f"conv2d: {kernel.shape[-1]} output channels cannot be split into {groups} groups")
    if inputs.dtype != kernel.dtype:
        raise ValueError(
            f"conv2d: inputs of dtype {inputs.dtype} and a kernel of dtype {kernel.dtype}: cast one of them"
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
        reach = (kernel.shape[axis] - 1) * settings.dilation[axis]
        spread = (cotangent.shape[1 + axis] - 1) * settings.stride[axis] + 1
        padding.append((reach - before, shape[1 + axis] + before - spread))
    return _convolve(
        cotangent,
        flipped,
        window_strides=(1, 1),
        padding=padding,
        lhs_dilation=settings.stride,
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
