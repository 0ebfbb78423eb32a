import numpy as np
import pytest
import safetensors.numpy

import experiments


@pytest.fixture(scope="module")
def toy(toy_run, three_nets):
    return toy_run("export", "--run", three_nets.folder)


def test_the_file_computes_what_the_net_does_for_any_number_of_images(toy):
    assert toy.summary["num_images"] == 1000
    assert toy.summary["largest_difference"] < 1e-4
    assert toy.summary["accuracy"] > 0.9


def test_the_weights_have_their_names(toy, three_nets):
    weights = safetensors.numpy.load_file(toy.folder / "weights.safetensors")
    net = experiments.load(three_nets.folder, seed=3).nets
    assert {"params.Conv_0.kernel", "params.Dense_1.bias", "batch_stats.BatchNorm_0.mean"} <= weights.keys()
    np.testing.assert_array_equal(weights["params.Dense_1.kernel"], net.params["Dense_1"]["kernel"])
    np.testing.assert_array_equal(
        weights["batch_stats.BatchNorm_1.var"], net.state["batch_stats"]["BatchNorm_1"]["var"]
    )
