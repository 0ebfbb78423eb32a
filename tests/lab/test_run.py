import concurrent.futures
import dataclasses
import gzip
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxnn.lab import config, run


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings."""

    size: int = 3  # how large
    data_dir: Path | None = None  # data folder

    def __post_init__(self):
        """Refuses what cannot be."""
        config.require(self, "size", self.size > 0, "1 or more")

    def extends(self, earlier):
        """To a larger one."""
        return self.size > earlier.size


def write_everything(settings, run):
    """An experiment."""
    run.record(data_sha256={"toy": "abc"})
    run.log(step=1, loss=0.5)
    run.log(step=2, loss=0.25)
    run.save_figure("empty", Figure())
    with run.progress(10, unit="steps") as report:
        report(5, loss=0.5)
        report(10, loss=0.25)
    return {"size": settings.size, "last": run.read_log()[-1]["loss"], "none": None}


def start(monkeypatch, *arguments, main=write_everything):
    monkeypatch.setattr(sys, "argv", ["toy", *map(str, arguments)])
    run.start(Config, main, quick=Config(size=1))


def test_a_run_leaves_a_folder_that_tells_all(monkeypatch, tmp_path, capsys):
    folder = tmp_path / "run"
    start(monkeypatch, "--out", folder, "--size", 7)
    assert json.loads((folder / "config.json").read_text()) == {"experiment": "toy", "size": 7, "data_dir": None}
    assert json.loads((folder / "summary.json").read_text()) == {"size": 7, "last": 0.25, "none": None}
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["data_sha256"] == {"toy": "abc"}
    assert {"jax", "jaxlib", "optax", "flax"} <= set(environment["packages"])
    assert (folder / "figures" / "empty.png").read_bytes().startswith(b"\x89PNG")
    out, err = capsys.readouterr()
    assert out.split() == ["size", "7", "last", "0.25", "none", "None"]
    assert f"results in {folder}" in err
    assert "toy on the CPU" in err
    assert [line.split()[0] for line in err.splitlines() if "steps/s" in line] == ["50%", "100%"]


def test_quick_is_a_default_that_flags_override(monkeypatch, tmp_path):
    start(monkeypatch, "--quick", "--out", tmp_path / "quick")
    assert json.loads((tmp_path / "quick" / "summary.json").read_text())["size"] == 1
    start(monkeypatch, "--quick", "--size", 5, "--out", tmp_path / "five")
    assert json.loads((tmp_path / "five" / "summary.json").read_text())["size"] == 5


def test_runs_of_the_same_second_do_not_share_a_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        start(monkeypatch)
    assert len(list((tmp_path / "runs" / "toy").iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "0"], "--size must be 1 or more, not 0"),
        (["--size", "1.5"], "1.5"),
        (["--sise", "2"], "--size"),
        (["--data-dir", __file__], f"--data-dir {__file__} is a file: name the folder"),
    ],
)
def test_bad_usage_exits_with_2_and_makes_nothing(monkeypatch, tmp_path, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        start(monkeypatch, *arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_refused(monkeypatch, tmp_path, capsys):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(SystemExit) as error:
        start(monkeypatch, "--out", tmp_path)
    assert error.value.code == 2
    assert "is there already: name another" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_made_is_refused(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as error:
        start(monkeypatch, "--out", tmp_path / "file" / "run")
    assert error.value.code == 2
    assert "cannot write into the folder" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_into_is_refused(monkeypatch, capsys):
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may write anywhere
    try:
        with pytest.raises(SystemExit) as error:
            start(monkeypatch, "--out", folder)
    finally:
        os.seteuid(user)
    assert error.value.code == 2
    assert f"cannot write into the folder {folder} (Permission denied)" in capsys.readouterr().err
    folder.rmdir()  # which only an empty folder allows


def test_profile_traces_what_it_is_given(monkeypatch, tmp_path, capsys):
    def trace(settings, this):
        before = this.train_seconds()
        for _ in range(2):
            this.profile(lambda: time.sleep(0.1) or jnp.ones(3) + 1)
        assert this.train_seconds() - before < 0.1  # that was no training
        return {}

    start(monkeypatch, "--out", tmp_path / "without", main=trace)
    assert not (tmp_path / "without" / "profile").exists()
    start(monkeypatch, "--profile", "--out", tmp_path / "with", main=trace)
    (path,) = (tmp_path / "with" / "profile").rglob("perfetto_trace.json.gz")  # of the last
    assert f"open {path} with" in capsys.readouterr().err
    assert json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]


def test_signals_wait_for_checkpoints_only_while_there_are_more_to_come(monkeypatch, tmp_path):
    handlers = []

    def train(settings, this):
        for restore in (False, True):
            if restore:
                this.restore({}, [1])
            with this.progress(1, unit="steps"):
                handlers.append(signal.getsignal(signal.SIGINT))
            handlers.append(signal.getsignal(signal.SIGINT))
        return {}

    start(monkeypatch, "--out", tmp_path / "run", main=train)
    usual = signal.getsignal(signal.SIGINT)
    assert [handler is usual for handler in handlers] == [True, True, False, True]


def test_tensorboard_without_its_package_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(config.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as error:
        start(monkeypatch, "--tensorboard", "--out", tmp_path / "run")
    assert error.value.code == 2
    assert "pip install tensorboardX" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="JAX uses the accelerator")
def test_an_accelerator_that_is_not_used_is_said_aloud(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: iter(["it"] if pattern.startswith("nvidia") else []))
    start(monkeypatch, "--out", tmp_path / "run", main=lambda settings, this: {})
    expected = "There is an NVIDIA GPU here, but JAX computes on the CPU: make setup EXTRA=cuda"
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "mean", "sd"),
    [
        (np.array([0.5, 0.75, 1.0]), 0.75, 0.25),
        (np.array([0.5], np.float32), 0.5, None),
        (np.array([0.5, np.nan]), None, None),
        (np.array([0.5, np.inf]), None, None),
    ],
)
def test_mean_and_sd_are_fit_for_a_summary(values, mean, sd):
    assert run.mean_and_sd("accuracy", values) == {"accuracy": mean, "accuracy_sd": sd}


def test_a_run_that_fails_exits_with_1_and_one_sentence(monkeypatch, tmp_path, capsys):
    def fail(config, run):
        raise OSError("the disk is full")

    with pytest.raises(SystemExit) as error:
        start(monkeypatch, "--out", tmp_path / "run", main=fail)
    assert error.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1] == "toy: the disk is full"
    assert not (tmp_path / "run").exists()  # nothing was measured, nothing is kept


@pytest.mark.parametrize("finished", [True, False])
def test_a_resumed_run_that_fails_at_once_stays_as_it_was(monkeypatch, tmp_path, finished):
    def fail(config, run):
        raise OSError("no data")

    folder = tmp_path / "run"
    start(monkeypatch, "--out", folder)
    if not finished:
        for name in ("summary.json", "metrics.jsonl"):
            (folder / name).unlink()
    before = {path.name: path.read_bytes() for path in folder.glob("*.json*")}
    with pytest.raises(SystemExit) as error:
        start(monkeypatch, "--resume", folder, "--size", "7", main=fail)
    assert error.value.code == 1
    assert {path.name: path.read_bytes() for path in folder.glob("*.json*")} == before


def test_a_run_that_cannot_go_on_exits_with_1(monkeypatch, tmp_path, capsys):
    def diverge(config, this):
        raise run.RunFailedError("the training diverged")

    with pytest.raises(SystemExit) as error:
        start(monkeypatch, "--out", tmp_path / "run", main=diverge)
    assert error.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1] == "toy: the training diverged"


def test_ctrl_c_before_the_first_checkpoint_leaves_no_folder(monkeypatch, tmp_path, capsys):
    def interrupt(settings, this):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as error:
        start(monkeypatch, "--out", tmp_path / "run", main=interrupt)
    assert error.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1] == "toy: interrupted"
    assert not (tmp_path / "run").exists()


def test_ctrl_c_is_not_lost_where_jax_collects_garbage(monkeypatch, tmp_path):
    passed = []

    def _xla_gc_callback():  # Python would print and forget an exception that is raised in JAX's function of this name
        signal.raise_signal(signal.SIGINT)
        passed.append(True)

    def collect(settings, this):
        _xla_gc_callback()
        time.sleep(60)

    with pytest.raises(SystemExit) as error:
        start(monkeypatch, "--out", tmp_path / "run", main=collect)
    assert error.value.code == 130
    assert passed


def test_runs_that_start_at_once_get_a_folder_each(tmp_path):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        folders = list(pool.map(run._make_new_directory, [tmp_path / "toy"] * 20))
    assert len(set(folders)) == 20
    assert all(folder.is_dir() for folder in folders)


def test_a_mistake_in_an_experiment_keeps_its_traceback(monkeypatch, tmp_path):
    with pytest.raises(ZeroDivisionError):
        start(monkeypatch, "--out", tmp_path / "run", main=lambda config, run: 1 / 0)


def test_numbers_that_json_lacks_are_not_written(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        start(monkeypatch, "--out", tmp_path / "run", main=lambda config, run: {"loss": np.nan})
    assert not (tmp_path / "run" / "summary.json").exists()
