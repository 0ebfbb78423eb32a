import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from jax import lax
from jax.test_util import check_grads

from jaxnn import ops

RNG = np.random.default_rng(0)


def lax_conv2d(inputs, kernel, stride=(1, 1), padding="SAME"):
    return lax.conv_general_dilated(inputs, kernel, stride, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


CASES = [  # inputs, kernel, stride, padding
    ((2, 7, 8, 3), (3, 3, 3, 4), (1, 1), "SAME"),
    ((2, 7, 8, 8), (3, 2, 8, 4), (1, 1), "VALID"),
    ((1, 9, 9, 1), (5, 5, 1, 6), (2, 2), "SAME"),
    ((2, 8, 7, 6), (3, 4, 6, 2), (2, 3), "VALID"),
    ((2, 5, 5, 9), (2, 2, 9, 3), (1, 2), ((2, 0), (1, 3))),
    ((1, 3, 3, 2), (3, 3, 2, 1), (1, 1), "VALID"),
]


@pytest.mark.parametrize(("inputs", "kernel", "stride", "padding"), CASES)
def test_conv2d_is_lax_and_so_are_its_gradients(x64, inputs, kernel, stride, padding):
    inputs, kernel = jnp.asarray(RNG.normal(size=inputs)), jnp.asarray(RNG.normal(size=kernel))
    ours, vjp = jax.vjp(lambda x, k: ops.conv2d(x, k, stride=stride, padding=padding), inputs, kernel)
    theirs, lax_vjp = jax.vjp(lambda x, k: lax_conv2d(x, k, stride, padding), inputs, kernel)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    cotangent = jnp.asarray(RNG.normal(size=ours.shape))
    for ours, theirs in zip(vjp(cotangent), lax_vjp(cotangent), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def test_conv2d_is_scipys_correlation(x64):
    image, kernel = RNG.normal(size=(6, 7)), RNG.normal(size=(3, 4))
    ours = ops.conv2d(jnp.asarray(image)[None, ..., None], jnp.asarray(kernel)[..., None, None], padding="VALID")
    np.testing.assert_allclose(ours[0, ..., 0], scipy.signal.correlate2d(image, kernel, "valid"), atol=1e-12)


def test_conv2d_is_differentiable_in_every_mode_twice(x64):
    inputs, kernel = jnp.asarray(RNG.normal(size=(1, 4, 4, 2))), jnp.asarray(RNG.normal(size=(3, 3, 2, 2)))
    check_grads(jax.jit(lambda x, k: ops.conv2d(x, k) ** 2), (inputs, kernel), order=2, modes=("fwd", "rev"))


def test_conv2d_under_jit_and_vmap(x64):
    inputs, kernels = jnp.asarray(RNG.normal(size=(2, 6, 6, 3))), jnp.asarray(RNG.normal(size=(4, 3, 3, 3, 2)))
    ours = jax.jit(jax.vmap(ops.conv2d, (None, 0)))(inputs, kernels)
    for kernel, output in zip(kernels, ours, strict=True):
        np.testing.assert_allclose(output, lax_conv2d(inputs, kernel), atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_conv2d_computes_in_the_dtype_given(dtype):
    inputs, kernel = (
        jnp.asarray(RNG.normal(size=(2, 6, 6, 8)), dtype),
        jnp.asarray(RNG.normal(size=(3, 3, 8, 4)), dtype),
    )
    ours = ops.conv2d(inputs, kernel)
    assert ours.dtype == dtype
    exact = np.asarray(lax_conv2d(inputs.astype(jnp.float32), kernel.astype(jnp.float32)))
    np.testing.assert_allclose(ours.astype(jnp.float32), exact, rtol=float(jnp.finfo(dtype).eps), atol=1e-5)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other backends have no slow path")
def test_conv2d_keeps_xlas_convolution_out_of_loops_on_cpu():
    inputs, kernel = jnp.ones((2, 6, 6, 8)), jnp.ones((3, 3, 8, 4))
    loss = jax.value_and_grad(lambda kernel: ops.conv2d(inputs, kernel).sum())
    program = jax.jit(lambda kernel: lax.scan(lambda k, _: (k - loss(k)[1], None), kernel, length=3))
    assert "convolution" not in program.lower(kernel).as_text()


@pytest.mark.parametrize(("window", "shape"), [((2, 2), (2, 6, 8, 3)), ((3, 2), (1, 10, 7, 2))])
@pytest.mark.parametrize(
    ("pool", "reducer", "start"), [(ops.max_pool, lax.max, -jnp.inf), (ops.avg_pool, lax.add, 0.0)]
)
def test_pools_are_reduce_window(x64, pool, reducer, start, window, shape):
    inputs = jnp.asarray(RNG.normal(size=shape))

    def reference(inputs):
        reduced = lax.reduce_window(inputs, start, reducer, (1, *window, 1), (1, *window, 1), "VALID")
        return reduced / (np.prod(window) if reducer is lax.add else 1)

    ours, vjp = jax.vjp(lambda x: pool(x, window=window), inputs)
    theirs, reference_vjp = jax.vjp(reference, inputs)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    np.testing.assert_allclose(vjp(ours)[0], reference_vjp(ours)[0], atol=1e-12)


def test_max_pool_splits_the_gradient_of_ties():
    gradient = jax.grad(lambda x: ops.max_pool(x).sum())(jnp.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(gradient[0, ..., 0], [[0.25, 0.25], [0.25, 0.25]])


IMAGE, KERNEL = jnp.ones((1, 5, 5, 3)), jnp.ones((3, 3, 3, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.conv2d(IMAGE, jnp.ones((3, 3, 4, 2))), r"\(1, 5, 5, 3\) and \(3, 3, 4, 2\)"),
        (lambda: ops.conv2d(IMAGE[0], KERNEL), r"\(5, 5, 3\) and"),
        (lambda: ops.conv2d(IMAGE.astype(jnp.bfloat16), KERNEL), "dtype bfloat16.*kernel of dtype float32"),
        (lambda: ops.conv2d(IMAGE[:, :2], KERNEL, padding="VALID"), r"\(1, 2, 5, 3\) .* smaller than the kernel"),
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
