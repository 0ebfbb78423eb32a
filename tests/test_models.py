import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import models

KEY = jax.random.key(1)


def test_three_logistic_units_are_their_sum(x64):
    """The deck's pages 7 and 8."""
    x1, x2 = jax.random.normal(KEY, (2, 50))
    params = [
        {"weight": jnp.array([[0.98, 1.8, 0.67], [-1.3, 0.2, 1.5]]), "bias": jnp.array([-3.5, 3.4, -3.5])},
        {"weight": jnp.array([[-7.7], [7.4], [-7.6]]), "bias": jnp.zeros(1)},
    ]
    model = models.mlp([3], 1, activation=jax.nn.sigmoid)
    outputs, _ = model.apply(params, {}, jnp.stack([x1, x2], axis=1))
    units = (
        1 / (1 + np.exp(-(a * x1 + b * x2 + c))) for a, b, c in ((0.98, -1.3, -3.5), (1.8, 0.2, 3.4), (0.67, 1.5, -3.5))
    )
    expected = sum(factor * unit for factor, unit in zip((-7.7, 7.4, -7.6), units, strict=True))
    np.testing.assert_allclose(outputs[:, 0], expected, atol=1e-12)


@pytest.mark.parametrize(
    ("activation", "derivative"),
    [
        (lambda x: x, lambda x, y: np.ones_like(x)),
        (jax.nn.sigmoid, lambda x, y: y * (1 - y)),
        (jnp.tanh, lambda x, y: 1 - y**2),
        (jax.nn.relu, lambda x, y: (x > 0).astype(float)),
    ],
)
def test_activations_have_the_derivatives_of_their_formulas(x64, activation, derivative):
    """The deck's pages 6 and 9; at the points, the ReLU has no kink."""
    x = np.linspace(-5, 5, 40)
    slope = jax.vmap(jax.grad(activation))(x)
    np.testing.assert_allclose(slope, derivative(x, activation(x)), atol=1e-12)
    np.testing.assert_allclose(slope, (activation(x + 1e-6) - activation(x - 1e-6)) / 2e-6, atol=1e-8)


@pytest.mark.parametrize("hidden_sizes", [[], [3], [5, 4, 3]])
def test_a_net_without_activation_collapses_into_one_layer(x64, hidden_sizes):
    inputs = jax.random.normal(KEY, (6, 2))
    model = models.mlp(hidden_sizes, 3, activation=lambda x: x)
    params = jax.tree.map(lambda leaf: leaf + 0.3, model.init(KEY, inputs)[0])
    collapsed, _ = models.linear(3).apply(models.collapse(params), {}, inputs)
    np.testing.assert_allclose(collapsed, model.apply(params, {}, inputs)[0], atol=1e-12)


def test_mlp_is_the_product_by_hand(x64):
    """The deck's 2-3-3-2 net (page 10)."""
    inputs = jax.random.normal(KEY, (5, 2))
    model = models.mlp([3, 3], 2, activation=jnp.tanh)
    params, state = model.init(KEY, inputs)
    assert jax.tree.map(jnp.shape, params) == [
        {"weight": (2, 3), "bias": (3,)},
        {"weight": (3, 3), "bias": (3,)},
        {"weight": (3, 2), "bias": (2,)},
    ]
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    expected = np.asarray(inputs)
    for index, layer in enumerate(params):
        expected = expected @ np.asarray(layer["weight"]) + np.asarray(layer["bias"])
        expected = np.tanh(expected) if index < 2 else expected
    outputs, new_state = model.apply(params, state, inputs)
    assert state == new_state == {}
    np.testing.assert_allclose(outputs, expected, atol=1e-12)
    np.testing.assert_allclose(jax.jit(model.apply)(params, state, inputs)[0], outputs, atol=1e-14)
    one_by_one = jax.vmap(lambda x: model.apply(params, state, x)[0])(inputs)
    np.testing.assert_allclose(one_by_one, outputs, atol=1e-14)


def test_mlp_with_batch_normalisation_by_hand(x64):
    inputs = jax.random.normal(KEY, (9, 2))
    model = models.mlp([4, 3], 2, activation=jnp.tanh, batch_norm=True)
    params, state = model.init(KEY, inputs)
    assert [sorted(layer) for layer in params] == [["batch_norm", "weight"]] * 2 + [["bias", "weight"]]

    def by_hand(state):
        expected = np.asarray(inputs)
        for layer, statistics in zip(params[:2], state, strict=True):
            product = expected @ np.asarray(layer["weight"])
            mean, var = statistics or (product.mean(axis=0), product.var(axis=0))
            expected = np.tanh((product - mean) / np.sqrt(var + 1e-5))
        return expected @ np.asarray(params[2]["weight"])

    outputs, new_state = model.apply(params, state, inputs, KEY)
    np.testing.assert_allclose(outputs, by_hand([None, None]), atol=1e-12)
    product = np.asarray(inputs @ params[0]["weight"])
    np.testing.assert_allclose(new_state[0]["mean"], 0.1 * product.mean(axis=0), atol=1e-12)
    outputs, same = model.apply(params, new_state, inputs)
    np.testing.assert_allclose(outputs, by_hand([(s["mean"], s["var"]) for s in new_state]), atol=1e-12)
    jax.tree.map(np.testing.assert_array_equal, same, new_state)


def test_mlp_drops_hidden_neurons_in_training_only():
    inputs = jnp.ones((500, 2))
    model, plain = models.mlp([40, 30], 2, dropout=0.5), models.mlp([40, 30], 2)
    params, state = model.init(KEY, inputs)
    np.testing.assert_array_equal(model.apply(params, state, inputs)[0], plain.apply(params, state, inputs)[0])
    keys = jax.random.split(KEY, 500)
    outputs, _ = model.apply(params, state, inputs, keys)
    assert len(np.unique(outputs, axis=0)) == 500  # each example has its own noise, whatever its batch
    np.testing.assert_allclose(model.apply(params, state, inputs[:7], keys[:7])[0], outputs[:7], rtol=1e-5)
    linear = models.mlp([2000], 1, activation=lambda x: x, dropout=0.5)
    params, _ = linear.init(KEY, inputs)
    means = [linear.apply(params, {}, inputs, key)[0].mean() for key in (None, KEY)]
    np.testing.assert_allclose(means[0], means[1], atol=0.02)  # dropout keeps the mean


def test_mlp_without_hidden_layers_is_linear():
    inputs = jax.random.normal(KEY, (4, 3))
    params, state = models.linear(2).init(KEY, inputs)
    linear, _ = models.linear(2).apply(params, state, inputs)
    mlp, _ = models.mlp([], 2).apply([params], state, inputs)
    np.testing.assert_array_equal(linear, mlp)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_parameters_take_the_dtype_of_the_inputs(dtype):
    params, _ = models.mlp([3], 2).init(KEY, jnp.ones((1, 2), dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}


def test_mlp_refuses_an_empty_layer(as_users_see_it):
    with pytest.raises(ValueError, match=r"at least one neuron, not \[0, 2\]"):
        models.mlp([0], 2)


def test_collapse_refuses_batch_normalisation(as_users_see_it):
    params, _ = models.mlp([3], 2, batch_norm=True).init(KEY, jnp.ones((4, 2)))
    with pytest.raises(ValueError, match="collapse: the layers need weight and bias each, without batch normalisation"):
        models.collapse(params)
