import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import backprop, losses, models
from jaxnn.backprop import IDENTITY, LOGISTIC, RELU, TANH

KEY = jax.random.key(3)
ACTIVATIONS = {"identity": IDENTITY, "logistic": LOGISTIC, "tanh": TANH, "relu": RELU}


def make(depth, num_examples, activation=TANH):
    inputs = jax.random.normal(KEY, (num_examples, 4))
    model = models.mlp([5, 3, 6, 4][: depth - 1], 3, activation=activation.f)
    params = jax.tree.map(lambda leaf: leaf + 0.1, model.init(KEY, inputs)[0])
    return model, params, inputs


def by_hand(params, inputs, activation, output_gradient, **settings):
    outputs, layers = backprop.forward(params, inputs, activation=activation, **settings)
    return backprop.gradients(layers, backprop.deltas(params, layers, output_gradient(outputs)))


def assert_equal(ours, expected, atol=1e-10):
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    jax.tree.map(lambda left, right: np.testing.assert_allclose(left, right, rtol=0, atol=atol), ours, expected)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("num_examples", [1, 7])
def test_the_decks_equations_are_jax_grad(x64, name, depth, num_examples):
    activation = ACTIVATIONS[name]
    model, params, inputs = make(depth, num_examples, activation)
    targets, labels = jnp.sin(inputs[:, :3]), jnp.arange(num_examples) % 3
    outputs_of = lambda params: model.apply(params, {}, inputs)[0]  # noqa: E731

    expected = jax.grad(lambda params: losses.squared_error(outputs_of(params), targets).mean() / 2)(params)
    ours = by_hand(params, inputs, activation, lambda y: backprop.squared_error_gradient(y, targets))
    assert_equal(ours, expected)
    doubled = by_hand(params, inputs, activation, lambda y: backprop.squared_error_gradient(y, targets, half=False))
    assert_equal(doubled, jax.tree.map(lambda leaf: 2 * leaf, expected))

    expected = jax.grad(lambda params: losses.softmax_cross_entropy(outputs_of(params), labels).mean())(params)
    assert_equal(
        by_hand(params, inputs, activation, lambda z: backprop.softmax_cross_entropy_gradient(z, labels)), expected
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_output_layer_may_have_an_activation_too(x64, name):
    """As on the deck's page 15."""
    model, params, inputs = make(3, 7)
    targets, output = jnp.sin(inputs[:, :3]), ACTIVATIONS[name]

    def loss(params):
        return losses.squared_error(output.f(model.apply(params, {}, inputs)[0]), targets).mean() / 2

    gradient = lambda y: backprop.squared_error_gradient(y, targets)  # noqa: E731
    assert_equal(by_hand(params, inputs, TANH, gradient, output_activation=output), jax.grad(loss)(params))


def test_the_deltas_are_the_derivatives_by_the_activities(x64):
    _, params, inputs = make(3, 1)
    targets = jnp.ones((1, 3))
    outputs, layers = backprop.forward(params, inputs, activation=TANH)
    ours = backprop.deltas(params, layers, backprop.squared_error_gradient(outputs, targets))

    def loss(shift):  # of the activity of the middle layer
        hidden = jnp.tanh(layers[1].v + shift)
        return jnp.sum((hidden @ params[2]["weight"] + params[2]["bias"] - targets) ** 2) / 2

    np.testing.assert_allclose(ours[1], jax.grad(loss)(jnp.zeros_like(layers[1].v)), rtol=0, atol=1e-12)
    assert [delta.shape for delta in ours] == [(1, 5), (1, 3), (1, 3)]


def test_a_training_by_hand_is_the_training_by_jax_grad(x64):
    model, params, inputs = make(3, 20)
    targets = jnp.sin(inputs[:, :3])

    def step_by_hand(params, _):
        gradient = by_hand(params, inputs, TANH, lambda y: backprop.squared_error_gradient(y, targets))
        return backprop.update(params, gradient, learning_rate=0.1), None

    def step_by_grad(params, _):
        loss = lambda params: losses.squared_error(model.apply(params, {}, inputs)[0], targets).mean() / 2  # noqa: E731
        return jax.tree.map(lambda leaf, slope: leaf - 0.1 * slope, params, jax.grad(loss)(params)), None

    hand, grad = (jax.lax.scan(step, params, length=500)[0] for step in (step_by_hand, step_by_grad))
    assert_equal(hand, grad)
    assert max(jnp.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (hand, params)), strict=True)) > 0.1
