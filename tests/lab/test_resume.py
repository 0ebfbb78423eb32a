"""A run that crashed, was killed or was stopped, and is resumed, leaves what an unbroken run leaves, bit for bit."""

import contextlib
import itertools
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
import toy_experiment
from tensorboardX.proto.event_pb2 import Event

from jaxnn.lab.run import Run


class CrashError(BaseException):
    """The process ends here, and tidies nothing up."""


@contextlib.contextmanager
def crash(owner, name, number, *, before=False, meant=lambda *arguments: True):
    """What runs in here crashes after the `number`-th call of a method that is `meant`, or before it."""
    method, calls = getattr(owner, name), itertools.count(1)

    def crashing(*arguments, **settings):
        now = meant(*arguments) and next(calls) == number
        if not (now and before):
            method(*arguments, **settings)
        if now:
            raise CrashError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, crashing)
        patch.setattr(Run, "close", lambda run: run._chunks and run._chunks.close())
        with pytest.raises(CrashError):
            yield


@pytest.mark.parametrize("number", range(1, 13))
def test_a_crash_after_any_row_changes_nothing(call, tmp_path, whole, left_by, number):
    with crash(Run, "log", number):
        call("--out", tmp_path / "run")
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == number
    assert call("--resume", tmp_path / "run").code == 0
    assert left_by(tmp_path / "run") == left_by(whole)


@pytest.mark.parametrize("number", range(1, 11))
def test_a_crash_before_any_checkpoint_is_renamed_changes_nothing(call, tmp_path, whole, left_by, number):
    with crash(Path, "replace", number, before=True, meant=lambda path, target: target.suffix == ".safetensors"):
        call("--out", tmp_path / "run")
    assert call("--resume", tmp_path / "run").code == 0
    assert left_by(tmp_path / "run") == left_by(whole)


def test_crashes_again_and_again_change_nothing(call, tmp_path, whole, left_by):
    with crash(Run, "_save", 3):
        call("--out", tmp_path / "run")
    for _ in range(7):
        with crash(Run, "_save", 1):
            call("--resume", tmp_path / "run")
    assert call("--resume", tmp_path / "run").code == 0
    assert left_by(tmp_path / "run") == left_by(whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("row", [2, 9])
def test_a_signal_saves_and_says_how_to_go_on(call, monkeypatch, tmp_path, whole, left_by, number, row):
    log, folder = Run.log, tmp_path / "run"

    def log_and_signal(run, **content):
        log(run, **content)
        if len(run.read_log()) == row:
            signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", log_and_signal)
        done = call("--out", folder)
    assert done.code == 128 + number
    step = {2: 4, 9: 8}[row]
    assert done.err.splitlines()[-2:] == [
        f"toy_experiment: stopped after step {step}; all is saved; go on with",
        f"  {sys.executable} -m experiments toy_experiment --resume {folder}",
    ]
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == row
    assert not (folder / "summary.json").exists()
    assert call("--resume", folder).code == 0
    assert left_by(folder) == left_by(whole)


def test_ctrl_c_twice_says_how_to_go_on_where_there_is_a_checkpoint(call, monkeypatch, tmp_path):
    def save_and_interrupt(run, *state):
        save(run, *state)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    save = Run._save
    monkeypatch.setattr(Run, "_save", save_and_interrupt)
    done = call("--out", tmp_path / "run")
    assert done.code == 130
    assert done.err.splitlines()[-2:] == [
        "toy_experiment: interrupted",
        f"  {sys.executable} -m experiments toy_experiment --resume {tmp_path / 'run'}",
    ]


def test_a_resumed_run_remembers_what_it_ran_on_before(call, whole):
    first = json.loads((whole / "environment.json").read_text())
    for _ in range(2):
        (whole / "summary.json").unlink()
        assert call("--resume", whole).code == 0
    earlier = json.loads((whole / "environment.json").read_text())["earlier"]
    assert len(earlier) == 2
    assert earlier[0] == first


def test_a_run_without_a_checkpoint_begins_anew_and_says_so(call, tmp_path, whole, left_by):
    with crash(Run, "log", 2):
        call("--out", tmp_path / "run")
    done = call("--resume", tmp_path / "run")
    assert (done.code, "has no checkpoint: the run begins anew" in done.err) == (0, True)
    assert left_by(tmp_path / "run") == left_by(whole)


@pytest.mark.parametrize("training", [1, 2])
def test_a_damaged_checkpoint_is_passed_over(call, tmp_path, whole, left_by, training):
    expected = left_by(whole)
    (whole / "summary.json").unlink()
    newest = whole / "checkpoints" / f"training_{training}-00000020.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    done = call("--resume", whole)
    assert (done.code, f"{newest} is no readable checkpoint" in done.err) == (0, True)
    assert left_by(whole) == expected


def test_checkpoints_that_cannot_be_gone_on_with_are_kept(call, whole):
    (whole / "summary.json").unlink()
    log = whole / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:200])
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    done = call("--resume", whole)
    assert done.code == 1
    assert "metrics.jsonl is shorter than when" in done.err
    last = f"toy_experiment: none of the checkpoints of training_1 in {whole} can be resumed from"
    assert done.err.splitlines()[-1] == last
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before


