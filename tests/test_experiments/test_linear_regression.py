import jax.numpy as jnp
import pytest

from experiments import linear_regression
from jaxnn.lab.config import BadUsageError
from jaxnn.types import Batch


def test_keeps_the_contract_and_gradient_descent_nears_the_closed_form(toy_run):
    summary = toy_run("linear_regression").summary
    assert summary["descent_distance"] == pytest.approx(0, abs=1e-2)  # after 100 steps
    assert summary["plane_change_across"] == pytest.approx(0, abs=1e-12)
    assert summary["plane_boundary_bend"] == pytest.approx(0, abs=1e-6)


def test_refuses_a_learning_rate_that_diverges():
    data = Batch(jnp.eye(2), jnp.ones((2, 1)))
    with pytest.raises(BadUsageError, match="--learning-rate 9 diverges on this data: it must be below 2/L"):
        linear_regression.learning_rates(linear_regression.Config(learning_rate=9.0), data)
