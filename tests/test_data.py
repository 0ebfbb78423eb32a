import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
    second = data.batch_indices(KEY, 4, num_steps=4, **SIZES).ravel()
    expected = jax.random.permutation(jax.random.fold_in(KEY, 1), 23)[:20]
    np.testing.assert_array_equal(second, expected)


@pytest.mark.parametrize("batch_size", [0, -1, 24])
def test_refuses_a_batch_size_that_cannot_be(batch_size):
    with pytest.raises(ValueError, match=rf"1 \.\.\. 23 .*not {batch_size}"):
        data.batch_indices(KEY, 0, num_steps=1, num_examples=23, batch_size=batch_size)


def test_refuses_leaves_of_different_length():
    with pytest.raises(ValueError, match=r"equally many examples.*\[3, 4\]"):
        data.num_examples((jnp.ones(3), jnp.ones((4, 2))))
