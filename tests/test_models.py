import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import deck, layers, models, training

KEY = jax.random.key(1)
RNG = np.random.default_rng(1)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape))


def test_three_logistic_units_are_their_sum(x64):
    """The deck's pages 7 and 8."""
    x1, x2 = RNG.normal(size=(2, 50))
    params = jax.tree.map(jnp.asarray, deck.PRINTED_SURFACE)
    model = models.mlp([3], 1, activation=jax.nn.sigmoid)
    outputs, _ = model.apply(params, {}, jnp.asarray(np.stack([x1, x2], axis=1)))
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
    slope = np.asarray(jax.jit(jax.vmap(jax.grad(activation)))(x))
    before, value, after = np.asarray(jax.jit(activation)(x + np.array([[-1e-6], [0], [1e-6]])))
    np.testing.assert_allclose(slope, derivative(x, value), atol=1e-12)
    np.testing.assert_allclose(slope, (after - before) / 2e-6, atol=1e-8)


@pytest.mark.parametrize("hidden_sizes", [[], [3], [5, 4, 3]])
def test_a_net_without_activation_collapses_into_one_layer(x64, hidden_sizes):
    model, sizes = models.mlp(hidden_sizes, 3, activation=lambda x: x), [2, *hidden_sizes, 3]
    params = [{"weight": normal(m, n), "bias": normal(n)} for m, n in itertools.pairwise(sizes)]

    @jax.jit
    def both(params, inputs):
        return models.linear(3).apply(models.collapse(params), {}, inputs)[0], model.apply(params, {}, inputs)[0]

    np.testing.assert_allclose(*both(params, normal(6, 2)), atol=1e-12)


def test_mlp_is_the_product_by_hand(x64):
    """The deck's 2-3-3-2 net (page 10)."""
    inputs = normal(5, 2)
    model = models.mlp([3, 3], 2, activation=jnp.tanh)
    params, state = jax.jit(model.init)(KEY, inputs)
    assert jax.tree.map(jnp.shape, params) == [
        {"weight": (2, 3), "bias": (3,)},
        {"weight": (3, 3), "bias": (3,)},
        {"weight": (3, 2), "bias": (2,)},
    ]
    params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf) + 0.1), params)
    expected = np.asarray(inputs)
    for index, layer in enumerate(params):
        expected = expected @ np.asarray(layer["weight"]) + np.asarray(layer["bias"])
        expected = np.tanh(expected) if index < 2 else expected
    outputs, new_state = model.apply(params, state, inputs)
    assert state == new_state == {}
    np.testing.assert_allclose(outputs, expected, atol=1e-12)
    np.testing.assert_allclose(jax.jit(model.apply)(params, state, inputs)[0], outputs, atol=1e-14)
    one_by_one = jax.jit(jax.vmap(lambda x: model.apply(params, state, x)[0]))(inputs)
    np.testing.assert_allclose(one_by_one, outputs, atol=1e-14)


def test_mlp_with_batch_normalisation_by_hand(x64):
    inputs = normal(9, 2)
    model = models.mlp([4, 3], 2, activation=jnp.tanh, batch_norm=True)
    params, state = jax.jit(model.init)(KEY, inputs)
    apply = jax.jit(model.apply)
    assert [sorted(layer) for layer in params] == [["batch_norm", "weight"]] * 2 + [["bias", "weight"]]

    def by_hand(state):
        expected = np.asarray(inputs)
        for layer, statistics in zip(params[:2], state, strict=True):
            product = expected @ np.asarray(layer["weight"])
            mean, var = statistics or (product.mean(axis=0), product.var(axis=0))
            expected = np.tanh((product - mean) / np.sqrt(var + 1e-5))
        return expected @ np.asarray(params[2]["weight"])

    outputs, new_state = apply(params, state, inputs, KEY)
    np.testing.assert_allclose(outputs, by_hand([None, None]), atol=1e-12)
    product = np.asarray(inputs) @ np.asarray(params[0]["weight"])
    np.testing.assert_allclose(new_state[0]["mean"], 0.1 * product.mean(axis=0), atol=1e-12)
    outputs, same = apply(params, new_state, inputs)
    np.testing.assert_allclose(outputs, by_hand([(s["mean"], s["var"]) for s in new_state]), atol=1e-12)
    jax.tree.map(np.testing.assert_array_equal, same, new_state)


