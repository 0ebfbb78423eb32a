import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.test_util import check_grads

from jaxnn import layers

KEY = jax.random.key(0)


@pytest.mark.parametrize(("num_inputs", "num_outputs"), [(3, 2), (8, 4), (5, 30)])  # small ones are written out
def test_dense_is_the_linear_neuron(num_inputs, num_outputs):
    params = layers.init_dense(KEY, num_inputs, num_outputs)
    assert jax.tree.map(jnp.shape, params) == {"weight": (num_inputs, num_outputs), "bias": (num_outputs,)}
    inputs = jax.random.normal(KEY, (4, 5, num_inputs))
    np.testing.assert_allclose(layers.dense(params, inputs), inputs @ params["weight"] + params["bias"], atol=1e-6)


def test_dense_in_half_precision_rounds_no_product():
    params = {"weight": jnp.array([[300], [-300]], jnp.float16), "bias": jnp.zeros(1, jnp.float16)}
    np.testing.assert_array_equal(layers.dense(params, jnp.array([[300, 300]], jnp.float16)), [[0]])


def test_linear_neuron_is_norm_times_norm_times_cosine(x64):
    weight, inputs = jnp.array([2.0, 8.0]), jnp.array([3.0, -1.0])
    cosine = jnp.cos(jnp.atan2(weight[1], weight[0]) - jnp.atan2(inputs[1], inputs[0]))
    expected = jnp.linalg.norm(weight) * jnp.linalg.norm(inputs) * cosine + 0.5
    params = {"weight": weight[:, None], "bias": jnp.array([0.5])}
    np.testing.assert_allclose(layers.dense(params, inputs)[0], expected, atol=1e-12)
    gradient = jax.grad(lambda params: layers.dense(params, inputs)[0])(params)
    np.testing.assert_array_equal(gradient["weight"][:, 0], inputs)
    np.testing.assert_array_equal(gradient["bias"], [1])


def test_dropout_keeps_the_mean_and_drops_the_share():
    outputs = layers.dropout(jnp.ones((1000, 100)), KEY, rate=0.3)
    assert set(np.unique(outputs)) == {0, np.float32(1 / 0.7)}
    assert abs(float((outputs == 0).mean()) - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 1e5)


def test_dropout_noise_of_an_example_is_its_own():
    keys, inputs = jax.random.split(KEY, 6), jnp.ones((6, 50))
    together = layers.dropout(inputs, keys, rate=0.5)
    apart = jnp.concatenate(
        [layers.dropout(inputs[:4], keys[:4], rate=0.5), layers.dropout(inputs[4:], keys[4:], rate=0.5)]
    )
    np.testing.assert_array_equal(together, apart)
    assert len(np.unique(together, axis=0)) == 6


def test_dropout_of_nothing_is_the_identity():
    inputs = jax.random.normal(KEY, (3, 4))
    np.testing.assert_array_equal(layers.dropout(inputs, KEY, rate=0.0), inputs)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_is_that_of_flax(x64, training):
    inputs = 3 + 2 * jax.random.normal(KEY, (20, 4))
    theirs = nn.BatchNorm(use_running_average=not training, momentum=0.9, use_fast_variance=False)
    params = {"scale": jnp.array([1.0, 2.0, 0.5, -1.0]), "bias": jnp.array([0.0, 1.0, -1.0, 3.0])}
    state = {"mean": jnp.array([1.0, 2.0, 3.0, 4.0]), "var": jnp.array([1.0, 2.0, 3.0, 4.0])}
    variables = {"params": params, "batch_stats": state}
    expected, updated = theirs.apply(variables, inputs, mutable=["batch_stats"])
    outputs, new_state = layers.batch_norm(params, state, inputs, training=training)
    np.testing.assert_allclose(outputs, expected, atol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), new_state, updated["batch_stats"])


def test_batch_norm_begins_with_mean_0_and_deviation_1(x64):
    params, state = layers.init_batch_norm(3, dtype=jnp.float64)
    inputs = 3 + 2 * jax.random.normal(KEY, (50, 3))
    outputs, _ = layers.batch_norm(params, state, inputs, training=True)
    np.testing.assert_allclose(outputs.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(outputs.var(axis=0), 1, atol=1e-5)
    check_grads(lambda x: layers.batch_norm(params, state, jnp.asarray(x), training=True)[0], (inputs,), order=2)
    unchanged, same = layers.batch_norm(params, state, inputs, training=False)
    np.testing.assert_allclose(unchanged, inputs, rtol=1e-5)
    assert same is state


REFUSED = [
    (lambda: layers.batch_norm(*layers.init_batch_norm(3), jnp.ones((1, 3)), training=True), "2 examples or more"),
    (lambda: layers.dense(layers.init_dense(KEY, 3, 2), jnp.ones((4, 5))), r"takes 3 inputs.*\(4, 5\)"),
    (lambda: layers.init_dense(KEY, 3, 2, dtype=jnp.uint8), "parameters cannot be uint8: make the inputs floats"),
    (lambda: layers.dropout(jnp.ones((2, 3)), KEY, rate=1.0), r"rate must be in \[0, 1\), not 1.0"),
    (lambda: layers.dropout(jnp.ones((2, 3)), KEY, rate=-0.1), r"rate must be in \[0, 1\), not -0.1"),
    (lambda: layers.dropout(jnp.ones((2, 3)), jax.random.split(KEY, 3), rate=0.1), r"2 examples need.*\(3,\)"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refuses(as_users_see_it, call, message):
    with pytest.raises(ValueError, match=message):
        call()
