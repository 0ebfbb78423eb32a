import pytest


def test_keeps_the_contract_and_the_laws(toy_run):
    summary = toy_run("information").summary
    assert summary["identity_error"] == pytest.approx(0, abs=1e-12)
    assert summary["smallest_divergence"] >= 0
    assert (summary["entropy_sure"], summary["entropy_fair"]) == (0, 1)
    assert (summary["divergence_sure_from_fair"], summary["divergence_sure_from_sure"]) == (1, 0)
    assert summary["divergence_fair_from_sure"] == "inf"
