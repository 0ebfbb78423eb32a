import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import optimizers
from jaxnn import training
from jaxnn.lab.datasets import Splits
from jaxnn.lab.run import Run, RunFailedError
from jaxnn.types import Batch


@pytest.fixture(scope="module")
def toy(toy_run):
    return toy_run("optimizers")


@pytest.fixture
def digits():
    """Ten pictures of noise, twenty times."""
    labels = np.arange(200) % 10
    images = np.random.default_rng(0).integers(0, 256, (10, 28, 28, 1), np.uint8)[labels]
    return Splits(*[Batch(jnp.asarray(images), jnp.asarray(labels))] * 3)


def train(tmp_path, rates, digits, **settings):
    config = optimizers.Config(("sgd",), **settings)
    return optimizers.train(config, Run(tmp_path), "grid", "sgd", np.array(rates), range(2), digits)


def test_the_nets_learn(toy):
    assert toy.summary["sgd_test_accuracy"] == pytest.approx(0.82, abs=0.05)
    assert toy.summary["adam_test_accuracy"] == pytest.approx(0.88, abs=0.05)


@pytest.mark.full
def test_resumes_bit_for_bit(toy, resumes_bit_for_bit):
    resumes_bit_for_bit("optimizers", toy)


def test_the_race_has_other_seeds_than_the_grid_and_the_best_rate_of_it(toy):
    for name in ("sgd", "adam"):
        grid, race = (
            [row for row in toy.rows if (row["part"], row["optimizer"]) == (part, name)] for part in ("grid", "race")
        )
        assert {row["seed"] for row in grid} == set(optimizers.TUNING_SEEDS)
        assert [row["seed"] for row in race] == [3, 4]
        best = toy.summary[f"{name}_learning_rate"]
        assert {row["learning_rate"] for row in race} == {best}
        rates = {row["learning_rate"] for row in grid}
        steps = {rate: [row["steps_to_target"] for row in grid if row["learning_rate"] == rate] for rate in rates}
        assert best == min(rates, key=lambda rate: sum(np.inf if number is None else number for number in steps[rate]))


def test_counts_steps_to_the_first_evaluation_with_the_target(toy):
    for row in toy.rows:
        reached = [10 * number for number, loss in enumerate(row["validation_losses"], 1) if loss <= 0.7]
        assert row["steps_to_target"] == (reached[0] if reached else None)
        assert row["validation_loss"] == row["validation_losses"][-1]


def test_a_net_that_diverges_after_it_reached_the_target_has_no_number(tmp_path, digits, monkeypatch):
    def jump(learning_rate):
        return optax.sgd(lambda step: jnp.where(step < 15, learning_rate, 1e30))

    monkeypatch.setitem(training.OPTIMIZERS, "sgd", jump)
    found = train(tmp_path, (0.1,), digits, target=2.0, num_steps=30)
    assert (found["validation_losses"][0, :, 0] < 2).all()
    assert (found["validation_losses"][0, :, 1:] == jnp.inf).all()
    assert jnp.isnan(found["steps_to_target"]).all()
    assert jnp.isnan(found["accuracy"]).all()


def test_chooses_the_rate_that_reaches_the_target_first_or_else_ends_lowest(tmp_path, digits):
    rates = np.array([1e-4, 0.1, 1e30])
    found = train(tmp_path, rates, digits, target=0.5, num_steps=20)
    assert jnp.isfinite(found["steps_to_target"]).all(axis=1).tolist() == [False, True, False]
    assert (found["validation_loss"][1] < found["validation_loss"][0]).all()
    assert (found["validation_loss"][2] == jnp.inf).all()
    for steps in (found["steps_to_target"], jnp.full((3, 2), jnp.nan)):
        assert optimizers.choose("sgd", rates, found | {"steps_to_target": steps}) == 0.1
    slow_but_low = {
        "steps_to_target": jnp.array([[20, 20], [10, 20]]),
        "validation_loss": jnp.array([[0.1] * 2, [0.2] * 2]),
    }
    assert optimizers.choose("sgd", rates[:2], slow_but_low) == 0.1


def test_all_that_diverge_say_so():
    columns = {"validation_loss": jnp.full((1, 2), jnp.inf), "steps_to_target": jnp.full((1, 2), jnp.nan)}
    with pytest.raises(RunFailedError, match="sgd diverges at all --learning-rates: give lower ones"):
        optimizers.choose("sgd", np.array([1e6]), columns)


def test_compares_seed_by_seed(monkeypatch):
    def rows(optimizer, losses, steps, accuracies):
        columns = ("seed", "validation_loss", "steps_to_target", "accuracy")
        nets = zip(range(2), losses, steps, accuracies, strict=True)
        row = {"part": "race", "optimizer": optimizer, "learning_rate": 0.1}
        return [row | dict(zip(columns, net, strict=True)) for net in nets]

    monkeypatch.setattr(optimizers, "step_seconds", lambda name, *_: {"sgd": 0.001, "adam": 0.002}[name])
    config = optimizers.Config(("sgd", "adam"), num_seeds=2)
    examples = Batch(jnp.zeros(1), jnp.zeros(1))
    sgd = rows("sgd", [0.2, 0.3], [75, 50], [0.5, 0.7])
    summary = optimizers.summarize(config, sgd + rows("adam", [0.1, 0.1], [25, 50], [0.8, 0.9]), examples)
    assert summary["sgd_steps_to_target"] == 62.5
    assert summary["adam_steps_to_target"] == 37.5
    assert summary["adam_steps_after_sgd"] == -25  # -50 and 0
    assert summary["adam_steps_after_sgd_sd"] == pytest.approx(np.sqrt(2) * 25)
    assert summary["adam_to_target_seconds"] == pytest.approx(0.075)
    assert summary["adam_validation_loss"] == pytest.approx(0.1)
    assert summary["sgd_test_accuracy"] == pytest.approx(0.6)
    summary = optimizers.summarize(config, sgd + rows("adam", [0.1, "inf"], [25, None], [0.8, None]), examples)
    assert summary["adam_num_diverged"] == 1
    nothing = ("validation_loss", "steps_to_target", "steps_after_sgd", "to_target_seconds", "test_accuracy")
    assert np.isnan([summary[f"adam_{name}"] for name in nothing]).all()


def test_a_step_takes_a_moment(digits):
    assert 0 < optimizers.step_seconds("sgd", 0.1, digits.train) < 1
