"""From the command line to the exit status, in this process.

Expect: a third
        of one (1 seed)
"""

import concurrent.futures
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import filelock
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxnn.lab import config, start
from jaxnn.lab.environment import NoDeviceError
from jaxnn.lab.run import RunFailedError


def write_everything(settings, run):
    run.record(data_sha256={"toy": "abc"})
    run.log(step=1, loss=np.float32(0.1))
    run.save_figure("empty", Figure())
    run.save_animation("moving", [Figure(figsize=(1, 1))])
    run.say("half of it is [done] :smile:")
    return {
        "steps": settings.num_steps,
        "loss": jnp.float32(1 / 3),
        "none": np.nan,
        "far": np.inf,
        "path": "[a] :x: " * 30,
    }


def fail_with(error):
    def fail(settings, run):
        raise error

    return fail


def test_a_run_leaves_a_folder_that_tells_all(call, tmp_path):
    folder = tmp_path / "[run] :smile:"
    done = call(
        "--out", folder, "--num-steps", 7, "--learning-rates", 0.5, "--data-dir", "/data", main=write_everything
    )
    assert done.code == 0
    assert json.loads((folder / "config.json").read_text()) == {
        "experiment": "toy_experiment",
        "num_steps": 7,
        "every": 4,
        "learning_rates": [0.5],
        "data_dir": "/data",
        "seed": 0,
    }
    summary = {"steps": 7, "loss": 0.33333334, "none": None, "far": "inf", "path": "[a] :x: " * 30}
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert (folder / "metrics.jsonl").read_text() == '{"step": 1, "loss": 0.1}\n'
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["data_sha256"] == {"toy": "abc"}
    assert {"jax", "jaxlib", "optax", "flax"} <= set(environment["packages"])
    assert (folder / "figures" / "empty.png").read_bytes().startswith(b"\x89PNG")
    assert done.out.splitlines() == [
        "steps  7",
        "loss   0.333333",
        "none   None",
        "far    inf",
        f"path   {'[a] :x: ' * 30}",
    ]
    assert done.err.splitlines() == [
        f"toy_experiment on {start.environment.device()}, results in {folder}",
        "half of it is [done] :smile:",
        f"picture: {folder}/figures/empty.png",
        f"picture: {folder}/figures/moving.gif",
        "expect: a third of one (1 seed)",
    ]


def test_x64_holds_in_this_experiment_alone(call, tmp_path):
    for x64 in (True, False):
        call("--out", tmp_path / str(x64), main=lambda settings, run: {"dtype": str(jnp.ones(1).dtype)}, x64=x64)
    dtypes = [json.loads((tmp_path / name / "summary.json").read_text())["dtype"] for name in ("True", "False")]
    assert dtypes == ["float64", "float32"]


