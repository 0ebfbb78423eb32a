"""Experiments called as from the command line, in this process."""

import json
import sys
from types import SimpleNamespace

import pytest
import safetensors.numpy
import toy_experiment

from jaxnn.lab import start


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """A function: calls the toy experiment, or one with another `main`, by its arguments; exit status and output."""

    monkeypatch.chdir(tmp_path)  # not that of the interpreter, whose path would be said in a shorter form

    def call(*arguments, main=toy_experiment.main, resumable=True, **options):
        monkeypatch.setattr(start, "_exit_at_once", sys.exit)
        monkeypatch.setattr(sys, "argv", ["toy_experiment", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            start.start(
                toy_experiment.Config, main, quick=toy_experiment.Config(num_steps=4), resumable=resumable, **options
            )
        except SystemExit as end:
            code = end.code
        return SimpleNamespace(code=code, **capsys.readouterr()._asdict())

    return call


@pytest.fixture(scope="session")
def left_by():
    """A function: of a folder, all that must be equal: log, summary without its times, last checkpoints' arrays."""

    def left_by(folder):
        summary = json.loads((folder / "summary.json").read_text())
        paths = sorted((folder / "checkpoints").iterdir())
        arrays = {path.name: safetensors.numpy.load_file(path) for path in paths}
        return (
            (folder / "metrics.jsonl").read_text(),
            {name: value for name, value in summary.items() if not name.endswith("_seconds")},
            {(path, name): array.tobytes() for path, all in arrays.items() for name, array in all.items()},
        )

    return left_by


@pytest.fixture
def whole(call, tmp_path):
    """The folder of an unbroken run."""
    assert call("--out", tmp_path / "whole").code == 0
    return tmp_path / "whole"
