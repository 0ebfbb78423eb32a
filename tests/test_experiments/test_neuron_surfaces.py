import pytest


def test_keeps_the_contract_and_the_numbers_of_the_deck(toy_run):
    summary = toy_run("neuron_surfaces").summary
    assert summary["three_units_max"] == pytest.approx(6.714, abs=0.01)
    assert summary["three_units_min"] == pytest.approx(-6.799, abs=0.01)
    assert summary["three_units_boundary_bend"] == pytest.approx(4.4, abs=0.3)
    assert summary["neuron_change_across"] == pytest.approx(0, abs=1e-15)
    assert summary["sigmoid_slope_max"] == 0.25
    assert summary["sigmoid_slope_at_10"] == pytest.approx(4.54e-5, abs=1e-7)
    assert summary["relu_slope_at_0"] == 0
    assert summary["collapse_error"] == pytest.approx(0, abs=1e-12)
