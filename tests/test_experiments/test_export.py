import numpy as np
import pytest
import safetensors.numpy

import experiments
from experiments import export
from jaxnn.lab.config import BadUsageError
from jaxnn.lab.run import Run, RunFailedError


@pytest.fixture(scope="module")
def toy(toy_run, three_nets):
    return toy_run("export", "--run", three_nets.folder)


def test_the_file_computes_what_the_net_does_for_any_number_of_images(toy):
    assert toy.summary["num_images"] == 400
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


def test_a_file_that_computes_something_else_is_refused(three_nets, tmp_path, monkeypatch):
    read_back = export.read_back
    monkeypatch.setattr(export, "read_back", lambda *arguments: read_back(*arguments) + 2e-4)
    with pytest.raises(RunFailedError, match=r"other logits than the net: they differ by up to 0\.0002"):
        export.main(export.Config(run=three_nets.folder), Run(tmp_path))


@pytest.mark.parametrize(("program", "message"), [("exit(3)", "its reader ended with 3"), ("exit('a\\nb')", "b$")])
def test_a_reader_that_fails_is_told(tmp_path, monkeypatch, program, message):
    monkeypatch.setattr(export, "READ_BACK", program)
    with pytest.raises(RunFailedError, match=f"model.bin cannot be read back: {message}"):
        export.read_back(Run(tmp_path), np.zeros((1, 28, 28, 1), np.uint8))


def test_refuses_a_run_of_another_experiment(tmp_path):
    (tmp_path / "config.json").write_text('{"experiment": "mnist_mlp"}')
    with pytest.raises(BadUsageError, match=f"{tmp_path} is no run of mnist_cnn"):
        export.main(export.Config(run=tmp_path), Run(tmp_path))
