"""Every experiment at toy size, as a user runs it, and the contract that all of them keep."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "experiments").glob("[!_]*.py"))


def experiment(*arguments):
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir)}
    command = [sys.executable, "-m", "experiments", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_keeps_the_contract_and_repeats_bit_for_bit(name, tmp_path):
    folders = tmp_path / "first", tmp_path / "second"
    for folder in folders:
        done = experiment(name, "--quick", "--seed", 3, "--out", folder)
        assert done.returncode == 0, done.stderr
        assert str(folder) in done.stderr
    summary, again = (read(folder, "summary") for folder in folders)
    assert all(value is None or isinstance(value, int | float | str) for value in summary.values())
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(summary)
    measured, repeated = ({k: v for k, v in s.items() if not k.endswith("_seconds")} for s in (summary, again))
    assert measured == repeated
    assert folders[0].joinpath("metrics.jsonl").read_text() == folders[1].joinpath("metrics.jsonl").read_text()
    assert read(folders[0], "config")["seed"] == 3
    assert read(folders[0], "environment")["devices"]
    figures = list((folders[0] / "figures").iterdir())
    assert figures
    assert all(figure.read_bytes().startswith(b"\x89PNG") for figure in figures)


def test_mnist_cnn_trains_several_nets_and_each_as_if_alone(tmp_path):
    for folder, arguments in {"three": ["--num-seeds", 3], "last": ["--seed", 2]}.items():
        done = experiment("mnist_cnn", "--quick", *arguments, "--out", tmp_path / folder)
        assert done.returncode == 0, done.stderr
    summary = read(tmp_path / "three", "summary")
    assert summary["num_seeds"] == 3
    assert summary["test_accuracy"] > 0.9
    assert summary["test_accuracy_sd"] > 0
    three, last = ((tmp_path / folder / "metrics.jsonl").read_text().splitlines() for folder in ("three", "last"))
    assert three[2::3] == last


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "muon"])
@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant"])
def test_mnist_cnn_optimizers_go_downhill(optimizer, schedule):
    from experiments import mnist_cnn

    config = mnist_cnn.Config(optimizer=optimizer, schedule=schedule, learning_rate=0.01, num_train=5000, epochs=1)
    transformation = mnist_cnn.make_optimizer(config)
    params = {"weight": jax.numpy.array([[3.0, -2.0]])}

    @jax.jit
    def step(params, state):
        updates, state = transformation.update(jax.grad(loss)(params), state, params)
        return jax.tree.map(jax.numpy.add, params, updates), state

    def loss(params):
        return (params["weight"] ** 2).sum()

    state, start = transformation.init(params), loss(params)
    for _ in range(50):
        params, state = step(params, state)
    assert loss(params) < start


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mnist_cn"], "no experiment is called 'mnist_cn': did you mean mnist_cnn?"),
        (["xyz"], "no experiment is called 'xyz'; there are:"),
        ([], "name an experiment; there are:"),
        (["mnist_cnn", "--batch-size", "0"], "--batch-size must be in 1 ... 55000, not 0"),
        (["mnist_cnn", "--batch-siez", "7"], "--batch-size"),
    ],
)
def test_bad_usage_exits_with_2(arguments, message):
    done = experiment(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_list_has_every_experiment_with_its_first_line():
    lines = experiment("--list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"batch_size": -1}, "--batch-size must be in 1 ... 55000, not -1"),
        ({"num_train": 100, "batch_size": 101}, "--batch-size must be in 1 ... 100, not 101"),
        ({"num_train": 56_000}, "--num-train must be in 1 ... 55000"),
        ({"num_validation": 0}, "--num-validation must be in 1 ... 59999"),
        ({"learning_rate": 0.0}, "--learning-rate must be above 0, not 0.0"),
        ({"learning_rate": float("nan")}, "--learning-rate must be above 0, not nan"),
        ({"dropout": 1.0}, "--dropout must be in"),
        ({"momentum": -0.1}, "--momentum must be in"),
        ({"label_smoothing": 1.5}, "--label-smoothing must be in"),
        ({"l2": float("inf")}, "--l2 must be 0 or more"),
        ({"seed": -1}, "--seed must be in 0"),
        ({"epochs": 0}, "--epochs must be 1 or more"),
        ({"num_seeds": 0}, "--num-seeds must be 1 or more"),
        ({"channels": (8, 0)}, "--channels must be 1 or more"),
        ({"max_shift": -1}, "--max-shift must be 0 or more"),
    ],
)
def test_mnist_cnn_refuses(setting, message):
    from experiments import mnist_cnn

    with pytest.raises(ValueError, match="^" + message.replace("...", r"\.\.\.")):
        mnist_cnn.Config(**setting)
