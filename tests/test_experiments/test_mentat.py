import json
import os
import subprocess
import sys

import numpy as np
import pytest

from jaxnn.deck import MENTAT_ERRORS


@pytest.fixture(scope="module")
def eight_nets(tmp_path_factory):
    """A process of its own, with all optimizations: 30,000 steps take longer than to compile them."""
    folder = tmp_path_factory.mktemp("mentat") / "run"
    command = [sys.executable, "-m", "experiments", "mentat", "--seed", "3", "--num-seeds", "8", "--out", str(folder)]
    optimized = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0", "XLA_FLAGS": ""}
    subprocess.run(command, check=True, capture_output=True, env=optimized)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_keeps_the_contract_and_the_updates_of_numpy(toy_run):
    toy = toy_run("mentat", "--num-seeds", 2)
    assert len(toy.rows) == 18
    assert toy.summary["difference_to_numpy"] < 1e-12


@pytest.mark.full
@pytest.mark.parametrize("function", MENTAT_ERRORS)
def test_errs_as_mentat_itself_does(eight_nets, function):
    for neurons, (mean, sd) in MENTAT_ERRORS[function].items():
        rows = [row for row in eight_nets if (row["function"], row["neurons"]) == (function, neurons)]
        errors = np.array([row["train_error"] for row in rows])
        assert len(errors) == 8
        assert abs(errors.mean() - mean) < errors.std(ddof=1) + sd
