import functools
import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from flax import linen as nn
from jax import lax
from jax.test_util import check_grads

from jaxnn import ops

RNG = np.random.default_rng(0)


def lax_conv2d(inputs, kernel, *, stride=(1, 1), padding="SAME", dilation=(1, 1), groups=1):
    options = {"rhs_dilation": dilation, "feature_group_count": groups, "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    return lax.conv_general_dilated(inputs, kernel, stride, padding, **options)


@functools.partial(jax.jit, static_argnums=0)
def outputs_and_gradients(fn, arguments, cotangent):
    outputs, vjp = jax.vjp(fn, *arguments)
    return outputs, *vjp(cotangent)


CASES = [  # inputs, kernel, settings
    ((2, 7, 8, 3), (3, 3, 3, 4), {}),
    ((2, 7, 8, 8), (3, 2, 8, 4), {"padding": "VALID"}),
    ((3, 9, 9, 1), (3, 3, 1, 6), {}),
    ((1, 9, 9, 1), (5, 5, 1, 6), {"stride": (2, 2)}),
    ((3, 9, 8, 1), (3, 3, 1, 2), {"stride": (2, 3), "dilation": (2, 1)}),
    ((2, 8, 7, 6), (3, 4, 6, 2), {"stride": (2, 3), "padding": "VALID"}),
    ((2, 5, 5, 9), (2, 2, 9, 3), {"stride": (1, 2), "padding": ((2, 0), (1, 3))}),
    ((1, 3, 3, 2), (3, 3, 2, 1), {"padding": "VALID"}),
    ((2, 9, 8, 4), (3, 2, 4, 3), {"dilation": (2, 3)}),
    ((2, 9, 10, 4), (3, 3, 4, 3), {"dilation": (2, 2), "stride": (2, 3), "padding": "VALID"}),
    ((2, 6, 7, 6), (3, 3, 2, 9), {"groups": 3, "padding": "same"}),
    ((2, 6, 7, 4), (3, 3, 1, 8), {"groups": 4, "stride": (2, 1), "dilation": (1, 2)}),
]


@pytest.mark.parametrize(("inputs", "kernel", "settings"), CASES)
def test_conv2d_is_lax_and_so_are_its_gradients(x64, inputs, kernel, settings):
    inputs, kernel = jnp.asarray(RNG.normal(size=inputs)), jnp.asarray(RNG.normal(size=kernel))
    shape = jax.eval_shape(functools.partial(ops.conv2d, **settings), inputs, kernel).shape
    cotangent = RNG.normal(size=shape)
    ours, theirs = (
        outputs_and_gradients(functools.partial(conv, **settings), (inputs, kernel), cotangent)
        for conv in (ops.conv2d, lax_conv2d)
    )
    for left, right in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-12)


def test_conv2d_is_scipys_correlation(x64):
    image, kernel = RNG.normal(size=(6, 7)), RNG.normal(size=(3, 4))
    ours = ops.conv2d(jnp.asarray(image)[None, ..., None], jnp.asarray(kernel)[..., None, None], padding="VALID")
    np.testing.assert_allclose(ours[0, ..., 0], scipy.signal.correlate2d(image, kernel, "valid"), atol=1e-12)


def test_conv2d_is_differentiable_in_reverse_mode_to_every_order(x64):
    inputs, kernel = jnp.asarray(RNG.normal(size=(1, 4, 4, 2))), jnp.asarray(RNG.normal(size=(3, 3, 2, 2)))
    check_grads(jax.jit(lambda x, k: ops.conv2d(x, k) ** 2), (inputs, kernel), order=3, modes=("rev",))


def test_conv2d_has_hessians_forward_over_reverse(x64):
    inputs, kernel = jnp.asarray(RNG.normal(size=(1, 4, 4, 2))), jnp.asarray(RNG.normal(size=(2, 2, 2, 1)))
    ours, theirs = (
        jax.jit(jax.hessian(lambda kernel, conv=conv: (conv(inputs, kernel) ** 3).sum()))(kernel)
        for conv in (ops.conv2d, lax_conv2d)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-10)


def test_conv2d_has_no_plain_forward_mode():
    """On no platform, so that what works on one works on all."""
    inputs, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((2, 2, 1, 1))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.eval_shape(jax.jacfwd(lambda kernel: ops.conv2d(inputs, kernel)), kernel)


