import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import backprop, losses, models
from jaxnn.backprop import IDENTITY, LOGISTIC, RELU, TANH

ACTIVATIONS = (IDENTITY, LOGISTIC, TANH, RELU)


RNG = np.random.default_rng(3)


def make(depth, num_examples):
    """Parameters of a net of so many layers, and inputs, targets and labels for it."""
    sizes = [4, *[5, 3, 6, 4][: depth - 1], 3]
    params = [{"weight": RNG.normal(size=(m, n)), "bias": RNG.normal(size=n)} for m, n in itertools.pairwise(sizes)]
    inputs = RNG.normal(size=(num_examples, 4))
    return jax.tree.map(jnp.asarray, (params, inputs, np.sin(inputs[:, :3]), np.arange(num_examples) % 3))


def outputs_of(params, inputs, activation=TANH):
    model = models.mlp([len(layer["bias"]) for layer in params[:-1]], 3, activation=activation.f)
    return model.apply(params, {}, inputs)[0]


def half_squared_error(outputs, targets):
    return losses.squared_error(outputs, targets).mean() / 2


def by_hand(params, inputs, activation, output_gradient, **settings):
    outputs, layers = backprop.forward(params, inputs, activation=activation, **settings)
    return backprop.gradients(layers, backprop.deltas(params, layers, output_gradient(outputs)))


def assert_equal(ours, expected, atol=1e-10):
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    jax.tree.map(lambda left, right: np.testing.assert_allclose(left, right, rtol=0, atol=atol), ours, expected)


@pytest.mark.parametrize(("depth", "num_examples"), [(1, 7), (2, 7), (3, 1), (5, 7)])
def test_the_decks_equations_are_jax_grad(x64, depth, num_examples):
    params, inputs, targets, labels = make(depth, num_examples)

    def ours_and_expected(params, activation):
        def ours(output_gradient):
            return by_hand(params, inputs, activation, output_gradient)

        def expected(loss):
            return jax.grad(lambda params: loss(outputs_of(params, inputs, activation)))(params)

        squared = expected(lambda y: half_squared_error(y, targets))
        return [
            (ours(lambda y: backprop.squared_error_gradient(y, targets)), squared),
            (
                ours(lambda y: backprop.squared_error_gradient(y, targets, half=False)),
                jax.tree.map(lambda leaf: 2 * leaf, squared),
            ),
            (
                ours(lambda z: backprop.softmax_cross_entropy_gradient(z, labels)),
                expected(lambda z: losses.softmax_cross_entropy(z, labels).mean()),
            ),
        ]

    found = jax.jit(lambda params: [ours_and_expected(params, activation) for activation in ACTIVATIONS])(params)
    for pairs in found:
        for ours, expected in pairs:
            assert_equal(ours, expected)


def test_the_output_layer_may_have_an_activation_too(x64):
    """As on the deck's page 15."""
    params, inputs, targets, _ = make(3, 7)

    def both(params, output):
        def loss(params):
            return half_squared_error(output.f(outputs_of(params, inputs)), targets)

        def gradient(outputs):
            return backprop.squared_error_gradient(outputs, targets)

        return by_hand(params, inputs, TANH, gradient, output_activation=output), jax.grad(loss)(params)

    for ours, expected in jax.jit(lambda params: [both(params, output) for output in ACTIVATIONS])(params):
        assert_equal(ours, expected)


def test_the_deltas_are_the_derivatives_by_the_activities(x64):
    params, inputs, targets, _ = make(3, 1)
    outputs, layers = backprop.forward(params, inputs, activation=TANH)
    ours = backprop.deltas(params, layers, backprop.squared_error_gradient(outputs, targets))

    def loss(shift):  # of the activity of the middle layer
        hidden = jnp.tanh(layers[1].v + shift)
        return jnp.sum((hidden @ params[2]["weight"] + params[2]["bias"] - targets) ** 2) / 2

    np.testing.assert_allclose(ours[1], jax.jit(jax.grad(loss))(np.zeros((1, 3))), rtol=0, atol=1e-12)
    assert [delta.shape for delta in ours] == [(1, 5), (1, 3), (1, 3)]


def test_a_training_by_hand_is_the_training_by_jax_grad(x64):
    params, inputs, targets, _ = make(3, 20)

    def step_by_hand(params, _):
        gradient = by_hand(params, inputs, TANH, lambda y: backprop.squared_error_gradient(y, targets))
        return backprop.update(params, gradient, learning_rate=0.1), None

    def step_by_grad(params, _):
        gradient = jax.grad(lambda params: half_squared_error(outputs_of(params, inputs), targets))(params)
        return jax.tree.map(lambda leaf, slope: leaf - 0.1 * slope, params, gradient), None

    hand, grad = (jax.lax.scan(step, params, length=500)[0] for step in (step_by_hand, step_by_grad))
    assert_equal(hand, grad)
    assert max(jnp.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (hand, params)), strict=True)) > 0.1


def test_labels_outside_the_classes_give_nan(as_users_see_it):
    gradient = backprop.softmax_cross_entropy_gradient(jnp.zeros((4, 2)), np.array([-1, 2, 2**32, 1]))
    np.testing.assert_array_equal(gradient, [[np.nan] * 2] * 3 + [[0.5, -0.5]])


PARAMS = [{"weight": np.ones((4, 5)), "bias": np.ones(5)}, {"weight": np.ones((5, 1)), "bias": np.ones(1)}]
LAYERS = [
    backprop.Layer(np.ones((7, 4)), np.ones((7, 5)), TANH),
    backprop.Layer(np.ones((7, 5)), np.ones((7, 1)), TANH),
]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: backprop.forward(PARAMS, np.ones(4), activation=TANH), r"\[batch, inputs\], not of shape \(4,\)"),
        (
            lambda: backprop.squared_error_gradient(np.ones((7, 1)), np.ones(7)),
            r"targets must have shape \(7, 1\), not \(7,\)",
        ),
        (
            lambda: backprop.softmax_cross_entropy_gradient(np.ones((7, 3)), np.ones((7, 1), int)),
            r"labels must have shape \(7,\), not \(7, 1\)",
        ),
        (
            lambda: backprop.deltas(PARAMS, LAYERS, np.ones(7)),
            r"output_gradient must have shape \(7, 1\), not \(7,\)",
        ),
        (
            lambda: backprop.deltas([PARAMS[0], {"weight": np.ones((1, 1))}], LAYERS, np.ones((7, 1))),
            r"hidden layer must have shape \(7, 5\), not \(7, 1\)",
        ),
        (
            lambda: backprop.gradients(LAYERS, [np.ones((7, 5)), np.ones((7, 3))]),
            r"delta of a layer must have shape \(7, 1\), not \(7, 3\)",
        ),
        (
            lambda: backprop.update(PARAMS[:1], [{"weight": np.ones((4, 1)), "bias": np.ones(5)}], learning_rate=0.1),
            r"gradient of a weight must have shape \(4, 5\), not \(4, 1\)",
        ),
    ],
)
def test_refuses_other_shapes(as_users_see_it, call, message):
    with pytest.raises(ValueError, match=message):
        call()
