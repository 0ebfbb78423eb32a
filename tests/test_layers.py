import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.test_util import check_grads

from jaxnn import layers

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("num_inputs", "num_outputs"), [(3, 2), (8, 4), (5, 30)])  # small ones are written out
def test_dense_is_the_linear_neuron(num_inputs, num_outputs):
    params = layers.init_dense(KEY, num_inputs, num_outputs)
    assert jax.tree.map(jnp.shape, params) == {"weight": (num_inputs, num_outputs), "bias": (num_outputs,)}
    inputs = RNG.normal(size=(4, 5, num_inputs)).astype(np.float32)
    params["bias"] = jnp.asarray(RNG.normal(size=num_outputs), jnp.float32)
    weight, bias = map(np.asarray, (params["weight"], params["bias"]))
    np.testing.assert_allclose(layers.dense(params, jnp.asarray(inputs)), inputs @ weight + bias, atol=1e-6)
    del params["bias"]
    np.testing.assert_allclose(layers.dense(params, jnp.asarray(inputs)), inputs @ weight, atol=1e-6)


def test_dense_in_half_precision_rounds_no_product():
    params = {"weight": jnp.array([[300], [-300]], jnp.float16), "bias": jnp.zeros(1, jnp.float16)}
    np.testing.assert_array_equal(layers.dense(params, jnp.array([[300, 300]], jnp.float16)), [[0]])


def test_linear_neuron_is_norm_times_norm_times_cosine(x64):
    weight, inputs = np.array([2.0, 8.0]), np.array([3.0, -1.0])
    cosine = np.cos(np.arctan2(weight[1], weight[0]) - np.arctan2(inputs[1], inputs[0]))
    expected = np.linalg.norm(weight) * np.linalg.norm(inputs) * cosine + 0.5
    params = {"weight": jnp.asarray(weight[:, None]), "bias": jnp.array([0.5])}
    value, gradient = jax.jit(jax.value_and_grad(lambda params: layers.dense(params, jnp.asarray(inputs))[0]))(params)
    np.testing.assert_allclose(value, expected, atol=1e-12)
    np.testing.assert_array_equal(gradient["weight"][:, 0], inputs)
    np.testing.assert_array_equal(gradient["bias"], [1])


def test_dropout_keeps_the_mean_and_drops_the_share():
    outputs = np.asarray(layers.dropout(jnp.ones((1000, 100)), KEY, rate=0.3))
    assert set(np.unique(outputs)) == {0, np.float32(1 / 0.7)}
    assert abs((outputs == 0).mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 1e5)
    assert len(np.unique(outputs, axis=0)) == 1000  # each example has noise of its own


def test_dropout_draws_from_its_key():
    inputs = jnp.ones((6, 50))
    first, again, other = (layers.dropout(inputs, jax.random.key(seed), rate=0.5) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_dropout_of_nothing_is_the_identity():
    inputs = jnp.asarray(RNG.normal(size=(3, 4)))
    np.testing.assert_array_equal(layers.dropout(inputs, KEY, rate=0.0), inputs)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_dropout_computes_in_the_dtype_given(dtype):
    assert layers.dropout(jnp.ones((2, 3), dtype), KEY, rate=0.5).dtype == dtype


@pytest.mark.parametrize(
    ("shape", "settings"), [((20, 4), {}), ((2, 3, 5, 4), {"momentum": 0.7, "eps": 1e-3}), ((8, 32, 16, 4), {})]
)
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_is_that_of_flax(x64, training, shape, settings):
    inputs = jnp.asarray(RNG.normal(3, 2, shape))
    named = {"momentum": settings.get("momentum", 0.9), "epsilon": settings.get("eps", 1e-5)}
    theirs = nn.BatchNorm(use_running_average=not training, use_fast_variance=False, **named)
    params = {"scale": jnp.array([1.0, 2.0, 0.5, -1.0]), "bias": jnp.array([0.0, 1.0, -1.0, 3.0])}
    state = {"mean": jnp.array([1.0, 2.0, 3.0, 4.0]), "var": jnp.array([1.0, 2.0, 3.0, 4.0])}
    variables = {"params": params, "batch_stats": state}
    expected, updated = jax.jit(lambda x: theirs.apply(variables, x, mutable=["batch_stats"]))(inputs)
    outputs, new_state = jax.jit(lambda x: layers.batch_norm(params, state, x, training=training, **settings))(inputs)
    np.testing.assert_allclose(outputs, expected, atol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), new_state, updated["batch_stats"])

    def slopes(normalise):
        return jax.jit(jax.grad(lambda params, x: (normalise(params, x) ** 3).sum(), (0, 1)))(params, inputs)

    ours = slopes(lambda params, x: layers.batch_norm(params, state, x, training=training, **settings)[0])
    flaxs = slopes(lambda p, x: theirs.apply({**variables, "params": p}, x, mutable=["batch_stats"])[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), ours, flaxs)


