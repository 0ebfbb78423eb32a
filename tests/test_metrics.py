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


def test_confusion_matrix_is_scikit_learns():
    predictions = LOGITS.argmax(1)
    ours = metrics.confusion_matrix(LABELS, predictions, num_classes=4)
    np.testing.assert_array_equal(ours, sklearn.metrics.confusion_matrix(LABELS, predictions))


def test_confusion_matrix_counts_nothing_outside_the_classes():
    ours = metrics.confusion_matrix(np.array([-1, 0, 4, 1]), np.array([0, -1, 1, 1]), num_classes=2)
    np.testing.assert_array_equal(ours, [[0, 0], [0, 1]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.accuracy(jnp.eye(5), jnp.arange(5)[:, None]), r"need labels of shape \(5,\), not \(5, 1\)"),
        (
            lambda: metrics.confusion_matrix(jnp.zeros((5, 1), int), jnp.zeros(5, int), num_classes=2),
            r"\(5, 1\) and predictions of shape \(5,\)",
        ),
    ],
)
def test_refuses_other_shapes(as_users_see_it, call, message):
    with pytest.raises(ValueError, match=message):
        call()
