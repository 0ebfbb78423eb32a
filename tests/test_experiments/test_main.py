"""`python -m experiments`, as processes; and what the experiments refuse."""

import dataclasses
import importlib
import math
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jaxnn.lab import config
from jaxnn.lab.start import start

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "experiments").glob("[!_]*.py"))


def experiments(*arguments):
    return subprocess.run([sys.executable, "-m", "experiments", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["xyz"], "no experiment is called 'xyz'; there are: backpropagation, batch_normalisation,"),
        ([], "name an experiment; there are:"),
        (["information", "--resolution", "1"], "--resolution: input should be greater than or equal to 2, not 1"),
    ],
)
def test_bad_usage_exits_with_2(arguments, message):
    done = experiments(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_that_is_nearly_one_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["experiments", "mnist_cn"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_module("experiments", run_name="__main__")
    assert "no experiment is called 'mnist_cn': did you mean mnist_cnn?" in capsys.readouterr().err


def test_the_list_has_every_experiment_with_its_time_and_first_line():
    done = experiments("--list")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert all(re.search(r"^\w+ +(\d+ (h|min|s) ?)+ +\S.*\.$", line) for line in lines)
    assert re.search(r"^mnist_cnn +\d+ (min|s).* A convolutional network reads", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("redirection", [">&-", "| true"])
def test_output_that_nobody_takes_is_no_error(redirection):
    command = f"{sys.executable} -m experiments --list {redirection}"
    assert subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True).stderr == ""


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_refuses_in_a_line(name, monkeypatch, tmp_path, capsys):
    experiment = importlib.import_module(f"experiments.{name}")
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGINT)
    for arguments in (["--out="], ["--seed", "1e400"]):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with pytest.raises(SystemExit, match=r"^2$"):
            start(experiment.Config, experiment.main, quick=experiment.Config())
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
    signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_limits(name):
    defaults = importlib.import_module(f"experiments.{name}").Config()
    for setting, default in dataclasses.asdict(defaults).items():
        numbers = default if isinstance(default, tuple) else (default,)
        if {*map(type, numbers)} not in ({int}, {float}):
            continue
        for bad in (2 * 10**9, -1, math.nan):
            value = (bad,) * len(numbers) if isinstance(default, tuple) else bad
            with pytest.raises(config.BadUsageError, match=f"^--{setting.replace('_', '-')}: input should be "):
                config._check(type(defaults), {setting: value})


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mnist_cnn", {"hidden_size": 10**6}),
        ("mnist_cnn", {"channels": (24, 10**6)}),
        ("mnist_mlp", {"hidden_sizes": (10**6, 10**6)}),
        ("mnist_mlp", {"num_seeds": 10**4}),
        ("tabular", {"hidden_sizes": (10**6, 10**6)}),
        ("function_fitting", {"num_steps": 10**5}),  # of which all weights are kept
        ("vanishing_gradients", {"num_seeds": 1000}),
    ],
)
def test_what_no_memory_holds_is_refused(name, settings):
    with pytest.raises(config.BadUsageError, match="input should be less than or equal to"):
        config._check(importlib.import_module(f"experiments.{name}").Config, settings)
