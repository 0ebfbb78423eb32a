import jax.numpy as jnp
import numpy as np
import pytest

from experiments import load, weight_sharing
from jaxnn import metrics
from jaxnn.lab import datasets
from jaxnn.lab.datasets import Splits
from jaxnn.types import Batch


@pytest.fixture(scope="module")
def toy(toy_run):
    return toy_run("weight_sharing")


def test_layers_have_as_many_weights_and_connections_as_counted_by_hand(toy):
    expected = {
        "dense_num_weights": 785 * 12 * 12 * 8,
        "local_num_weights": 26 * 12 * 12 * 8,
        "convolution_num_weights": 26 * 8,
        "local_num_connections": 25 * 12 * 12 * 8,
        "convolution_num_connections": 25 * 12 * 12 * 8,
        "convolution_num_distinct": 25 * 8,
        "convolution_num_parameters": 26 * 8 + (6 * 6 * 8 + 1) * 10,
        "small_dense_num_parameters": 785 * 4 + 5 * 10,
    }
    assert {name: toy.summary[name] for name in expected} == expected


def test_a_convolution_is_a_dense_layer_that_commutes_with_shifts(toy):
    assert toy.summary["convolution_matrix_error"] == pytest.approx(0, abs=1e-5)
    assert toy.summary["local_matrix_error"] == pytest.approx(0, abs=1e-5)
    assert toy.summary["convolution_shift_error"] == pytest.approx(0, abs=1e-6)


def test_nets_are_compared_seed_by_seed(toy):
    accuracies = {
        name: np.array([row["test_accuracies_by_shift"][2] for row in toy.rows if row["net"] == name])
        for name in ("convolution", "local")
    }
    gains = accuracies["convolution"] - accuracies["local"]
    assert toy.summary["local_test_accuracy_shifted_2"] == pytest.approx(accuracies["local"].mean())
    assert toy.summary["convolution_minus_local_test_accuracy_shifted_2"] == pytest.approx(gains.mean())
    assert toy.summary["convolution_minus_local_test_accuracy_shifted_2_sd"] == pytest.approx(gains.std(ddof=1))


def test_the_nets_of_a_kind_can_be_loaded(toy):
    _, model, _, _, net, _ = load(toy.folder, "local", seed=4)
    images, labels = (jnp.asarray(leaf[:400]) for leaf in datasets.mnist().test)
    row = next(row for row in toy.rows if (row["net"], row["seed"]) == ("local", 4))
    logits, _ = model.apply(net.params, net.state, images)
    assert metrics.accuracy(logits, labels) == pytest.approx(row["test_accuracies_by_shift"][0], abs=2e-3)


@pytest.mark.full
def test_resumes_bit_for_bit(toy, resumes_bit_for_bit):
    resumes_bit_for_bit("weight_sharing", toy)


def test_images_that_lie_too_far_left_are_read_when_moved_to_the_right():
    rng = np.random.default_rng(0)
    labels = jnp.arange(50) % 10
    images = (
        jnp.zeros((50, 28, 28, 1), jnp.uint8)
        .at[:, :, 4:24]
        .set(rng.integers(0, 256, (10, 28, 20, 1), np.uint8)[labels])
    )
    digits, left = Batch(images, labels), Batch(jnp.roll(images, -2, axis=2), labels)
    config = weight_sharing.Config(num_steps=40, num_seeds=1)
    _, accuracies = weight_sharing.train_and_test(config, "dense", 50, Splits(digits, digits, left))
    assert accuracies[0, 2] == 1
    assert accuracies[0, 0] < 1
