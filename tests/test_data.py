import functools
import itertools
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn import preprocessing

from jaxnn import data

KEY = jax.random.key(0)
batch_indices = jax.jit(data.batch_indices, static_argnames=("num_steps", "num_examples", "batch_size", "shuffle"))
fit_standardizer = jax.jit(data.fit_standardizer)
SIZES = {"num_examples": 23, "batch_size": 5}  # 4 steps an epoch, 3 examples left over


def test_an_epoch_takes_every_example_at_most_once():
    epochs = np.asarray(batch_indices(KEY, 0, num_steps=25, **SIZES))[:24].reshape(6, 20)
    for epoch in epochs:
        assert len(np.unique(epoch)) == 20
    assert len(np.unique(epochs, axis=0)) == 6
    whole = batch_indices(KEY, 0, num_steps=4, num_examples=20, batch_size=5)
    np.testing.assert_array_equal(np.sort(np.ravel(whole)), np.arange(20))


@pytest.mark.parametrize("num_steps", [1, 6, 13])
def test_a_step_takes_the_same_examples_wherever_the_run_is_cut(num_steps):
    together = np.asarray(batch_indices(KEY, 0, num_steps=25, **SIZES))
    from_step = jax.vmap(lambda step: batch_indices(KEY, step, num_steps=num_steps, **SIZES))
    for start, chunk in enumerate(from_step(np.arange(13))):
        np.testing.assert_array_equal(chunk, together[start : start + num_steps])


def test_epochs_are_shuffled_by_the_key_of_their_number():
    second = batch_indices(KEY, 3, num_steps=3, num_examples=2000, batch_size=600)
    expected = data.permutation(jax.random.fold_in(KEY, 1), 2000)[:1800]
    np.testing.assert_array_equal(np.ravel(second), expected)


@pytest.mark.parametrize("num_examples", [1, 2, 3, 100, 65_536, 65_537])
def test_a_permutation_has_every_number_once_in_an_order_of_its_key(num_examples):
    orders = [data.permutation(jax.random.key(seed), num_examples) for seed in (0, 1)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(num_examples))
    if num_examples >= 100:
        assert abs(np.corrcoef(*orders)[0, 1]) < 4 / np.sqrt(num_examples)


def test_every_order_of_few_examples_is_equally_likely():
    keys = jax.random.split(KEY, 24_000)
    one_epoch = functools.partial(data.batch_indices, step=0, num_steps=4, num_examples=4, batch_size=1)
    orders = np.asarray(jax.jit(jax.vmap(one_epoch))(keys)).reshape(-1, 4)
    found, counts = np.unique(orders, axis=0, return_counts=True)
    assert sorted(map(tuple, found)) == list(itertools.permutations(range(4)))
    assert stats.chisquare(counts).pvalue > 1e-3


def test_without_shuffling_the_examples_come_as_they_stand():
    batches = batch_indices(KEY, 3, num_steps=7, **SIZES, shuffle=False)
    np.testing.assert_array_equal(np.ravel(batches), np.arange(15, 50) % 23)


@pytest.mark.parametrize(("num_examples", "batch_size"), [(23, 5), (1_281_167, 2048), (60_000, 59_999)])
def test_without_shuffling_late_steps_are_right_too(num_examples, batch_size):
    for step in (1_281_166, 2**31 - 20):
        late = batch_indices(KEY, step, num_steps=1, num_examples=num_examples, batch_size=batch_size, shuffle=False)
        np.testing.assert_array_equal(late[0], (step * batch_size + np.arange(batch_size)) % num_examples)


@pytest.mark.parametrize(("num_examples", "num_folds"), [(20, 5), (23, 5), (7, 7), (2, 2)])
def test_folds_hold_every_example_out_once(num_examples, num_folds):
    draw = jax.jit(functools.partial(data.fold_masks, num_examples=num_examples, num_folds=num_folds))
    masks, others = np.asarray(draw(KEY)), np.asarray(draw(jax.random.key(1)))
    np.testing.assert_array_equal(masks.sum(axis=0), 1)
    sizes = masks.sum(axis=1)
    assert sizes.max() - sizes.min() <= 1
    assert num_examples == 2 or (masks != others).any()


def test_standardizing_is_scikit_learns(x64):
    inputs = np.random.default_rng(0).normal(3, [1.0, 100.0, 1e-3], (30, 3))
    standardizer = data.fit_standardizer(inputs)
    scaler = preprocessing.StandardScaler().fit(inputs)
    new = inputs[:5] + 1
    np.testing.assert_allclose(data.standardize(standardizer, new), scaler.transform(new), atol=1e-9)


