"""A run that crashed, was killed or was stopped, and is resumed, leaves what an unbroken run leaves, bit for bit."""

import contextlib
import errno
import functools
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


def test_a_run_goes_on_with_the_same_data_only(call, tmp_path):
    def main(config, run, names=("a", "b")):
        run.record(class_names=names, sha256={"toy": "abc"})
        return toy_experiment.main(config, run)

    folder = tmp_path / "run"
    assert call("--out", folder, main=main).code == 0
    (folder / "summary.json").unlink()
    assert call("--resume", folder).code == 0  # this process records nothing
    (folder / "summary.json").unlink()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = call("--resume", folder, main=functools.partial(main, names=("a", "c")))
    expected = f"{folder} cannot go on, for facts that it has recorded have changed (class names): put back what they"
    assert (done.code, expected in done.err) == (2, True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert call("--resume", folder, main=main).code == 0
    content = json.loads((folder / "environment.json").read_text())
    assert (content["class_names"], content["sha256"]) == (["a", "b"], {"toy": "abc"})


def test_a_resumed_run_keeps_its_settings(call, tmp_path, whole):
    (whole / "summary.json").unlink()
    before = (whole / "config.json").read_bytes()
    assert call("--resume", whole, "--data-dir", tmp_path).code == 0
    assert (whole / "config.json").read_bytes() == before


@pytest.mark.parametrize("is_finished", [True, False])
def test_settings_that_were_edited_are_refused(call, whole, is_finished):
    if not is_finished:
        (whole / "summary.json").unlink()
    path = whole / "config.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1').replace("0.2", "0.3"))
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    done = call("--resume", whole)
    expected = f"{path} has been edited: learning_rates [0.1, 0.3] (was [0.1, 0.2]), seed 1 (was 0); put it back"
    assert (done.code, expected in done.err) == (2, True)
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["environment.json", "summary.json"])
def test_a_damaged_file_that_no_number_hangs_on_is_said_and_written_anew(call, whole, left_by, name):
    expected = left_by(whole)
    (whole / "summary.json").write_text("")
    (whole / name).write_text('{"weight": 1')
    done = call("--resume", whole)
    assert (done.code, f"{whole / name} is damaged" in done.err) == (0, True)
    assert left_by(whole) == expected
    assert json.loads((whole / name).read_text())


@pytest.mark.parametrize(("number", "code"), [(3, 1), (6, 0)])  # before all checkpoints, and behind an older one
def test_a_damaged_row_is_written_anew_where_a_checkpoint_allows(call, whole, left_by, number, code):
    expected, log = left_by(whole), whole / "metrics.jsonl"
    (whole / "summary.json").unlink()
    lines = log.read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].translate(bytes.maketrans(b"0123456789", b"1234567890"))
    log.write_bytes(b"".join(lines))
    done = call("--resume", whole)
    assert (done.code, f"{log} is damaged: its rows are not those" in done.err) == (code, True)
    assert code or left_by(whole) == expected


def test_a_full_disk_is_said_with_the_command_to_go_on(call, monkeypatch, tmp_path, whole, left_by):
    def fail(file):
        if list(folder.glob("checkpoints/*04.safetensors")):
            raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        done = call("--out", folder)
    assert done.code == 1
    assert done.err.splitlines()[-2:] == [
        f"toy_experiment: No space left on device: {folder}",
        f"  {sys.executable} -m experiments toy_experiment --resume {folder}",
    ]
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["training_1-00000004.safetensors"]
    assert call("--resume", folder).code == 0
    assert left_by(folder) == left_by(whole)


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
    assert "metrics.jsonl is damaged: its rows are not those" in done.err
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
    (whole / "summary.json").unlink()  # all is trained, but not finished
    assert call("--resume", whole).code == 0
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
def running(*arguments, pause=0, cache=None):
    """The toy experiment as a process, with so many seconds after each chunk."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache or jax.config.jax_compilation_cache_dir),
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


def test_a_process_that_is_told_to_stop_saves_and_ends_in_order(tmp_path, whole, left_by):
    folder = tmp_path / "a 'b' [c] $d"
    with running("--out", folder, pause=0.5) as process:
        wait_for_rows(process, folder, 2)
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert out == ""
    assert "stopping at the next checkpoint" in errors
    assert "Traceback" not in errors
    command = errors.partition("all is saved; go on with\n")[2]
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert left_by(folder) == left_by(whole)


def test_ctrl_c_again_and_again_while_programs_are_compiled_ends_in_order(tmp_path):
    with running("--out", tmp_path / "run", cache=tmp_path / "cold") as process:
        process.stderr.readline()
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        errors = process.stderr.read()
    assert (process.returncode, errors.splitlines()[-1]) == (130, "toy_experiment: interrupted")
    assert "Traceback" not in errors


@pytest.mark.full
def test_kill_9_at_every_call_that_changes_a_file_changes_nothing(tmp_path, whole, left_by):
    killed = tmp_path / "killed"
    killed.mkdir()
    subprocess.run([sys.executable, Path(__file__).with_name("killed_everywhere.py"), killed], check=True)
    folders = list(killed.iterdir())
    assert len(folders) > 50
    for folder in folders:
        assert left_by(folder) == left_by(whole), folder