def test_mlp_drops_hidden_neurons_in_training_only():
    inputs = jnp.ones((500, 2))
    model, plain = models.mlp([40, 30], 2, dropout=0.5), models.mlp([40, 30], 2)
    params, state = jax.jit(model.init)(KEY, inputs)
    apply = jax.jit(model.apply)
    np.testing.assert_array_equal(apply(params, state, inputs)[0], jax.jit(plain.apply)(params, state, inputs)[0])
    assert len(np.unique(apply(params, state, inputs, KEY)[0], axis=0)) == 500  # each example has noise of its own
    linear = models.mlp([2000], 1, activation=lambda x: x, dropout=0.5)
    params, apply = jax.jit(linear.init)(KEY, inputs)[0], jax.jit(linear.apply)
    means = [apply(params, {}, inputs, key)[0].mean() for key in (None, KEY)]
    np.testing.assert_allclose(means[0], means[1], atol=0.02)  # dropout keeps the mean


def test_mlp_draws_other_noise_for_every_layer():
    """Of three layers that pass on all that they get, a value comes through only if none of them drops it."""
    model = models.mlp([2000, 2000], 2000, activation=lambda x: x, dropout=0.5)
    params = [{"weight": jnp.eye(2000), "bias": jnp.zeros(2000)}] * 3
    outputs, _ = jax.jit(model.apply)(params, {}, jnp.ones((1, 2000)), KEY)
    assert set(np.unique(outputs)) == {0, 4}
    assert abs((outputs == 4).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 2000)


def test_preprocess_lets_a_net_take_the_data_as_they_are():
    images = RNG.integers(0, 256, (4, 3, 3, 1)).astype(np.uint8)
    net = models.mlp([5], 2)
    model = models.preprocess(layers.flatten_pixels, net)
    params, state = jax.jit(model.init)(KEY, images)
    assert jax.tree.map(jnp.shape, params[0]) == {"weight": (9, 5), "bias": (5,)}
    rows = jnp.asarray(images.reshape(4, 9) / 255, jnp.float32)
    expected, _ = net.apply(params, state, rows)
    for given in (images, jnp.asarray(images)):
        outputs, new_state = model.apply(params, state, given, KEY)
        np.testing.assert_allclose(outputs, expected, rtol=1e-6)
        assert new_state == {}


