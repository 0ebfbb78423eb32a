import pytest


def test_keeps_scipys_numbers_and_the_laws(toy_run):
    summary = toy_run("convolution").summary
    assert summary["triangle_error"] == pytest.approx(0, abs=0.006)  # the step of the grid is 0.005
    assert summary["identity_error"] == 0
    assert summary["correlation_asymmetry"] > 1
    same = ("gaussian_error", "commutation_error", "association_error", "turned_kernel_error")
    for name in (*same, "convolution_difference", "correlation_difference", "layer_difference"):
        assert summary[name] == pytest.approx(0, abs=1e-12), name
