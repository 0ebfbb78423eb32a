import sys

import numpy as np
import pytest

from jaxnn.lab import datasets


def test_mnist_is_mnist():
    splits = datasets.mnist()
    assert [batch.inputs.shape for batch in splits] == [(55_000, 28, 28, 1), (5_000, 28, 28, 1), (10_000, 28, 28, 1)]
    assert {batch.inputs.dtype for batch in splits} == {np.dtype(np.uint8)}
    assert {batch.targets.dtype for batch in splits} == {np.dtype(np.int32)}
    np.testing.assert_array_equal(splits.train.targets[:5], [5, 0, 4, 1, 9])
    counts = np.bincount(np.concatenate([splits.train.targets, splits.validation.targets]))
    np.testing.assert_array_equal(counts, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])


def test_fashion_mnist_is_fashion_mnist(pytestconfig, monkeypatch):
    """Where array_record has no wheels, without TFDS; it is kept between runs of the tests."""
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
    folder = pytestconfig.cache.mkdir("data")
    splits = datasets.fashion_mnist(folder)
    assert [batch.inputs.shape for batch in splits] == [(55_000, 28, 28, 1), (5_000, 28, 28, 1), (10_000, 28, 28, 1)]
    assert [datasets.CLASS_NAMES["fashion_mnist"][label] for label in splits.train.targets[:2]] == [
        "ankle boot",
        "T-shirt",
    ]
    np.testing.assert_array_equal(np.bincount(splits.test.targets), [1000] * 10)
    sizes = {"mnist": 10, "fashion_mnist": 10, "iris": 3, "breast_cancer": 2}
    assert {name: len(names) for name, names in datasets.CLASS_NAMES.items()} == sizes
    assert not (folder / "fashion_mnist").exists()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_validation": -1}, r"num_validation must be in 0 \.\.\. 59999, not -1"),
        ({"num_validation": 60_000}, r"num_validation must be in 0 \.\.\. 59999, not 60000"),
        ({"num_train": 0}, r"num_train must be in 1 \.\.\. 55000, not 0"),
        ({"num_train": 50_001, "num_validation": 10_000}, r"num_train must be in 1 \.\.\. 50000, not 50001"),
    ],
)
def test_refuses_parts_that_cannot_be(monkeypatch, sizes, message):
    with pytest.raises(ValueError, match=f"mnist: {message}"):
        datasets.mnist(**sizes)


def test_small_sets_of_scikit_learn():
    digits, iris, cancer = datasets.digits(), datasets.iris(), datasets.breast_cancer()
    assert digits.inputs.shape == (1797, 8, 8, 1)
    assert (digits.inputs.dtype, digits.inputs.max()) == (np.uint8, 16)
    assert (iris.inputs.shape, iris.inputs.dtype, cancer.inputs.shape) == ((150, 4), np.float64, (569, 30))
    np.testing.assert_array_equal(np.bincount(iris.targets), [50, 50, 50])
    np.testing.assert_array_equal(np.bincount(cancer.targets), [212, 357])
    assert {batch.targets.dtype for batch in (digits, iris, cancer)} == {np.dtype(np.int32)}
