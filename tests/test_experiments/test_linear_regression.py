import pytest


def test_keeps_the_contract_and_gradient_descent_nears_the_closed_form(toy_run):
    summary = toy_run("linear_regression").summary
    assert summary["descent_distance"] == pytest.approx(0, abs=1e-2)  # after 100 steps
    assert summary["plane_change_across"] == pytest.approx(0, abs=1e-12)
    assert summary["plane_boundary_bend"] == pytest.approx(0, abs=1e-6)