def test_mlp_without_hidden_layers_is_linear():
    inputs = normal(4, 3)
    params, state = jax.jit(models.linear(2).init)(KEY, inputs)
    linear, _ = models.linear(2).apply(params, state, inputs)
    mlp, _ = models.mlp([], 2).apply([params], state, inputs)
    np.testing.assert_array_equal(linear, mlp)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_parameters_take_the_dtype_of_the_inputs(dtype):
    params, _ = jax.eval_shape(models.mlp([3], 2).init, KEY, jnp.ones((1, 2), dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.mlp([0], 2), r"mlp: every layer needs at least one neuron, not \[0, 2\]"),
        (lambda: models.linear(0), r"linear: every layer needs at least one neuron, not \[0\]"),
        (lambda: models.deep_mlp(2, -1, 3), r"deep_mlp: every layer needs at least one neuron, not \[-1, 3\]"),
        (lambda: models.deep_mlp(0, 4, 3), "num_hidden must be 1 or more, not 0"),
        (lambda: models.mlp([3], 2, dropout=1.5), r"mlp: dropout must be in \[0, 1\), not 1.5"),
        (lambda: models.mlp([3], 2, dropout=-0.1), r"mlp: dropout must be in \[0, 1\), not -0.1"),
        (lambda: models.mlp([3], 2).init(KEY, jnp.ones(())), r"init: inputs are \[\*batch, features\], not a scalar"),
        (lambda: models.collapse([{"weight": jnp.ones((2, 3))}]), "need weight and bias each, without batch norm"),
    ],
)
def test_refuses(as_users_see_it, call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("num_hidden", [1, 4])
def test_deep_mlp_is_an_mlp_of_equal_layers(num_hidden, batch_norm):
    inputs, key = jax.random.normal(jax.random.key(0), (9, 5)), jax.random.key(1)
    deep = models.deep_mlp(num_hidden, 6, 3, activation=jnp.tanh, batch_norm=batch_norm)
    params, state = deep.init(key, inputs)
    hidden = params["hidden"], state["hidden"]
    stacked = [jax.tree.map(lambda leaf, at=at: leaf[at], hidden) for at in range(num_hidden - 1)]
    layers_of_it = [params["first"], *(layer for layer, _ in stacked), params["last"]]
    statistics = [state["first"], *(own for _, own in stacked)] if batch_norm else {}
    plain = models.mlp([6] * num_hidden, 3, activation=jnp.tanh, batch_norm=batch_norm)
    expected, updated = plain.apply(layers_of_it, statistics, inputs, key)
    outputs, new_state = deep.apply(params, state, inputs, key)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    if batch_norm:
        jax.tree.map(np.testing.assert_array_equal, new_state["first"], updated[0])


def test_a_chain_is_its_models_one_after_the_other(x64):
    parts = models.mlp([3], 5, activation=jnp.tanh, batch_norm=True), models.mlp([4], 2, dropout=0.5)
    model, inputs = models.chain(*parts), normal(20, 6)
    params, state = model.init(KEY, inputs)
    between, first_state = parts[0].apply(params[0], state[0], inputs, jax.random.fold_in(KEY, 0))
    expected, second_state = parts[1].apply(params[1], state[1], between, jax.random.fold_in(KEY, 1))
    outputs, new_state = model.apply(params, state, inputs, KEY)
    jax.tree.map(np.testing.assert_array_equal, (outputs, new_state), (expected, [first_state, second_state]))
    assert model.apply(params, state, inputs)[0].shape == (20, 2)


@pytest.mark.parametrize("num_examples", [3, 8, 16, 19])
def test_in_groups_computes_the_same(x64, num_examples):
    whole, inputs = models.mlp([3], 2, activation=jnp.tanh), normal(num_examples, 6)
    groups = models.in_groups(whole, size=8)
    params, state = whole.init(KEY, inputs)
    for of in (lambda model: model.apply, lambda model: jax.jacrev(lambda *given: model.apply(*given)[0])):
        ours, theirs = (jax.jit(of(model))(params, state, inputs) for model in (groups, whole))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), ours, theirs)


def test_each_group_draws_its_own_noise():
    model = models.in_groups(models.mlp([50], 1, dropout=0.5), size=2)
    inputs = jnp.ones((5, 3))
    outputs, _ = model.apply(*model.init(KEY, inputs), inputs, KEY)
    assert len(np.unique(outputs)) == 5


@pytest.mark.parametrize("num_examples", [4, 8, 11])
def test_groups_on_two_devices_are_those_on_one(x64, num_examples):
    inner, inputs, mesh = (
        models.mlp([50], 1, dropout=0.5),
        normal(num_examples, 3),
        training.batch_mesh(2, num_devices=2),
    )
    params, state = inner.init(KEY, inputs)

    def value_and_slope(mesh):
        model = models.in_groups(inner, size=2, mesh=mesh)
        return jax.jit(jax.value_and_grad(lambda params: jnp.sum(model.apply(params, state, inputs, KEY)[0] ** 2)))

    on_one, on_two = value_and_slope(None)(params), value_and_slope(mesh)(training.replicate(params, mesh))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), on_one, on_two)


def test_models_made_of_models_refuse():
    with pytest.raises(ValueError, match="chain: give one model or more"):
        models.chain()
    normalised = models.in_groups(models.mlp([3], 1, batch_norm=True), size=2)
    with pytest.raises(ValueError, match="in_groups: a model with a state, such as batch statistics, needs the whole"):
        normalised.apply(*normalised.init(KEY, jnp.ones((4, 2))), jnp.ones((4, 2)), KEY)
