import itertools

import jax
import numpy as np
import pytest

from jaxnn.lab.splits import split
from jaxnn.types import Batch

LABELS = np.repeat([0, 1, 2], [3, 20, 57]).astype(np.int32)
EXAMPLES = Batch({"number": np.arange(80), "pixels": np.arange(160, dtype=np.uint8).reshape(80, 2)}, LABELS)

NUMBERS = np.arange(30)


def numbers(splits):
    return [part.inputs["number"].tolist() for part in splits]


def test_each_class_is_in_each_part_by_its_share():
    splits = split(EXAMPLES)
    assert [np.bincount(part.targets).tolist() for part in splits] == [[1, 16, 45], [1, 2, 6], [1, 2, 6]]
    assert sorted(itertools.chain(*numbers(splits))) == list(range(80))
    for part in splits:  # each leaf keeps its dtype, and the examples stay whole
        np.testing.assert_array_equal(part.targets, LABELS[part.inputs["number"]])
        np.testing.assert_array_equal(part.inputs["pixels"], EXAMPLES.inputs["pixels"][part.inputs["number"]])
        assert (part.targets.dtype, part.inputs["pixels"].dtype) == (np.int32, np.uint8)
    assert numbers(splits)[0] != sorted(numbers(splits)[0])


def test_the_key_draws_the_parts():
    assert numbers(split(EXAMPLES)) == numbers(split(EXAMPLES, jax.random.key(0)))
    assert set(numbers(split(EXAMPLES))[2]) != set(numbers(split(EXAMPLES, jax.random.key(1)))[2])


def test_targets_that_are_numbers_are_split_as_they_come():
    examples = Batch(np.arange(30.0), np.arange(30.0)[:, None])
    order = np.asarray(jax.random.permutation(jax.random.key(2), 30))
    train, validation, test = split(examples, jax.random.key(2), share=0.2)
    np.testing.assert_array_equal(validation.inputs, order[:6])
    np.testing.assert_array_equal(test.inputs, order[6:12])
    np.testing.assert_array_equal(train.targets[:, 0], order[12:])


@pytest.mark.parametrize(
    "targets", [(NUMBERS, NUMBERS[:, None]), {"label": NUMBERS, "box": np.ones((30, 4))}, {"label": NUMBERS}]
)
def test_targets_of_several_arrays_lose_no_example(targets):
    splits = split(Batch(NUMBERS, targets))
    assert [len(part.inputs) for part in splits] == [24, 3, 3]
    assert sorted(np.concatenate([part.inputs for part in splits])) == list(range(30))
    for part in splits:
        expected = jax.tree.map(lambda leaf, rows=part.inputs: leaf[rows], targets)
        jax.tree.map(np.testing.assert_array_equal, part.targets, expected)


@pytest.mark.parametrize(
    ("examples", "share", "message"),
    [
        (Batch(np.zeros(5), np.array([4, 4, 4, 7, 7])), 0.1, r"class 7 has 2 examples, .* three parts \(floats are"),
        (Batch(np.zeros(2), np.zeros(2)), 0.1, "the data set has 2 examples, too few for three parts$"),
        (Batch(np.zeros(4), np.zeros(4)), 0.49, "the data set has 4 examples, too few"),
        (Batch(np.zeros(4), np.zeros(5)), 0.1, r"equally many examples .*\[\(4,\), \(5,\)\]"),
        (Batch(np.zeros(4), (np.zeros(4), np.zeros(5))), 0.1, r"equally many examples .*\[\(4,\), \(5,\)\]"),
        (Batch(np.zeros(0), np.zeros(0, int)), 0.1, "at least one"),
        (EXAMPLES, 0.5, "share must be between 0 and 0.5, so that examples are left to train on, not 0.5"),
        (EXAMPLES, 0.0, "not 0.0"),
    ],
)
def test_refuses(examples, share, message):
    with pytest.raises(ValueError, match=message):
        split(examples, share=share)
