import shutil

import jax.numpy as jnp
import pytest

import experiments
from experiments import feature_maps
from jaxnn import metrics
from jaxnn.lab import datasets
from jaxnn.lab.config import BadUsageError


def test_keeps_the_contract_and_the_first_maps_are_those_by_hand(toy_run, three_nets):
    run = toy_run("feature_maps", "--run", three_nets.folder)
    assert run.summary["first_maps_error"] == pytest.approx(0, abs=1e-5)
    assert run.summary["validation_accuracy"] > 0.9


def test_looks_into_the_first_net_of_a_run(three_nets):
    module, variables = feature_maps.load_net(three_nets.folder)
    images, labels = datasets.mnist().validation
    logits = module.apply(variables, jnp.asarray(images), train=False)
    (last,) = (row["validation_accuracy"] for row in three_nets.rows if (row["step"], row["seed"]) == (80, 3))
    assert metrics.accuracy(logits, labels) == pytest.approx(last, abs=0.003)


def test_refuses_runs_of_something_else(tmp_path, three_nets):
    with pytest.raises(BadUsageError, match="cannot read the settings of a run"):
        feature_maps.load_net(tmp_path)
    folder = shutil.copytree(three_nets.folder, tmp_path / "clothes")
    settings = (folder / "config.json").read_text().replace('"mnist"', '"fashion_mnist"')
    (folder / "config.json").write_text(settings)
    with pytest.raises(BadUsageError, match="is a run on fashion_mnist, so its nets read no digits"):
        feature_maps.load_net(folder)
    (folder / "checkpoints" / "nets-00000080.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadUsageError, match="is no readable checkpoint"):
        experiments.load(folder)
