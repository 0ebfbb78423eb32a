import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics
from jax.flatten_util import ravel_pytree
from jax.test_util import check_grads

from jaxnn import losses

RNG = np.random.default_rng(0)
LOGITS, LABELS = RNG.normal(size=(6, 4)), RNG.integers(0, 4, 6)
P, Q = RNG.dirichlet(np.ones(5), 7), RNG.dirichlet(np.ones(5), 7)


def test_squared_error_and_its_gradient(x64):
    outputs, targets = jnp.asarray(LOGITS), jnp.asarray(LOGITS[::-1])
    np.testing.assert_allclose(
        losses.squared_error(outputs, targets), ((LOGITS - LOGITS[::-1]) ** 2).sum(1), atol=1e-12
    )
    gradient = jax.jit(jax.grad(lambda outputs: losses.squared_error(outputs, targets).sum()))(outputs)
    np.testing.assert_allclose(gradient, 2 * (LOGITS - LOGITS[::-1]), atol=1e-12)


def test_softmax_cross_entropy_is_scikit_learns(x64):
    values = losses.softmax_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    probabilities = scipy.special.softmax(LOGITS, axis=1)
    reference = sklearn.metrics.log_loss(LABELS, probabilities, labels=range(4))
    np.testing.assert_allclose(values.mean(), reference, atol=1e-12)
    soft = losses.softmax_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(np.eye(4)[LABELS]))
    np.testing.assert_allclose(values, soft, atol=1e-12)


def test_gradient_of_softmax_cross_entropy_is_p_minus_y(x64):
    for targets in (jnp.asarray(LABELS), jnp.asarray(RNG.dirichlet(np.ones(4), 6))):
        gradient = jax.jit(jax.grad(lambda z, t=targets: losses.softmax_cross_entropy(z, t).sum()))(LOGITS)
        dense = targets if targets.ndim == 2 else np.eye(4)[LABELS]
        np.testing.assert_allclose(gradient, scipy.special.softmax(LOGITS, axis=1) - dense, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize(
    "make_targets", [lambda labels, dtype: labels, lambda labels, dtype: jax.nn.one_hot(labels, 3, dtype=dtype)]
)
def test_softmax_cross_entropy_at_logits_of_1e4(dtype, make_targets):
    logits = jnp.array([[1e4, 1e4, 1e4], [1e4, -1e4, 0]], dtype)
    targets = make_targets(jnp.array([2, 1]), dtype)
    values, gradient = jax.jit(jax.vmap(jax.value_and_grad(losses.softmax_cross_entropy)))(logits, targets)
    assert values.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(np.asarray(values, float), [np.log(3), 2e4], rtol=jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(gradient[1], float), [1, -1, 0], atol=1e-6)


def test_a_class_that_cannot_be_costs_nothing_where_it_is_not():
    logits = jnp.array([0.0, 1.0, -jnp.inf])
    for targets in (jnp.array(1), jnp.array([0.0, 1.0, 0.0])):
        value, gradient = jax.jit(jax.value_and_grad(losses.softmax_cross_entropy))(logits, targets)
        np.testing.assert_allclose(value, np.log1p(np.exp(-1)), rtol=1e-6)
        assert np.isfinite(gradient).all()


def test_softmax_cross_entropy_keeps_the_digits_of_a_loss_near_0():
    logits = jnp.array([[40.0, 0, 0], [20, 0, -jnp.inf], [0, 0, 0], [-1e30, 1e30, 0]])
    expected = [2 * np.exp(-40), np.exp(-20), np.log(3), 2e30]
    for targets in (jnp.zeros(4, int), jax.nn.one_hot(jnp.zeros(4, int), 3)):
        np.testing.assert_allclose(losses.softmax_cross_entropy(logits, targets), expected, rtol=1e-6)


def test_labels_outside_the_classes_give_nan():
    labels = jnp.array([-1, 0, 2, 3])
    values, gradient = jax.jit(jax.vmap(jax.value_and_grad(losses.softmax_cross_entropy)))(jnp.zeros((4, 3)), labels)
    np.testing.assert_array_equal(np.isnan(values), [True, False, False, True])
    np.testing.assert_array_equal(np.isnan(gradient).all(axis=1), [True, False, False, True])


@pytest.mark.parametrize("loss", [losses.softmax_cross_entropy, losses.sigmoid_cross_entropy])
def test_negative_probabilities_give_nan(loss):
    logits, targets = jnp.zeros(2), jnp.array([0.5, -0.1])
    value, gradient = jax.jit(jax.value_and_grad(lambda logits: loss(logits, targets).sum()))(logits)
    assert np.isnan(value)
    assert np.isnan(gradient[1])


def test_probabilities_above_1_give_nan():
    values = losses.sigmoid_cross_entropy(jnp.zeros(3), jnp.array([0.0, 1.0, 1.1]))
    np.testing.assert_array_equal(np.isnan(values), [False, False, True])


def test_labels_of_few_bits_name_the_same_classes():
    logits, labels = jnp.asarray(RNG.normal(size=(3, 300)), jnp.float32), np.array([0, 44, 250])
    values = losses.softmax_cross_entropy(logits, jnp.array(labels, jnp.uint8))
    np.testing.assert_array_equal(values, losses.softmax_cross_entropy(logits, jnp.array(labels)))


def test_nothing_wraps_around_and_lists_are_arrays(as_users_see_it):
    assert losses.squared_error([[100, 1]], jnp.array([[-100, 1]], jnp.int8)) == 40_000
    values = losses.softmax_cross_entropy([[0, 1], [0, 1]], np.array([2**32, 0]))
    np.testing.assert_allclose(values, [np.nan, np.log1p(np.e)], rtol=1e-6)


def test_gradients_with_respect_to_targets_of_0_and_1(x64):
    logits, targets = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 1.0, 0.0])
    slopes = jax.jit(jax.grad(losses.softmax_cross_entropy, argnums=1))(logits, targets)
    np.testing.assert_allclose(slopes, -scipy.special.log_softmax(logits), atol=1e-12)
    slopes = jax.jit(jax.vmap(jax.grad(losses.sigmoid_cross_entropy, argnums=1)))(logits, targets)
    np.testing.assert_allclose(slopes, -logits, atol=1e-12)