def test_standardizing_by_some_rows_sees_no_other(x64):
    inputs = np.random.default_rng(0).normal(size=(30, 2))
    mask = np.arange(30) < 20
    ours, alone = fit_standardizer(inputs, mask), fit_standardizer(inputs[:20])
    jax.tree.map(lambda left, right: np.testing.assert_allclose(left, right, atol=1e-14), ours, alone)
    other = np.where(mask[:, None], inputs, 1e6)
    jax.tree.map(np.testing.assert_array_equal, ours, fit_standardizer(other, mask))
    unknown = np.where(mask[:, None], inputs, np.nan)
    jax.tree.map(np.testing.assert_array_equal, ours, fit_standardizer(unknown, mask))


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_standardizing_does_not_depend_on_the_unit(unit):
    inputs = np.random.default_rng(0).normal(3, 1, (30, 2)).astype(np.float32)
    plain, scaled = (data.standardize(fit_standardizer(x), x) for x in (inputs, inputs * np.float32(unit)))
    np.testing.assert_allclose(scaled, plain, atol=1e-5)


def test_standardizing_leaves_constant_columns_finite():
    inputs = jnp.full((7, 2), 0.1)
    standardizer = fit_standardizer(inputs)
    np.testing.assert_array_equal(standardizer.sd, 1)
    np.testing.assert_allclose(data.standardize(standardizer, inputs), 0, atol=1e-7)


@pytest.mark.parametrize(("mean", "sd"), [(1e4, 0.01), (-1e4, 0.01), (3.0, 1e-3)])
def test_standardizing_in_float32_loses_no_digits_of_its_inputs(mean, sd):
    inputs = np.random.default_rng(0).normal(mean, sd, (1000, 1)).astype(np.float32)
    standardizer = fit_standardizer(inputs)
    np.testing.assert_allclose(standardizer.mean, inputs.mean(axis=0, dtype=float), rtol=1e-7)
    np.testing.assert_allclose(standardizer.sd, inputs.std(axis=0, dtype=float), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_integers_that_stay_as_they_are_are_not_copied_to_be_checked(dtype):
    pixels = np.zeros(10**6, dtype)
    tracemalloc.start()
    data.refuse_rounding("fit", pixels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10**5


INPUTS = np.arange(12, dtype=np.float32).reshape(6, 2)


def refuse_indices(**sizes):
    data.batch_indices(KEY, 0, **{"num_steps": 1, "num_examples": 23, "batch_size": 5} | sizes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *(
            (lambda size=size: refuse_indices(batch_size=size), rf"batch_size .* 23 .*1 \.\.\. 23, not {size}$")
            for size in (0, -1, 24, 5.0, True)
        ),
        (lambda: refuse_indices(num_steps=-1), "num_steps must be an integer of 0 or more, not -1"),
        (lambda: refuse_indices(num_examples=0), "num_examples must be an integer of 1 or more, not 0"),
        *(
            (
                lambda number=number: data.fold_masks(KEY, num_examples=23, num_folds=number),
                rf"num_folds .* 23 .*2 \.\.\. 23, not {number}$",
            )
            for number in (1, 24, 2.5)
        ),
        (lambda: data.fold_masks(KEY, num_examples=6.5, num_folds=2), "num_examples .* of 2 or more, not 6.5"),
        (lambda: data.num_examples((np.ones(3), np.ones((4, 2)))), r"equally many examples.*\[\(3,\), \(4, 2\)\]"),
        (lambda: data.num_examples((np.ones(3), 2.0)), r"equally many examples.*\[\(\), \(3,\)\]"),
        (lambda: data.num_examples(np.ones((0, 3))), "at least one"),
        (lambda: data.fit_standardizer(INPUTS, np.array([True])), r"a mask with a bool for each, .*mask bool\[1\]"),
        (lambda: data.fit_standardizer(INPUTS, np.ones(6, int)), r"a bool for each, .*mask int32\[6\]"),
        (lambda: data.fit_standardizer(INPUTS[:0]), r"at least one example.*\[0,2\]"),
        (lambda: data.fit_standardizer(INPUTS[0]), r"floats \[examples, features\], not float32\[2\]"),
        (lambda: data.fit_standardizer(INPUTS.astype(int)), "must be floats .*, not int32"),
        (lambda: data.fit_standardizer(INPUTS + np.float64([1e8])), "fit_standardizer: float64 would be rounded"),
        (lambda: data.refuse_rounding("fit", np.array(["a", "b"])), r"fit: .*'a'.* is no number: .*np\.unique"),
        (lambda: data.standardize(data.fit_standardizer(INPUTS), INPUTS[:, :1]), "fitted on 2 features.*not 1"),
        (lambda: data.standardize(data.fit_standardizer(INPUTS), INPUTS.astype(float)), "standardize: float64 would"),
        (lambda: data.standardize(data.Standardizer(np.zeros(2), np.ones(2)), INPUTS), "standardize: float64 would"),
    ],
)
def test_refuses(as_users_see_it, call, message):
    with pytest.raises(ValueError, match=message):
        call()