def test_conv2d_under_jit_and_vmap(x64):
    inputs, kernels = jnp.asarray(RNG.normal(size=(2, 6, 6, 3))), jnp.asarray(RNG.normal(size=(4, 3, 3, 3, 2)))
    ours = jax.jit(jax.vmap(ops.conv2d, (None, 0)))(inputs, kernels)
    for kernel, output in zip(kernels, ours, strict=True):
        np.testing.assert_allclose(output, lax_conv2d(inputs, kernel), atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_conv2d_computes_in_the_dtype_given(dtype):
    arguments = [jnp.asarray(RNG.normal(size=shape), dtype) for shape in ((2, 6, 6, 8), (3, 3, 8, 4))]
    cotangent = jnp.ones((2, 6, 6, 4), dtype)
    ours = outputs_and_gradients(ops.conv2d, arguments, cotangent)
    exact = outputs_and_gradients(lax_conv2d, *jax.tree.map(lambda x: x.astype(jnp.float32), (arguments, cotangent)))
    for left, right in zip(ours, exact, strict=True):
        assert left.dtype == dtype
        rounding = float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(left.astype(jnp.float32), right, rtol=rounding, atol=1e-5)


def test_conv2d_and_its_gradients_keep_to_the_layout_that_is_fast_in_loops_on_cpu():
    """Other platforms keep JAX's own gradients."""
    inputs, kernel = jnp.ones((2, 6, 6, 8)), jnp.ones((3, 3, 8, 4))
    loss = jax.value_and_grad(lambda inputs, kernel: (ops.conv2d(inputs, kernel) ** 2).sum(), (0, 1))
    program = jax.jit(lambda x, k: lax.scan(lambda x, _: (x - loss(x, k)[1][0], loss(x, k)), x, length=3))
    layouts = {}
    for platform in ("cpu", "cuda"):
        text = jax.export.export(program, platforms=[platform])(inputs, kernel).mlir_module()
        assert text.count("stablehlo.convolution") >= 3
        layouts[platform] = set(re.findall(r"dim_numbers = (.*?), window", text))
    assert layouts["cpu"] == {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}
    assert len(layouts["cuda"]) > 1


@pytest.mark.parametrize(("window", "shape"), [((2, 2), (2, 6, 8, 3)), ((3, 2), (1, 10, 7, 2))])
@pytest.mark.parametrize(
    ("pool", "reducer", "start"), [(ops.max_pool, lax.max, -jnp.inf), (ops.avg_pool, lax.add, 0.0)]
)
def test_pools_are_reduce_window(x64, pool, reducer, start, window, shape):
    inputs = jnp.asarray(RNG.normal(size=shape))

    def reference(inputs):
        reduced = lax.reduce_window(inputs, start, reducer, (1, *window, 1), (1, *window, 1), "VALID")
        return reduced / (np.prod(window) if reducer is lax.add else 1)

    outputs = jax.eval_shape(reference, inputs)
    cotangent = RNG.normal(size=outputs.shape)
    ours, theirs = (
        outputs_and_gradients(fn, (inputs,), cotangent) for fn in (functools.partial(pool, window=window), reference)
    )
    for left, right in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-12)


@pytest.mark.parametrize(
    ("window", "stride", "padding"), [((3, 3), (2, 2), "SAME"), ((2, 3), (1, 2), ((1, 0), (0, 2)))]
)
@pytest.mark.parametrize(("pool", "flaxs"), [(ops.max_pool, nn.max_pool), (ops.avg_pool, nn.avg_pool)])
def test_pools_with_stride_and_padding_are_flaxs(x64, pool, flaxs, window, stride, padding):
    inputs = jnp.asarray(RNG.normal(size=(2, 5, 6, 2)) - 3)  # below 0, which padding must not beat
    ours = functools.partial(pool, window=window, stride=stride, padding=padding)
    theirs = functools.partial(flaxs, window_shape=window, strides=stride, padding=padding)
    cotangent = RNG.normal(size=jax.eval_shape(theirs, inputs).shape)
    both = [outputs_and_gradients(fn, (inputs,), cotangent) for fn in (ours, theirs)]
    for left, right in zip(*both, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-12)
    half = ours(inputs.astype(jnp.float16))
    assert half.dtype == jnp.float16
    np.testing.assert_allclose(half, both[1][0], rtol=float(jnp.finfo(jnp.float16).eps))


def test_pools_take_integers():
    pixels = jnp.array([[250, 100, 7]], jnp.uint8).reshape(1, 1, 3, 1)
    largest = ops.max_pool(pixels, window=(1, 2), stride=1, padding="SAME")
    assert largest.dtype == jnp.uint8
    np.testing.assert_array_equal(largest.ravel(), [250, 100, 7])
    np.testing.assert_array_equal(ops.avg_pool(pixels, window=(1, 2), stride=1).ravel(), [175, 53.5])


