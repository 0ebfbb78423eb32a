"""Experiments at toy size, in this process: what each leaves, and that it keeps the contract of all."""

import contextlib
import functools
import io
import json
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from jaxnn.lab import checkpoint, datasets
from jaxnn.lab.run import Run

ROOT = Path(__file__).parents[2]


@functools.wraps(datasets.mnist)
def few_digits(*args, whole=datasets.mnist, **sizes):
    """MNIST with 400 images each to validate and to test on: the toy runs are not about accuracy."""
    splits = whole(*args, **sizes)
    validation, test = jax.tree.map(lambda leaf: leaf[:400], (splits.validation, splits.test))
    return splits._replace(validation=validation, test=test)


def run_experiment(name, *arguments):
    """As `python -m experiments NAME ...` does it: what it printed; SystemExit where that ends so."""
    out, errors = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, [name, *map(str, arguments)]
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
    begins = {".png": b"\x89PNG", ".gif": b"GIF89a"}
    assert all(figure.read_bytes().startswith(begins[figure.suffix]) for figure in figures)
    for said in (f"results in {folder}", *(f"picture: {figure}" for figure in figures), "expect: "):
        assert said in printed.err
    return run


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory):
    """A function: runs an experiment at toy size, in a new folder, and checks the contract; what it has left.

    Beside the folder lies `killed`: as it was after the first checkpoint, which is all that `kill -9` would have left.
    """

    def run(name, *arguments):
        folder = tmp_path_factory.mktemp(name) / "run"
        save = Run._save

        def save_and_copy(self, *state):
            save(self, *state)
            if not (folder.parent / "killed").exists():
                shutil.copytree(folder, folder.parent / "killed")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Run, "_save", save_and_copy)
            printed = run_experiment(name, "--quick", "--seed", 3, *arguments, "--out", folder)
        return keeps_the_contract(name, folder, printed)

    return run


@pytest.fixture(scope="session")
def toy_run_for_all(toy_run, tmp_path_factory):
    """A function: a toy run, made once for all workers under this name."""

    def run(made_as, *arguments):
        made = tmp_path_factory.getbasetemp().parent / made_as
        with FileLock(f"{made}.lock"):
            if not made.exists():
                made.symlink_to(toy_run(*arguments).folder)
        return read_run(made.resolve())

    return run


@pytest.fixture(scope="session")
def three_nets(toy_run_for_all):
    """A toy run of mnist_cnn with the seeds 3, 4 and 5."""
    return toy_run_for_all("three_nets", "mnist_cnn", "--num-seeds", 3, "--channels", 8, 16, "--hidden-size", 64)


@pytest.fixture
def write_run():
    """A function: writes a run of mnist_cnn, as one with these settings would have left it; its folder."""

    def write(folder, nets, settings):
        path = folder / "checkpoints" / "nets-00000080.safetensors"
        path.parent.mkdir(parents=True)
        checkpoint.save(path, nets, notes={"settings": settings})
        (folder / "config.json").write_text(json.dumps(settings))
        return folder

    return write


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder with 40 pictures each of three classes: bars, crosses and rings, dark on light; one for all workers."""
    folder = tmp_path_factory.getbasetemp().parent / "pictures"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            rng, (y, x) = np.random.default_rng(0), np.mgrid[:32, :40]
            for number in range(40):
                across, down = abs(x - 20 + rng.integers(-4, 5)), abs(y - 16 + rng.integers(-4, 5))
                bar, distance = (across < 3) & (down < 10), np.hypot(across, down)
                shapes = {"bar": bar, "cross": bar | (down < 3) & (across < 10), "ring": abs(distance - 8) < 2}
                for name, shape in shapes.items():
                    (folder / name).mkdir(parents=True, exist_ok=True)
                    pixels = np.where(shape, 40, 220) + rng.normal(0, 10, shape.shape)
                    Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def net_of_pictures(toy_run_for_all, pictures):
    """A toy run of mnist_cnn on them."""
    sizes = ("--channels", 4, 8, "--hidden-size", 16, "--batch-size", 16, "--epochs", 20)
    return toy_run_for_all("net_of_pictures", "mnist_cnn", "--dataset", pictures, *sizes)


@pytest.fixture(scope="session")
def resumes_bit_for_bit():
    """A function: asserts that a toy run, killed after its first checkpoint and resumed, comes to the same end."""

    def check(name, whole):
        killed = whole.folder.parent / "killed"
        assert len(list((killed / "checkpoints").iterdir())) == 1
        assert not (killed / "summary.json").exists()
        run_experiment(name, "--resume", killed)
        resumed = read_run(killed)
        assert resumed.rows == whole.rows
        assert without_seconds(resumed.summary) == without_seconds(whole.summary)

    return check


def without_seconds(summary):
    """Of a summary, all but its wall times."""
    return {name: value for name, value in summary.items() if not name.endswith("_seconds")}
