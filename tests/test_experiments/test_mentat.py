import numpy as np
import pytest

from jaxnn.deck import MENTAT_ERRORS


@pytest.fixture(scope="module")
def eight_nets(toy_run):
    return toy_run("mentat", "--num-steps", 30_000, "--num-seeds", 8)


def test_updates_are_those_of_numpy(eight_nets):
    assert eight_nets.summary["difference_to_numpy"] < 1e-12
    assert eight_nets.summary["numpy_update_seconds"] > eight_nets.summary["update_per_net_seconds"]


@pytest.mark.parametrize("function", MENTAT_ERRORS)
def test_errs_as_mentat_itself_does(eight_nets, function):
    for neurons, (mean, sd) in MENTAT_ERRORS[function].items():
        rows = [row for row in eight_nets.rows if (row["function"], row["neurons"]) == (function, neurons)]
        errors = np.array([row["train_error"] for row in rows])
        assert len(errors) == 8
        assert abs(errors.mean() - mean) < errors.std(ddof=1) + sd