def test_max_pool_splits_the_gradient_of_ties():
    gradient = jax.grad(lambda x: ops.max_pool(x).sum())(jnp.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(gradient[0, ..., 0], [[0.25, 0.25], [0.25, 0.25]])
    overlapping = jax.grad(lambda x: ops.max_pool(x, window=(1, 2), stride=1).sum())(jnp.ones((1, 1, 3, 1)))
    np.testing.assert_array_equal(overlapping.ravel(), [0.5, 1, 0.5])


IMAGE, KERNEL = jnp.ones((1, 5, 5, 3)), jnp.ones((3, 3, 3, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.conv2d(IMAGE, jnp.ones((3, 3, 4, 2))), r"\(1, 5, 5, 3\) and \(3, 3, 4, 2\)"),
        (lambda: ops.conv2d(IMAGE[0], KERNEL), r"\(5, 5, 3\) and"),
        (lambda: ops.conv2d(IMAGE.astype(jnp.bfloat16), KERNEL), "dtype bfloat16.*kernel of dtype float32"),
        (
            lambda: ops.conv2d(IMAGE[:, :2], KERNEL, padding="VALID"),
            r"window of \(3, 3\) does not fit .* \(1, 2, 5, 3\)",
        ),
        (
            lambda: ops.conv2d(IMAGE, jnp.ones((3, 3, 1, 4)), groups=3),
            "4 output channels cannot be split into 3 groups",
        ),
        (lambda: ops.conv2d(IMAGE, KERNEL, groups=2), r"in 2 groups, but their shapes are"),
        (lambda: ops.conv2d(IMAGE, KERNEL, dilation=(3, 1), padding="VALID"), r"conv2d: a window of \(7, 3\)"),
        (lambda: ops.conv2d(IMAGE.astype(int), KERNEL.astype(int)), "int32: make both the same float"),
        (lambda: ops.conv2d(IMAGE, KERNEL, stride=(0, 1)), r"stride must be a whole number of 1 or more.*\(0, 1\)"),
        (lambda: ops.conv2d(IMAGE, KERNEL, stride=(1,)), r"stride must .* or two of them, not \(1,\)"),
        (lambda: ops.conv2d(IMAGE, KERNEL, dilation=0), "dilation must be a whole number of 1 or more.* not 0"),
        (lambda: ops.conv2d(IMAGE, KERNEL, groups=0), "groups must be 1 or more.* not 0"),
        (lambda: ops.conv2d(IMAGE, KERNEL[..., :0]), r"kernel not empty.*\(3, 3, 3, 0\)"),
        (lambda: ops.conv2d(IMAGE, KERNEL, padding="FOO"), 'conv2d: padding must be "SAME", "VALID" or .* not \'FOO\''),
        (lambda: ops.conv2d(IMAGE, KERNEL, padding=1), "conv2d: padding must be .* not 1"),
        (lambda: ops.max_pool(IMAGE[0]), r"max_pool: inputs are \[batch, height, width, channels\].*\(5, 5, 3\)"),
        (lambda: ops.avg_pool(IMAGE[0]), "avg_pool: inputs are"),
        (lambda: ops.max_pool(IMAGE, stride=0), "max_pool: stride must be a whole number of 1 or more"),
        (lambda: ops.avg_pool(IMAGE, window=(2, 1.5)), "avg_pool: window must be a whole number"),
        (lambda: ops.max_pool(IMAGE, padding=((2, 0), (0, 0))), r"smaller than the window of \(2, 2\)"),
        (lambda: ops.max_pool(IMAGE[:, :1]), r"max_pool: a window of \(2, 2\) does not fit .* \(1, 1, 5, 3\)"),
        (lambda: ops.avg_pool(IMAGE, window=(2, 6)), r"avg_pool: a window of \(2, 6\)"),
    ],
)
def test_refuses(as_users_see_it, call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_negative_padding_crops(x64):
    inputs, kernel, padding = jnp.ones((1, 6, 6, 3)), jnp.ones((2, 2, 3, 1)), ((-1, 0), (0, -2))
    np.testing.assert_allclose(ops.conv2d(inputs, kernel, padding=padding), lax_conv2d(inputs, kernel, padding=padding))


def test_one_number_is_that_of_both_axes():
    ours, theirs = (
        jax.make_jaxpr(functools.partial(ops.conv2d, stride=pair, dilation=pair))(IMAGE, KERNEL) for pair in (2, (2, 2))
    )
    assert str(ours) == str(theirs)
