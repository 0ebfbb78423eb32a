import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnn import data

KEY = jax.random.key(0)
SIZES = {"num_examples": 23, "batch_size": 5}  # 4 steps an epoch, 3 examples left over


def test_an_epoch_takes_every_example_at_most_once():
    epochs = data.batch_indices(KEY, 0, num_steps=12, **SIZES).reshape(3, 20)
    for epoch in epochs:
        assert len(np.unique(epoch)) == 20
    assert len(np.unique(epochs, axis=0)) == 3
    whole = data.batch_indices(KEY, 0, num_steps=4, num_examples=20, batch_size=5)
    np.testing.assert_array_equal(np.sort(whole.ravel()), np.arange(20))


@pytest.mark.parametrize("cut", range(1, 13))
def test_a_step_takes_the_same_examples_wherever_the_run_is_cut(cut):
    together = data.batch_indices(KEY, 0, num_steps=13, **SIZES)
    first = data.batch_indices(KEY, 0, num_steps=cut, **SIZES)
    rest = data.batch_indices(KEY, jnp.array(cut), num_steps=13 - cut, **SIZES)
    np.testing.assert_array_equal(together, jnp.concatenate([first, rest]))


def test_epochs_are_shuffled_by_the_key_of_their_number():
    second = data.batch_indices(KEY, 3, num_steps=3, num_examples=2000, batch_size=600).ravel()
    expected = jax.random.permutation(jax.random.fold_in(KEY, 1), 2000)[:1800]
    np.testing.assert_array_equal(second, expected)


def test_every_order_of_few_examples_is_equally_likely():
    keys = jax.random.split(KEY, 24_000)
    one_epoch = functools.partial(data.batch_indices, step=0, num_steps=4, num_examples=4, batch_size=1)
    orders = np.asarray(jax.vmap(one_epoch)(keys)).reshape(-1, 4)
    found, counts = np.unique(orders, axis=0, return_counts=True)
    assert sorted(map(tuple, found)) == list(itertools.permutations(range(4)))
    assert stats.chisquare(counts).pvalue > 1e-3


def test_without_shuffling_the_examples_come_as_they_stand():
    batches = data.batch_indices(KEY, jnp.array(3), num_steps=7, **SIZES, shuffle=False)
    np.testing.assert_array_equal(batches.ravel(), np.arange(15, 50) % 23)
    late = data.batch_indices(KEY, jnp.array(2**31 - 20), num_steps=1, **SIZES, shuffle=False)
    np.testing.assert_array_equal(late[0], ((2**31 - 20) * 5 + np.arange(5)) % 23)


def test_a_batch_of_all_examples_is_not_shuffled():
    batches = data.batch_indices(KEY, 5, num_steps=2, num_examples=7, batch_size=7)
    np.testing.assert_array_equal(batches, [np.arange(7)] * 2)


@pytest.mark.parametrize("batch_size", [0, -1, 24])
def test_refuses_a_batch_size_that_cannot_be(batch_size):
    with pytest.raises(ValueError, match=rf"1 \.\.\. 23 .*not {batch_size}"):
        data.batch_indices(KEY, 0, num_steps=1, num_examples=23, batch_size=batch_size)


def test_refuses_leaves_of_different_length():
    with pytest.raises(ValueError, match=r"equally many examples.*\[3, 4\]"):
        data.num_examples((jnp.ones(3), jnp.ones((4, 2))))
