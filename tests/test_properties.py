"""What holds for all values: huge, tiny and infinite ones, of every precision, in every layout.

HYPOTHESIS_PROFILE=long tries a hundred times as many, and bfloat16 too.
"""

import os

import hypothesis
import hypothesis.extra.numpy as st_numpy
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from jaxnn import backprop, losses, metrics

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "short")
hypothesis.settings.register_profile("short", max_examples=10, deadline=None, derandomize=True)
hypothesis.settings.register_profile("long", max_examples=2000, deadline=None)
hypothesis.settings.load_profile(PROFILE)

DTYPES = [jnp.float16, jnp.float32] + [jnp.bfloat16] * (PROFILE == "long")
ROWS, CLASSES = 3, 4
SHAPE = ROWS, CLASSES
small, extreme = st.floats(-5, 5, width=16), st.sampled_from([0.0, -0.0, 1e4, -1e4, 1e30, -1e30, 1e-5])
values_of = st_numpy.arrays(np.float64, SHAPE, elements=small | extreme)
labels_of = st_numpy.arrays(np.int32, ROWS, elements=st.integers(0, CLASSES - 1))
masks_of = st_numpy.arrays(bool, SHAPE)
shares_of = st_numpy.arrays(np.float64, SHAPE, elements=st.sampled_from([0.0, 0.0, 1e-6]) | st.floats(0, 1, width=16))


def exact(array):
    """Its values, in NumPy's widest floats."""
    return np.asarray(array.astype(jnp.float32)).astype(np.longdouble)


def make(values, dtype):
    """Of a precision, and in its range."""
    largest = float(jnp.finfo(dtype).max) / 8
    return jnp.asarray(np.clip(values, -largest, largest), dtype)


def agree(dtype, actual, expected, *, scale=1.0):
    """Equal but for some roundings of numbers as large as `scale`."""
    limits = jnp.finfo(dtype)
    assert actual.dtype == dtype
    tolerance = {"rtol": 32 * float(limits.eps), "atol": 4 * float(limits.tiny) + 4 * float(limits.eps) * (scale - 1)}
    np.testing.assert_allclose(exact(actual).astype(float), np.asarray(expected, float), **tolerance)


def every_way(f, *args, atol=1e-37):
    """The values of f for all rows at once: as it stands, compiled, and mapped over the rows, which must agree."""
    values = f(*args)
    for other in (jax.jit(f)(*args), jax.vmap(f)(*args)):
        rtol = 32 * float(jnp.finfo(values.dtype).eps)
        np.testing.assert_allclose(exact(other), exact(values), rtol=rtol, atol=atol)
    return values


softmax_gradient = jax.jit(jax.grad(lambda z, targets: losses.softmax_cross_entropy(z, targets).sum()))
sigmoid_gradient = jax.jit(jax.grad(lambda z, targets: losses.sigmoid_cross_entropy(z, targets).sum()))


@pytest.mark.parametrize("dtype", DTYPES)
@hypothesis.given(values_of, labels_of, masks_of)
def test_softmax_cross_entropy(dtype, values, labels, masked):
    masked[np.arange(ROWS), labels] = False
    logits = jnp.where(masked, -jnp.inf, make(values, dtype))
    above = exact(logits) - exact(logits)[np.arange(ROWS), labels][:, None]
    largest = above.max(axis=1)
    terms = np.sort(np.exp(above - largest[:, None]))[:, :-1]  # without one that is 1
    expected = largest + np.log1p(terms.sum(axis=1))
    one_hot = np.eye(CLASSES)[labels]
    gradient = scipy.special.softmax(exact(logits).astype(float), axis=1) - one_hot
    for targets in (jnp.asarray(labels), jnp.asarray(one_hot, dtype)):
        agree(dtype, every_way(losses.softmax_cross_entropy, logits, targets), expected)
        agree(dtype, softmax_gradient(logits, targets), gradient, scale=4)
    agree(dtype, jax.jit(backprop.softmax_cross_entropy_gradient)(logits, jnp.asarray(labels)), gradient, scale=4)


@pytest.mark.parametrize("dtype", DTYPES)
@hypothesis.given(values_of, shares_of)
def test_sigmoid_cross_entropy(dtype, values, shares):
    logits, targets = make(values, dtype), make(shares, dtype)
    z, t = exact(logits), exact(targets)
    softplus = np.maximum(z, 0) + np.log1p(np.exp(-abs(z)))
    agree(dtype, every_way(losses.sigmoid_cross_entropy, logits, targets), t * (softplus - z) + (1 - t) * softplus)
    agree(dtype, sigmoid_gradient(logits, targets), scipy.special.expit(z.astype(float)) - t, scale=4)


@pytest.mark.parametrize("dtype", DTYPES)
@hypothesis.given(shares_of, shares_of)
def test_entropies(dtype, p, q):
    p, q = make(p, dtype), make(q, dtype)
    p64, q64 = exact(p).astype(float), exact(q).astype(float)
    entropy, kl = scipy.special.entr(p64).sum(axis=1), scipy.special.rel_entr(p64, q64).sum(axis=1)
    cross = np.where(p64 > 0, -scipy.special.xlogy(p64, np.where(q64 > 0, q64, 1)), 0).sum(axis=1)
    cross = np.where(((p64 > 0) & (q64 == 0)).any(axis=1), np.inf, cross)
    agree(dtype, every_way(losses.entropy, p), entropy, scale=5)
    agree(dtype, every_way(losses.cross_entropy, p, q), cross, scale=5)
    agree(dtype, every_way(losses.kl_divergence, p, q), kl, scale=50)