def test_runs_of_the_same_second_do_not_share_a_folder(call, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        assert call(main=lambda settings, run: {}).code == 0
    assert len(list((tmp_path / "runs" / "toy_experiment").iterdir())) == 3


def test_runs_that_start_at_once_get_a_folder_each(tmp_path):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        folders = list(pool.map(start._make_new_directory, [tmp_path / "toy"] * 20))
    assert len(set(folders)) == 20
    assert all(folder.is_dir() for folder in folders)


def test_a_folder_in_use_is_refused(call, tmp_path):
    (tmp_path / "mine.txt").touch()
    done = call("--out", tmp_path)
    assert (done.code, "is there already: name another" in done.err) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("out", ["file/run", f"new/{'long' * 100}"])
def test_a_folder_that_cannot_be_made_is_refused(call, tmp_path, out):
    (tmp_path / "file").touch()
    done = call("--out", tmp_path / out)
    assert (done.code, "cannot write into the folder" in done.err) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_of_a_run_that_was_killed_before_its_settings_were_written_is_taken(call, tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".config.json.part").write_text('{"exp')
    assert call("--out", tmp_path, main=lambda settings, run: {}).code == 0


def test_a_folder_that_cannot_be_written_into_is_refused(call):
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may write anywhere
    try:
        done = call("--out", folder)
    finally:
        os.seteuid(user)
    assert done.code == 2
    assert f"cannot write into the folder {folder} (Permission denied)" in done.err
    folder.rmdir()  # which only an empty folder allows


def test_a_folder_in_which_another_process_runs_is_refused(call, whole):
    (whole / "summary.json").unlink()
    with filelock.FileLock(whole / ".lock"):
        done = call("--resume", whole)
    assert done.code == 2
    assert done.err == (f"toy_experiment: another process is running in {whole}: wait for it, or name another folder\n")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError("the disk is broken"), 1, "the disk is broken"),
        (OSError(errno.ENOENT, "No such file", "data.csv"), 1, "No such file: data.csv"),
        (RunFailedError("the training diverged"), 1, "the training diverged"),
        (NoDeviceError("there is no GPU"), 1, "there is no GPU"),
        (config.BadUsageError("such a file cannot be"), 2, "such a file cannot be"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_run_that_fails_before_its_first_row_leaves_one_line_and_no_folder(call, tmp_path, error, code, message):
    (tmp_path / "mine").mkdir()
    for out in ("mine", "new/parents/run"):
        done = call("--out", tmp_path / out, main=fail_with(error))
        assert done.code == code
        assert done.err.splitlines()[-1] == f"toy_experiment: {message}"
        assert "Traceback" not in done.err
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_too_little_memory_is_said_in_a_line(call, tmp_path):
    done = call("--out", tmp_path / "run", main=lambda settings, run: {"sum": jnp.zeros(2**45).sum()})
    assert done.code == 1
    message = "has not enough memory: give fewer seeds or smaller nets (RESOURCE_EXHAUSTED"
    assert message in " ".join(done.err.split())
    assert "Traceback" not in done.err


def test_a_run_that_fails_after_its_first_row_keeps_it(call, tmp_path):
    def log_and_fail(settings, run):
        run.log(step=1)
        raise OSError("the disk is full")

    assert call("--out", tmp_path / "run", main=log_and_fail).code == 1
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == '{"step": 1}\n'
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize("lost", [["summary.json"], ["summary.json", "metrics.jsonl", "checkpoints"]])
def test_a_resumed_run_that_fails_at_once_stays_as_it_was(call, whole, lost):
    for name in lost:
        shutil.rmtree(whole / name) if (whole / name).is_dir() else (whole / name).unlink()
    before = {path.name: path.read_bytes() for path in whole.glob("*.json*")}
    assert call("--resume", whole, main=fail_with(OSError("no data"))).code == 1
    assert {path.name: path.read_bytes() for path in whole.glob("*.json*")} == before


def test_a_device_that_is_not_there_is_said_in_a_line(call, monkeypatch, tmp_path):
    def devices():
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setattr(jax, "devices", devices)
    done = call("--out", tmp_path / "run")
    assert done.code == 1
    assert re.fullmatch(r"toy_experiment: JAX cannot compute on '.*' \(JAX_PLATFORMS\) here. Unable .*\n", done.err)
    assert not (tmp_path / "run").exists()


def test_ctrl_c_is_not_lost_where_jax_collects_garbage(call, tmp_path):
    passed = []

    def _xla_gc_callback():  # Python would print and forget an exception that is raised in JAX's function of this name
        (lambda: signal.raise_signal(signal.SIGINT))()
        passed.append(True)

    def collect(settings, run):
        _xla_gc_callback()
        time.sleep(60)

    assert call("--out", tmp_path / "run", main=collect).code == 130
    assert passed


def test_a_mistake_in_an_experiment_keeps_its_traceback(call, tmp_path):
    with pytest.raises(ZeroDivisionError):
        call("--out", tmp_path / "run", main=lambda settings, run: 1 / 0)


def test_a_finished_run_says_again_what_it_found(call, whole):
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    done = call("--resume", whole, main=fail_with(ZeroDivisionError()))
    assert (done.code, f"{whole} is finished already" in done.err) == (0, True)
    assert [line.split()[0] for line in done.out.splitlines()] == ["weight", "num_rows", "train_seconds"]
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "name", ["[a] (b) *", "\\ ' \" `ls` $HOME $$ #%", "a\nline\tand another", "long" * 50, "~ ; exit 3"]
)
def test_a_shell_takes_the_command_to_go_on_whatever_the_folder_is_called(call, monkeypatch, tmp_path, name):
    def interrupt(settings, run):
        for _ in run.chunks({}, 2, every=1):
            signal.raise_signal(signal.SIGTERM)

    program, folder = tmp_path / "a 'python'", tmp_path / name
    program.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.chdir(tmp_path)
    done = call("--out", folder, main=interrupt)
    assert done.code == 128 + signal.SIGTERM
    command = done.err.partition("go on with\n")[2]
    said = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert said.split("\0")[:-1] == ["-m", "experiments", "toy_experiment", "--resume", str(folder)]
    assert call("--resume", folder, main=lambda settings, run: {}).code == 0


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="JAX uses the accelerator")
def test_an_accelerator_that_is_not_used_is_said_aloud(call, monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: iter(["it"] if pattern.startswith("nvidia") else []))
    said = call("--out", tmp_path / "run", main=lambda settings, run: {}).err
    assert "There is an NVIDIA GPU here, but JAX computes on the CPU: make setup EXTRA=cuda" in said
