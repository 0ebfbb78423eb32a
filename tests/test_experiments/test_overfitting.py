import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import load, overfitting
from jaxnn import layers, models
from jaxnn.types import Batch

ARGUMENTS = "--regularizers", "early_stopping", "--epochs", 35  # beside nothing, always


@pytest.fixture(scope="module")
def toy(toy_run):
    return toy_run("overfitting", *ARGUMENTS)


def test_nets_fit_their_own_digits_better_than_others(toy):
    assert toy.summary["nothing_gap"] == pytest.approx(0.25, abs=0.1)


@pytest.mark.full
def test_resumes_bit_for_bit(toy, resumes_bit_for_bit):
    resumes_bit_for_bit("overfitting", toy)


def test_nets_stop_early_and_have_learned_until_then_as_without(toy):
    """Few digits are soon learned by heart; then the loss on others rises."""
    rows = {name: [row for row in toy.rows if row["regularizer"] == name] for name in ("nothing", "early_stopping")}
    for seed in (3, 4):
        without, stopping = ([row["validation_loss"] for row in rows[name] if row["seed"] == seed] for name in rows)
        last = int(np.argmin(without)) + overfitting.PATIENCE
        assert 1 <= last < len(without) - 1
        assert stopping == [*without[: last + 1], *[None] * (len(without) - last - 1)]
    assert toy.summary["early_stopping_test_loss"] < toy.summary["nothing_test_loss"]


def test_the_best_that_a_net_has_had_can_be_loaded(toy):
    nets = load(toy.folder, "early_stopping").nets
    losses = [
        [row["validation_loss"] for row in toy.rows if row["regularizer"] == "early_stopping"][net::2] for net in (0, 1)
    ]
    best = [min(loss for loss in column if loss is not None) for column in losses]
    np.testing.assert_allclose(-nets.score, best, rtol=1e-6)
    assert (nets.step < nets.train_state.step).all()


def test_compares_seed_by_seed():
    def ends(train_accuracies, test_losses, test_accuracies):
        return {
            "train_accuracy": np.array(train_accuracies),
            "test_loss": np.array(test_losses),
            "test_accuracy": np.array(test_accuracies),
        }

    nothing = ends([1.0, 1.0], [0.5, 0.7], [0.8, 0.9])
    summary = overfitting.summarize({"nothing": nothing, "early_stopping": ends([0.9, 0.95], [0.3, 0.4], [0.85, 0.9])})
    assert summary["nothing_gap"] == pytest.approx(0.15)
    assert summary["early_stopping_gap"] == pytest.approx(0.05)
    assert summary["early_stopping_gain"] == pytest.approx(0.025)
    assert summary["early_stopping_gain_sd"] == pytest.approx(0.05 / 2**0.5)
    assert summary["early_stopping_test_loss"] == pytest.approx(0.35)
    assert summary["nothing_test_accuracy_sd"] == pytest.approx(0.1 / 2**0.5)


def test_the_loss_uses_no_key_twice():
    images = jnp.zeros((4, 28, 28, 1), jnp.uint8)
    model = models.preprocess(layers.flatten_pixels, models.mlp([8], 10, dropout=0.5))
    params, _ = model.init(jax.random.key(0), images)
    loss_fn = overfitting.make_loss(model, max_shift=2, max_rotation=15.0)
    with jax.debug_key_reuse(True):
        losses, _ = jax.jit(loss_fn)(params, {}, Batch(images, jnp.arange(4)), jax.random.key(1))
    assert jnp.isfinite(losses).all()
