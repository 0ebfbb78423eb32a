import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import vanishing_gradients
from jaxnn.lab.datasets import Splits
from jaxnn.types import Batch


@pytest.fixture(scope="module")
def toy(toy_run):
    return toy_run("vanishing_gradients")


def test_a_fitting_initialisation_keeps_the_signal(toy):
    assert toy.summary["he_signal_ratio"] == pytest.approx(1, abs=0.1)
    assert toy.summary["glorot_signal_ratio"] == pytest.approx(1, abs=0.1)


def test_batch_normalisation_is_compared_seed_by_seed(toy):
    without, with_norm = (
        [
            row["validation_accuracy"]
            for row in toy.rows
            if (row["activation"], row["initialisation"], row["batch_norm"]) == ("logistic", "He", batch_norm)
        ]
        for batch_norm in (False, True)
    )
    gains = np.subtract(with_norm, without)
    assert toy.summary["logistic_he_batch_norm_gain"] == pytest.approx(gains.mean())
    assert toy.summary["logistic_he_batch_norm_gain_sd"] == pytest.approx(gains.std(ddof=1))


@pytest.mark.full
def test_resumes_bit_for_bit(toy, resumes_bit_for_bit):
    resumes_bit_for_bit("vanishing_gradients", toy)


def test_chooses_on_one_half_of_the_images_and_reports_on_the_other():
    rng = np.random.default_rng(0)
    labels = np.arange(100) % 10
    digits = Batch(jnp.asarray(rng.integers(0, 256, (10, 28, 28, 1), np.uint8)[labels]), jnp.asarray(labels))
    other_half_is_wrong = digits._replace(targets=digits.targets.at[50:].add(1) % 10)
    data = Splits(digits, other_half_is_wrong, digits)
    config = vanishing_gradients.Config(num_steps=60)
    relu_he = jnp.array(vanishing_gradients.KINDS.index(("ReLU", "He")))
    train = jax.jit(functools.partial(vanishing_gradients.train_net, config, 2, False, data, relu_he))
    accuracies, gradients = train(0.01, jax.random.key(0))
    np.testing.assert_array_equal(accuracies, [1, 0])
    assert gradients.shape == (2,)
    assert (gradients > -45).all()
    accuracies, _ = train(1e30, jax.random.key(0))  # diverges
    np.testing.assert_array_equal(accuracies, [0, 0])
