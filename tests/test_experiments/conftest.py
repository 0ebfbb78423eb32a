"""Experiments at toy size, in this process: what each leaves, and that it keeps the contract of all."""

import contextlib
import functools
import io
import json
import runpy
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from jaxnn.lab import datasets
from jaxnn.lab.run import Run

ROOT = Path(__file__).parents[2]


@functools.wraps(datasets.mnist)
def few_digits(*args, whole=datasets.mnist, **sizes):
    """MNIST with 1,000 images each to validate and to test on: the toy runs are not about accuracy."""
    splits = whole(*args, **sizes)
    validation, test = jax.tree.map(lambda leaf: leaf[:1000], (splits.validation, splits.test))
    return splits._replace(validation=validation, test=test)


def run_experiment(name, *arguments):
    """As `python -m experiments NAME ...` does it: what it printed; SystemExit where that ends so."""
    out, errors = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, [name, *map(str, arguments)]
    jax.config.update(
        "jax_disable_most_optimizations", name != "mnist_cnn"
    )  # whose program runs longer than it compiles
    try:
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(errors),
        ):
            patch.setattr(datasets, "mnist", few_digits)
            runpy.run_path(str(ROOT / "experiments" / f"{name}.py"), run_name="__main__")
    finally:
        sys.argv = argv
        jax.config.update("jax_disable_most_optimizations", True)
    return SimpleNamespace(out=out.getvalue(), err=errors.getvalue())


def read_run(folder):
    """What a run has left."""
    rows = folder / "metrics.jsonl"
    return SimpleNamespace(
        folder=folder,
        config=json.loads((folder / "config.json").read_text()),
        environment=json.loads((folder / "environment.json").read_text()),
        summary=json.loads((folder / "summary.json").read_text()),
        rows=[json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else [],
    )


def keeps_the_contract(name, folder, printed):
    """Asserts what users of every experiment rely on; what it has left."""
    run = read_run(folder)
    assert run.config["experiment"] == name
    assert run.config["seed"] == 3
    assert all(value is None or isinstance(value, int | float | str) for value in run.summary.values())
    assert [line.split()[0] for line in printed.out.splitlines()] == list(run.summary)
    assert run.environment["devices"]
    figures = list((folder / "figures").iterdir())
    assert figures
    assert all(figure.read_bytes().startswith(b"\x89PNG") for figure in figures)
    for said in (f"results in {folder}", *(f"picture: {figure}" for figure in figures), "expect: "):
        assert said in printed.err
    return run


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory):
    """A function: runs an experiment at toy size, in a new folder, and checks the contract; what it has left."""

    def run(name, *arguments):
        folder = tmp_path_factory.mktemp(name) / "run"
        printed = run_experiment(name, "--quick", "--seed", 3, *arguments, "--out", folder)
        return keeps_the_contract(name, folder, printed)

    return run


@pytest.fixture(scope="session")
def three_nets(toy_run):
    """A toy run of mnist_cnn with the seeds 3, 4 and 5."""
    return toy_run("mnist_cnn", "--num-seeds", 3)


@pytest.fixture(scope="session")
def interrupted_and_resumed(tmp_path_factory):
    """A function: the toy run of an experiment, stopped by SIGTERM after its first chunk, resumed; what it has left."""

    def run(name, *arguments):
        folder = tmp_path_factory.mktemp(name) / "run"
        save = Run._save

        def save_and_stop(self, *state):
            save(self, *state)
            signal.raise_signal(signal.SIGTERM)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Run, "_save", save_and_stop)
            with pytest.raises(SystemExit, match=str(128 + signal.SIGTERM)):
                run_experiment(name, "--quick", "--seed", 3, *arguments, "--out", folder)
        assert len(list((folder / "checkpoints").iterdir())) == 1
        run_experiment(name, "--resume", folder)
        return read_run(folder)

    return run


@pytest.fixture(scope="session")
def without_seconds():
    """A function: of a summary, all but its wall times."""
    return lambda summary: {name: value for name, value in summary.items() if not name.endswith("_seconds")}