def test_tensorboard_shows_the_log_also_of_a_resumed_run(call, tmp_path, whole, left_by):
    folder = tmp_path / "run"
    with crash(Run, "log", 9):
        call("--tensorboard", "--out", folder)
    assert call("--resume", folder).code == 0  # goes on with it
    assert left_by(folder) == left_by(whole)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    expected = [
        (name, row.get("step", 0), pytest.approx(row[name], rel=1e-6))
        for row in rows
        for name in ("training", "learning_rate", "slope", "weight")
        if name in row
    ]
    assert scalars_in(folder / "tensorboard") == expected
    assert call("--resume", whole, "--tensorboard").code == 0  # which is finished
    assert scalars_in(whole / "tensorboard") == expected


def scalars_in(folder):
    """What the one file of events holds: records of a length, its checksum, an event, its checksum."""
    (path,) = folder.iterdir()
    content, scalars = path.read_bytes(), []
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + size])
        scalars += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
        content = content[size + 16 :]
    return scalars


# What follows starts processes.


@contextlib.contextmanager
def running(*arguments, pause):
    """The toy experiment as a process, with so many seconds after each chunk."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TOY_PAUSE": str(pause),
    }
    command = [sys.executable, toy_experiment.__file__, *map(str, arguments)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_rows(process, folder, number):
    log = folder / "metrics.jsonl"
    while process.poll() is None and (not log.exists() or len(log.read_bytes().splitlines()) < number):
        time.sleep(0.002)


def test_kill_9_at_any_moment_changes_nothing(call, tmp_path, whole, left_by):
    folder, moments = tmp_path / "run", random.Random(0)
    with running("--out", folder, pause=2) as process:
        wait_for_rows(process, folder, 2)
        done = call("--resume", folder)
        assert (done.code, f"another process is running in {folder}" in done.err) == (2, True)
    for num_rows in (5, 9):
        with running("--resume", folder, pause=0.05) as process:
            wait_for_rows(process, folder, num_rows)
            time.sleep(moments.uniform(0, 0.1))
    done = call("--resume", folder)
    assert done.code == 0, done.err
    assert left_by(folder) == left_by(whole)


def test_a_process_that_is_told_to_stop_saves_and_ends_in_order(call, tmp_path, whole, left_by):
    with running("--out", tmp_path / "run", pause=0.5) as process:
        wait_for_rows(process, tmp_path / "run", 2)
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert out == ""
    assert "stopping at the next checkpoint" in errors
    assert "all is saved" in errors
    assert "Traceback" not in errors
    assert call("--resume", tmp_path / "run").code == 0
    assert left_by(tmp_path / "run") == left_by(whole)
