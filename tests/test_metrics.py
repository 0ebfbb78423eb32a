import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from jaxnn import metrics

RNG = np.random.default_rng(0)
LABELS, LOGITS = RNG.integers(0, 4, 50), RNG.normal(size=(50, 4)).astype(np.float32)


def test_accuracy_is_scikit_learns():
    expected = sklearn.metrics.accuracy_score(LABELS, LOGITS.argmax(1))
    np.testing.assert_allclose(metrics.accuracy(LOGITS, LABELS), expected, rtol=1e-6)
    assert metrics.accuracy(jnp.zeros((2, 3)), jnp.array([0, 1])) == 0.5  # of equal logits the first counts
    assert metrics.accuracy(jnp.array([[2.0], [-1.0], [0.5], [0.0]]), jnp.array([1, 0, 0, 0])) == 0.75


def test_accuracy_hides_no_nan_and_wraps_no_label():
    for logits in ([[np.nan, 1], [0, 1]], [[np.nan], [1]]):
        assert jnp.isnan(metrics.accuracy(jnp.array(logits, jnp.float32), jnp.array([0, 1])))
    for wrong in (-1, LOGITS.shape[1], 2**32):
        assert jnp.isnan(jax.jit(lambda x, wrong=wrong: metrics.accuracy(x, np.array([0, wrong])))(LOGITS[:2]))
    assert jnp.isnan(metrics.accuracy(jnp.array([[1.0], [-1]]), np.array([1, 2])))


def test_accuracy_is_float32_or_wider(x64):
    for dtype, expected in ((jnp.bfloat16, jnp.float32), (jnp.float32, jnp.float32), (jnp.float64, jnp.float64)):
        assert metrics.accuracy(jnp.zeros((3, 2), dtype), jnp.array([0, 1, 1])).dtype == expected


def test_metrics_take_lists_bools_and_small_integers(as_users_see_it):
    assert metrics.accuracy([[0.0, 1.0], [2.0, 1.0]], [1, 1]) == 0.5
    ours = metrics.confusion_matrix([False, True], np.array([True, False]), num_classes=2)
    np.testing.assert_array_equal(ours, [[0, 1], [1, 0]])
    scores = metrics.precision_recall_f1(jnp.full((2, 2), 100, jnp.int8))
    np.testing.assert_array_equal(scores, np.full((3, 2), 0.5))
    assert metrics.r2(np.array([[0], [200]], np.uint8), np.array([[10], [20]], np.uint8)) == -649


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_r2_is_the_same_in_all_units(scale):
    outputs, targets = np.array([[1], [2], [3]]), np.array([[1], [2.1], [3]])
    expected = sklearn.metrics.r2_score(targets, outputs)
    np.testing.assert_allclose(metrics.r2(*(np.float32(scale * x) for x in (outputs, targets))), expected, rtol=1e-5)


def test_r2_in_half_precision():
    outputs, targets = np.array([[300], [200], [100]]), np.array([[-300], [200], [100]])
    value = metrics.r2(np.float16(outputs), np.float16(targets))
    np.testing.assert_allclose(value, sklearn.metrics.r2_score(targets, outputs), rtol=1e-6)


def test_accuracies_are_those_of_each_net():
    logits = RNG.normal(size=(3, 50, 4)).astype(np.float32)
    expected = [metrics.accuracy(net, LABELS) for net in logits]
    np.testing.assert_array_equal(metrics.accuracies(logits, LABELS), expected)


def test_confusion_matrix_is_scikit_learns():
    predictions = LOGITS.argmax(1)
    ours = metrics.confusion_matrix(LABELS, predictions, num_classes=4)
    np.testing.assert_array_equal(ours, sklearn.metrics.confusion_matrix(LABELS, predictions))


def test_confusion_matrix_counts_nothing_outside_the_classes():
    ours = metrics.confusion_matrix(np.array([-1, 0, 4, 1]), np.array([0, -1, 1, 1]), num_classes=2)
    np.testing.assert_array_equal(ours, [[0, 0], [0, 1]])


def test_precision_recall_and_f1_are_scikit_learns():
    predictions = np.where(LOGITS.argmax(1) == 3, 0, LOGITS.argmax(1))  # class 3 is never predicted
    matrix = metrics.confusion_matrix(LABELS, predictions, num_classes=5)  # and class 4 is not there at all
    expected = sklearn.metrics.precision_recall_fscore_support(LABELS, predictions, labels=range(5), zero_division=0)
    for ours, theirs in zip(metrics.precision_recall_f1(matrix), expected, strict=False):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_r2_is_scikit_learns(x64):
    targets, outputs = RNG.normal(size=(30, 2)), RNG.normal(size=(30, 2))
    expected = sklearn.metrics.r2_score(targets[:, 0], outputs[:, 0])
    np.testing.assert_allclose(metrics.r2(outputs[:, :1], targets[:, :1]), expected, atol=1e-12)
    several = 1 - ((targets - outputs) ** 2).sum() / ((targets - targets.mean(axis=0)) ** 2).sum()
    np.testing.assert_allclose(metrics.r2(outputs, targets), several, atol=1e-12)
    assert metrics.r2(targets, targets) == 1
    constant = np.full((7, 1), 0.7)  # whose mean is not exactly 0.7
    assert jnp.isnan(metrics.r2(constant, constant))
    assert metrics.r2(constant + 1, constant) == -np.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.accuracy(jnp.eye(5), jnp.arange(5)[:, None]), r"need labels of shape \(5,\), not \(5, 1\)"),
        (
            lambda: metrics.confusion_matrix(jnp.zeros((5, 1), int), jnp.zeros(5, int), num_classes=2),
            r"\(5, 1\) and predictions of shape \(5,\)",
        ),
        (
            lambda: metrics.confusion_matrix(np.zeros(5), np.zeros(5, int), num_classes=2),
            "labels must be integers .*, not float64",
        ),
        (lambda: metrics.precision_recall_f1(jnp.zeros((2, 3), int)), r"confusion matrix .*not \(2, 3\)"),
        (lambda: metrics.r2(np.zeros((5, 1)), np.zeros((5, 1))), "r2: float64 would be rounded to float32"),
        (lambda: metrics.r2(jnp.zeros(3), jnp.zeros(3)), r"\[examples, outputs\] .*not \(3,\) and \(3,\)"),
        (lambda: metrics.r2(jnp.zeros((3, 1)), jnp.zeros((3, 2))), r"of one shape, not \(3, 1\) and \(3, 2\)"),
    ],
)
def test_refuses_other_shapes(as_users_see_it, call, message):
    with pytest.raises(ValueError, match=message):
        call()