@pytest.mark.parametrize("dtype", DTYPES)
@hypothesis.given(values_of, values_of)
def test_squared_error(dtype, outputs, targets):
    outputs, targets = (make(np.clip(array, -30, 30), dtype) for array in (outputs, targets))
    expected = ((exact(outputs) - exact(targets)) ** 2).sum(axis=1)
    agree(dtype, every_way(losses.squared_error, outputs, targets), expected, scale=4)


@hypothesis.given(values_of, labels_of, labels_of)
def test_metrics(values, labels, predictions):
    logits = make(values, jnp.float32)
    assert metrics.accuracy(logits, labels) == np.float32(np.mean(np.argmax(exact(logits), axis=1) == labels))
    matrix = metrics.confusion_matrix(labels, predictions, num_classes=CLASSES)
    np.testing.assert_array_equal(matrix, sklearn.metrics.confusion_matrix(labels, predictions, labels=range(CLASSES)))
    expected = sklearn.metrics.precision_recall_fscore_support(
        labels, predictions, labels=range(CLASSES), zero_division=0
    )
    np.testing.assert_allclose(jnp.stack(metrics.precision_recall_f1(matrix)), expected[:3], rtol=1e-6)


ACTIVATIONS = {
    "identity": (backprop.IDENTITY, lambda v: v, lambda v: np.ones_like(v)),
    "logistic": (backprop.LOGISTIC, scipy.special.expit, lambda v: scipy.special.expit(v) * scipy.special.expit(-v)),
    "tanh": (backprop.TANH, np.tanh, lambda v: 1 - np.tanh(v) ** 2),
    "relu": (backprop.RELU, lambda v: np.maximum(v, 0), lambda v: (v > 0).astype(float)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
@hypothesis.given(values_of)
def test_activations(name, dtype, values):
    activation, f, derivative = ACTIVATIONS[name]
    v = make(values, dtype)
    agree(dtype, every_way(activation.f, v), f(exact(v).astype(float)), scale=2)
    derivatives = every_way(activation.derivative, v, atol=4 * float(jnp.finfo(dtype).eps))  # 1 - tanh²
    agree(dtype, derivatives, derivative(exact(v).astype(float)), scale=2)
    slopes = jax.vmap(jax.vmap(jax.grad(activation.f)))(v)
    agree(dtype, slopes, exact(derivatives), scale=2)


RNG = np.random.default_rng(0)
LOGITS, LABELS = RNG.normal(size=(6, 8)).astype(np.float32), RNG.integers(0, 4, 12)
P, Q = RNG.dirichlet(np.ones(8), (2, 6)).astype(np.float32)
CALLS = {  # of arrays of which every other column, and label, is taken
    "softmax_cross_entropy": (losses.softmax_cross_entropy, LOGITS, LABELS),
    "softmax_cross_entropy of distributions": (losses.softmax_cross_entropy, LOGITS, P),
    "sigmoid_cross_entropy": (losses.sigmoid_cross_entropy, LOGITS, P),
    "squared_error": (losses.squared_error, LOGITS, P),
    "entropy": (losses.entropy, P),
    "kl_divergence": (losses.kl_divergence, P, Q),
    "cross_entropy": (losses.cross_entropy, P, Q),
    "accuracy": (metrics.accuracy, LOGITS, LABELS),
    "confusion_matrix": (lambda *labels: metrics.confusion_matrix(*labels, num_classes=4), LABELS, LABELS[::-1]),
    "r2": (metrics.r2, LOGITS, P),
}


@pytest.mark.usefixtures("as_users_see_it")
@pytest.mark.parametrize("name", CALLS)
def test_layouts(name):
    f, *arrays = CALLS[name]
    strided = [array[..., ::2] for array in arrays]
    expected = np.asarray(f(*(jnp.asarray(np.ascontiguousarray(array)) for array in strided)))
    read_only = [array.copy() for array in strided]
    for array in read_only:
        array.flags.writeable = False
    for args in (strided, read_only, [np.asfortranarray(array) for array in strided]):
        before = [array.copy() for array in args]
        np.testing.assert_array_equal(f(*args), expected)
        for array, was in zip(args, before, strict=True):
            np.testing.assert_array_equal(array, was)
    np.testing.assert_array_equal(f(*(array.tolist() for array in strided)), expected)


@pytest.mark.parametrize("name", CALLS)
def test_batches_of_one_and_of_none(name):
    f, *arrays = CALLS[name]
    arrays = [jnp.asarray(array[..., ::2]) for array in arrays]
    whole = f(*arrays)
    for size in (0, 1):
        part = f(*(array[:size] for array in arrays))
        assert part.dtype == whole.dtype
        per_example = whole.shape[:1] == (6,)
        assert part.shape == ((size, *whole.shape[1:]) if per_example else whole.shape)
        if per_example:
            np.testing.assert_allclose(part, whole[:size], rtol=1e-6)
        elif name in ("accuracy", "r2") and size == 0:
            assert jnp.isnan(part)


@pytest.mark.usefixtures("as_users_see_it")
@pytest.mark.parametrize("f", [losses.softmax_cross_entropy, backprop.softmax_cross_entropy_gradient, metrics.accuracy])
def test_no_label_is_taken_for_another(f):
    logits = jnp.zeros((3, 4))
    for labels in ([0.0, 1.0, 2.0], [[0], [1], [2]], [0, 1], ["a", "b", "c"], [None] * 3):
        with pytest.raises((ValueError, TypeError)):
            f(logits, np.array(labels))
    assert jnp.isnan(f(logits, np.array([-1, 4, 2**32]))).all()
