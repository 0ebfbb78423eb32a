import pytest

from experiments import gradient_descent
from jaxnn.lab.run import Run, RunFailedError


@pytest.fixture(scope="module")
def toy(toy_run):
    return toy_run("gradient_descent")


def test_finds_the_decks_numbers_and_all_minima(toy):
    summary = toy.summary
    assert summary["num_steps"] == 5497
    assert summary["tangent_error_ratio"] == pytest.approx(4, abs=1e-9)
    assert (summary["num_minima"], summary["num_saddles"], summary["num_maxima"]) == (4, 4, 1)
    assert summary["largest_distance_to_a_minimum"] == pytest.approx(0, abs=1e-6)
    assert summary["value_deepest"] == pytest.approx(-78.33233, abs=1e-4)


def test_an_optimizer_that_never_comes_close_has_no_number(toy):
    steps = {(row["surface"], row["optimizer"]): row["steps"] for row in toy.rows if "optimizer" in row}
    assert len(steps) == 2 * 7
    assert steps["bowl", "gradient descent"] == toy.summary["bowl_gradient_descent_steps"] == 18
    assert steps["Rosenbrock", "momentum"] == toy.summary["rosenbrock_momentum_steps"] == 581
    assert steps["Rosenbrock", "gradient descent"] is toy.summary["rosenbrock_gradient_descent_steps"] is None


@pytest.mark.full
def test_repeats_bit_for_bit(toy, toy_run):
    again = toy_run("gradient_descent")
    assert (again.rows, again.summary) == (toy.rows, toy.summary)


def test_too_few_steps_say_so(tmp_path):
    with pytest.raises(RunFailedError, match="--max-steps"):
        gradient_descent.draw_bowl(gradient_descent.Config(max_steps=100), Run(tmp_path))
