import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import experiments
from experiments import predict
from jaxnn.lab import datasets, images
from jaxnn.lab.config import BadUsageError

ROOT = Path(__file__).parents[2]


def test_reads_digits_of_all_kinds(toy_run, three_nets):
    run = toy_run("predict", "--run", three_nets.folder)
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    read_as = {Path(row["picture"]).stem.partition("_")[0]: row["answer"] for row in run.rows}
    right = [read_as[name] == str(digit) for digit, name in enumerate(names)]
    assert sum(right) >= 9  # nets trained for seconds may miss one
    probabilities = np.array([row["probabilities"] for row in run.rows])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)

    loaded = experiments.load(three_nets.folder)
    digit = jnp.asarray(images.read_digit(ROOT / run.rows[0]["picture"])[1][None])
    logits, _ = jax.vmap(loaded.model.apply, (0, 0, None))(loaded.nets.params, loaded.nets.state, digit)
    np.testing.assert_allclose(probabilities[0], jax.nn.softmax(logits[:, 0]).mean(axis=0), rtol=1e-3)


def test_leaves_out_nets_that_diverged(three_nets, write_run, tmp_path):
    nets = experiments.load(three_nets.folder).nets
    diverged = nets._replace(step=np.array([80, 7, 80], np.int32))
    left = predict.load_nets(write_run(tmp_path, diverged, three_nets.config)).nets
    jax.tree.map(lambda one, all: np.testing.assert_array_equal(one, all[::2]), left.params, nets.params)


def test_answers_with_the_names_of_the_folders(toy_run, net_of_pictures, pictures):
    paths = [pictures / name / f"{number}.png" for name in ("ring", "bar", "cross") for number in range(4)]
    run = toy_run("predict", "--run", net_of_pictures.folder, "--images", *paths)
    assert [row["picture"] for row in run.rows] == [str(path) for path in paths]
    assert np.mean([row["answer"] == path.parent.name for row, path in zip(run.rows, paths, strict=True)]) > 0.9
    data, names, _ = datasets.load_images(pictures)  # as they were seen in training
    loaded = experiments.load(net_of_pictures.folder)
    inputs = np.concatenate([part.inputs for part in data])
    params, state = jax.tree.map(lambda leaf: leaf[0], (loaded.nets.params, loaded.nets.state))
    probabilities = np.asarray(jax.nn.softmax(jax.jit(loaded.model.apply)(params, state, inputs)[0]))
    for row in run.rows:
        assert np.abs(probabilities - row["probabilities"]).max(axis=1).min() < 1e-5
        assert names[np.argmax(row["probabilities"])] == row["answer"]


def write_settings(folder, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder, run: {"run": folder}, "cannot read the settings of a run"),
        (lambda folder, run: {"run": write_settings(folder, experiment="another")}, "is a run of another, whose nets"),
        (lambda folder, run: {"run": write_settings(folder, experiment="mnist_cnn", dataset="mnist")}, "no checkpoint"),
        (lambda folder, run: {"run": run, "images": (folder, folder / "lost.png")}, "lost.png: No such file or dir"),
        (
            lambda folder, run: {"run": run, "images": (Path(__file__),)},
            "no picture that can be read: give a PNG or JPEG",
        ),
    ],
)
def test_refuses(three_nets, tmp_path, make, message):
    class Run:
        def say(self, message):
            pass

    with pytest.raises(BadUsageError, match=message):
        predict.main(predict.Config(**make(tmp_path, three_nets.folder)), Run())


def test_refuses_to_read_digits_with_nets_of_pictures(net_of_pictures):
    class Run:
        def say(self, message):
            pass

    with pytest.raises(BadUsageError, match=r"is a run on .*pictures: name your pictures with --images"):
        predict.main(predict.Config(run=net_of_pictures.folder), Run())


def test_refuses_nets_that_read_no_digits(three_nets, write_run, tmp_path):
    nets = experiments.load(three_nets.folder).nets
    folder = write_run(tmp_path, nets, three_nets.config | {"dataset": "fashion_mnist"})
    with pytest.raises(BadUsageError, match="is a run on fashion_mnist, so its nets cannot read digits"):
        predict.load_nets(folder)


def test_finds_the_newest_run_that_reads_digits(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadUsageError, match="train a net with make experiment NAME=mnist_cnn"):
        experiments.newest("mnist_cnn", dataset="mnist")
    for number, content in enumerate(["{", "[]", "3"]):  # folders that something else has left there
        broken = tmp_path / "runs" / f"broken_{number}"
        broken.mkdir(parents=True)
        (broken / "config.json").write_text(content)
        (broken / "summary.json").touch()
    for age, (name, dataset) in enumerate({"clothes": "fashion_mnist", "new": "mnist", "old": "mnist"}.items()):
        folder = write_settings(tmp_path / "runs" / "mnist_cnn" / name, experiment="mnist_cnn", dataset=dataset)
        (folder / "summary.json").touch()
        os.utime(folder / "summary.json", (100 - age, 100 - age))
    write_settings(tmp_path / "runs" / "mnist_cnn" / "unfinished", experiment="mnist_cnn", dataset="mnist")
    assert experiments.newest("mnist_cnn", dataset="mnist") == Path("runs/mnist_cnn/new")
