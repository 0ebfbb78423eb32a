import jax
import numpy as np
import pytest

import experiments
from experiments import feature_maps
from jaxnn import metrics
from jaxnn.lab import datasets
from jaxnn.lab.config import BadUsageError


def test_maps_are_those_of_scipy(toy_run):
    assert toy_run("feature_maps").summary["first_maps_error"] == pytest.approx(0, abs=1e-5)


def test_looks_into_the_first_net_of_a_run(three_nets):
    module, variables = feature_maps.load_net(three_nets.folder)
    inputs, labels = jax.tree.map(lambda leaf: leaf[:400], datasets.mnist().validation)
    logits = jax.jit(lambda images: module.apply(variables, images, train=False))(inputs)
    accuracies = {(row["step"], row["seed"]): row["validation_accuracy"] for row in three_nets.rows}
    assert metrics.accuracy(logits, labels) == pytest.approx(accuracies[80, 3], abs=0.003)


def test_looks_into_the_first_net_that_has_not_diverged(three_nets, write_run, tmp_path):
    nets = experiments.load(three_nets.folder).nets
    diverged = nets._replace(step=np.array([7, 80, 80], np.int32))
    _, variables = feature_maps.load_net(write_run(tmp_path, diverged, three_nets.config))
    jax.tree.map(lambda one, all: np.testing.assert_array_equal(one, all[1]), variables["params"], nets.params)


def test_refuses_runs_of_something_else(three_nets, write_run, tmp_path):
    with pytest.raises(BadUsageError, match=r"^--run: cannot read the settings of a run"):
        feature_maps.load_net(tmp_path)
    nets = experiments.load(three_nets.folder).nets
    clothes = write_run(tmp_path / "clothes", nets, three_nets.config | {"dataset": "fashion_mnist"})
    with pytest.raises(BadUsageError, match=r"^--run: .* is no run of mnist_cnn on mnist"):
        feature_maps.load_net(clothes)
    for path in (clothes / "checkpoints").iterdir():
        path.write_bytes(b"no checkpoint")
    with pytest.raises(BadUsageError, match=r"^--run: .* is no readable checkpoint"):
        feature_maps.load_net(clothes)