def test_cross_entropy_has_a_gradient_where_both_are_0():
    certain = jnp.array([1.0, 0.0])
    gradient = jax.jit(jax.grad(lambda z: losses.cross_entropy(certain, jax.nn.softmax(z))))(np.array([200.0, 0.0]))
    np.testing.assert_array_equal(gradient, [0, 0])


def test_sigmoid_cross_entropy_is_optaxs_and_stable(x64):
    logits, targets = jnp.asarray(LOGITS[:, 0]), jnp.asarray(RNG.uniform(size=6))
    ours = losses.sigmoid_cross_entropy(logits, targets)
    np.testing.assert_allclose(ours, optax.sigmoid_binary_cross_entropy(logits, targets), atol=1e-12)
    extreme = losses.sigmoid_cross_entropy(
        jnp.array([1e3, 1e3, -1e3, -1e3, jnp.inf]), jnp.array([1.0, 0.0, 1.0, 0.0, 1.0])
    )
    np.testing.assert_array_equal(extreme, [0, 1e3, 1e3, 0, 0])
    gradient = jax.jit(jax.grad(lambda z: losses.sigmoid_cross_entropy(z, targets).sum()))(logits)
    np.testing.assert_allclose(gradient, scipy.special.expit(LOGITS[:, 0]) - np.asarray(targets), atol=1e-12)


@pytest.mark.parametrize("base", [None, 2])
def test_information_is_scipys(x64, base):
    np.testing.assert_allclose(
        losses.entropy(jnp.asarray(P), base=base), scipy.stats.entropy(P, base=base, axis=1), atol=1e-12
    )
    divergence = losses.kl_divergence(jnp.asarray(P), jnp.asarray(Q), base=base)
    np.testing.assert_allclose(divergence, scipy.stats.entropy(P, Q, base=base, axis=1), atol=1e-12)
    cross = losses.cross_entropy(jnp.asarray(P), jnp.asarray(Q), base=base)
    np.testing.assert_allclose(cross, divergence + losses.entropy(jnp.asarray(P), base=base), atol=1e-12)
    assert (divergence > 0).all()