def test_batch_norm_begins_with_mean_0_and_variance_1(x64):
    params, state = layers.init_batch_norm(3, dtype=jnp.float64)
    inputs = jnp.asarray(RNG.normal(3, 2, (50, 3)))
    normalised = jax.jit(lambda x: layers.batch_norm(params, state, x, training=True)[0])
    outputs = np.asarray(normalised(inputs))
    np.testing.assert_allclose(outputs.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(outputs.var(axis=0), 1, atol=1e-5)
    check_grads(normalised, (inputs,), order=2)
    unchanged, same = layers.batch_norm(params, state, inputs, training=False)
    np.testing.assert_allclose(unchanged, inputs, rtol=1e-5)
    assert same is state


def test_flattened_pixels_are_between_0_and_1():
    images = RNG.integers(0, 256, (3, 4, 5, 2)).astype(np.uint8)
    for given in (images, jnp.asarray(images), images.astype(np.float32)):
        rows = layers.flatten_pixels(given)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, images.reshape(3, 40) / 255, rtol=1e-6)
    assert layers.flatten_pixels(images[:0]).shape == (0, 40)


def batch_norm(*shape, training=True, **settings):
    return layers.batch_norm(*layers.init_batch_norm(3), jnp.ones(shape), training=training, **settings)


def dense(weight, bias, inputs):
    return layers.dense({"weight": jnp.ones(weight), "bias": jnp.ones(bias)}, jnp.ones(inputs))


REFUSED = [
    (lambda: batch_norm(1, 3), r"training needs 2 values or more of each feature, not inputs \(1, 3\)"),
    (lambda: batch_norm(0, 3), r"2 values or more .*\(0, 3\)"),
    (lambda: batch_norm(3), r"2 values or more .*\(3,\)"),
    (lambda: batch_norm(4, 1), r"3 features need inputs \[..., 3\], not of shape \(4, 1\)"),
    (lambda: batch_norm(4, 1, training=False), "3 features need inputs"),
    (lambda: batch_norm(4, 3, momentum=1.5), r"momentum must be in \[0, 1\] .* not 1.5"),
    (lambda: batch_norm(4, 3, momentum=-0.1), r"momentum must be in \[0, 1\] .* not -0.1"),
    (lambda: batch_norm(4, 3, eps=-1e-5), "eps 0 or more, not 0.9 and -1e-05"),
    (lambda: layers.init_batch_norm(3, dtype=int), "init_batch_norm: parameters cannot be int"),
    (lambda: layers.init_batch_norm(0), r"init_batch_norm: a layer has 1 input and 1 output or more, not sizes \(0,\)"),
    (lambda: layers.init_dense(KEY, 3, -1), r"init_dense: a layer has .* not sizes \(3, -1\)"),
    (lambda: dense((3, 2), (2,), ()), r"takes 3 inputs but the inputs have shape \(\)"),
    (lambda: dense((3, 2), (2, 2), (2, 3)), r"cannot have the shapes \(3, 2\) and \(2, 2\)"),
    (lambda: dense((3,), (3,), (2, 3)), r"cannot have the shapes \(3,\) and \(3,\)"),
    (lambda: layers.dense({"weight": jnp.ones((3, 2), jnp.uint8)}, jnp.ones(3, jnp.uint8)), "uint8 may overflow"),
    (lambda: layers.flatten_pixels(np.ones((6, 6, 1))), r"flatten_pixels: images are \[batch, .* \(6, 6, 1\)"),
    (lambda: layers.dense(layers.init_dense(KEY, 3, 2), jnp.ones((4, 5))), r"takes 3 inputs.*\(4, 5\)"),
    (lambda: layers.init_dense(KEY, 3, 2, dtype=jnp.uint8), "parameters cannot be uint8: make the inputs floats"),
    (lambda: layers.dropout(jnp.ones((2, 3)), KEY, rate=1.0), r"rate must be in \[0, 1\), not 1.0"),
    (lambda: layers.dropout(jnp.ones((2, 3)), KEY, rate=-0.1), r"rate must be in \[0, 1\), not -0.1"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refuses(as_users_see_it, call, message):
    with pytest.raises(ValueError, match=message):
        call()