def test_information_at_the_limits():
    certain, fair = jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])
    assert losses.entropy(certain) == 0
    assert losses.entropy(fair, base=2) == 1
    assert losses.kl_divergence(certain, certain) == 0
    assert losses.kl_divergence(fair, certain) == losses.cross_entropy(fair, certain) == jnp.inf
    np.testing.assert_allclose(losses.kl_divergence(certain, fair), np.log(2), rtol=1e-6)
    zero = jnp.zeros(2)
    assert losses.kl_divergence(zero, zero) == 0
    slopes = jax.grad(losses.kl_divergence, argnums=(0, 1))(jnp.array([0.5, 0.5, 0, 0]), jnp.array([1.0, 0, 0, 0.5]))
    np.testing.assert_allclose(slopes, [[np.log(0.5) + 1, np.inf, 0, 0], [-0.5, -np.inf, 0, 0]], rtol=1e-6)
    negative = jnp.array([-0.5, 1.5])
    assert jnp.isnan(losses.entropy(negative))
    for measure in (losses.kl_divergence, losses.cross_entropy):
        assert jnp.isnan(measure(negative, fair))
        assert jnp.isnan(measure(fair, negative))


def test_penalties_count_weights_and_leave_biases_free():
    params = [{"weight": jnp.array([[1.0, -2.0]]), "bias": jnp.array([5.0])}, {"weight": jnp.array([[3.0]])}]
    assert losses.l1_penalty(params) == 6
    assert losses.l2_penalty(params) == 14
    gradient = jax.jit(jax.grad(losses.l2_penalty))(params)
    np.testing.assert_array_equal(gradient[0]["weight"], [[2, -4]])
    np.testing.assert_array_equal(gradient[0]["bias"], [0])
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    assert losses.l1_penalty(half).dtype == losses.l2_penalty(half).dtype == jnp.bfloat16
    assert losses.l2_penalty({"bias": jnp.ones(3)}) == 0


def test_the_l1_penalty_leaves_weights_of_0_where_they_are():
    params = {"weight": jnp.array([[2.0, 0.0, -0.0, -3.0]])}
    np.testing.assert_array_equal(jax.grad(losses.l1_penalty)(params)["weight"], [[1, 0, 0, -1]])


def test_the_weights_of_many_nets_are_those_of_one():
    layers = [flax.linen.Embed(5, 4), flax.linen.DenseGeneral((2, 3)), flax.linen.GroupNorm(1)]
    params = jax.eval_shape(flax.linen.Sequential(layers).init, jax.random.key(0), jnp.zeros((2, 3), int))
    for seeds in ((), (7,)):
        tree = jax.tree.map(lambda leaf, seeds=seeds: jnp.zeros(seeds + leaf.shape), params)
        free = [path[-1].key for path, leaf in jax.tree.leaves_with_path(tree) if not losses.is_weight(path, leaf)]
        assert free == ["bias", "bias", "scale"]


def test_gradients_and_transformations(x64):
    arguments, unravel = ravel_pytree((LOGITS, LOGITS[::-1], P + 0.1, Q + 0.1))

    def all_losses(flat):
        logits, targets, p, q = unravel(flat)
        return jnp.concatenate(
            [
                losses.squared_error(logits, targets),
                losses.softmax_cross_entropy(logits, jnp.asarray(LABELS)),
                losses.sigmoid_cross_entropy(logits[:, 0], jnp.full(6, 0.3)),
                losses.entropy(p),
                losses.kl_divergence(p, q),
                losses.cross_entropy(p, q),
            ]
        )

    check_grads(jax.jit(all_losses), (arguments,), order=2, modes=("fwd", "rev"))
    np.testing.assert_allclose(jax.jit(all_losses)(arguments), all_losses(arguments), atol=1e-14)


REFUSED = [
    (losses.squared_error, ((5, 1), (5,)), r"\(5, 1\) and targets of shape \(5,\)"),
    (losses.sigmoid_cross_entropy, ((5, 1), (5,)), r"\(5, 1\) and targets of shape \(5,\)"),
    (losses.softmax_cross_entropy, ((5, 3), (5, 4)), r"\(5, 3\) and targets of shape \(5, 4\)"),
    (losses.kl_divergence, ((2, 3), (3,)), r"\(2, 3\) and q of shape \(3,\)"),
    (losses.cross_entropy, ((2, 3), (3,)), r"\(2, 3\) and q of shape \(3,\)"),
]


@pytest.mark.parametrize(("loss", "shapes", "message"), REFUSED)
def test_refuses_other_shapes(as_users_see_it, loss, shapes, message):
    with pytest.raises(ValueError, match=message):
        loss(*(jnp.ones(shape) for shape in shapes))


def test_refuses_labels_of_another_shape(as_users_see_it):
    with pytest.raises(ValueError, match=r"need integer labels of shape \(5,\), not \(5, 1\)"):
        losses.softmax_cross_entropy(jnp.ones((5, 3)), jnp.ones((5, 1), int))
