"""Real processes, killed and resumed: what they leave is what an unbroken run leaves."""

import json
import shutil
import signal
import struct
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from processes import finish, kill_and_resume, launch, left_by, wait_for_rows
from tensorboardX.proto.event_pb2 import Event

from jaxnn import models
from jaxnn.lab import checkpoint, run

TOY = [sys.executable, str(Path(__file__).parent / "toy_experiment.py")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of an unbroken run."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert finish(TOY, "--out", folder)[0] == 0
    return folder


def test_kill_9_at_any_moment_changes_nothing(tmp_path):
    assert finish(TOY, "--every", "1", "--out", tmp_path / "whole")[0] == 0
    kill_and_resume(TOY, "--every", "1", folder=tmp_path / "killed", num_rows=40, num_kills=5)
    assert left_by(tmp_path / "killed") == left_by(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, whole, number):
    folder = tmp_path / "stopped"
    process = launch(TOY, "--pause", "0.2", "--out", folder)
    wait_for_rows(process, folder, 2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "stopping at the next checkpoint" in errors
    assert f'make experiment NAME=toy_experiment ARGS="--resume {folder}"' in errors
    assert "Traceback" not in errors
    assert not (folder / "summary.json").exists()
    assert finish(TOY, "--resume", folder, "--pause", "0")[0] == 0
    assert left_by(folder) == left_by(whole)


def test_a_finished_run_can_be_extended_where_that_changes_nothing(tmp_path, whole):
    folder = tmp_path / "extended"
    assert finish(TOY, "--num-steps", "18", "--out", folder)[0] == 0  # 18 is no stop of the longer run
    assert finish(TOY, "--resume", folder, "--num-steps", "40")[0] == 0
    assert left_by(folder) == left_by(whole)
    code, errors = finish(TOY, "--resume", folder)
    assert (code, "is finished already" in errors) == (0, True)


def test_tensorboard_shows_the_log_also_of_a_resumed_run(tmp_path, whole):
    folder = tmp_path / "run"
    process = launch(TOY, "--pause", "0.2", "--tensorboard", "--out", folder)
    wait_for_rows(process, folder, 3)
    process.kill()
    process.communicate()
    assert finish(TOY, "--resume", folder)[0] == 0  # goes on with it
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    expected = [("loss", row["step"], pytest.approx(row["loss"], rel=1e-6)) for row in rows]
    assert scalars_in(folder / "tensorboard") == expected
    assert left_by(folder) == left_by(whole)
    finished = shutil.copytree(whole, tmp_path / "finished")
    assert finish(TOY, "--resume", finished, "--tensorboard")[0] == 0
    assert scalars_in(finished / "tensorboard") == expected


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


def test_a_resumed_run_remembers_what_it_ran_on_before(tmp_path, whole):
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "summary.json").unlink()
    before = json.loads((folder / "environment.json").read_text())
    for _ in range(2):
        assert finish(TOY, "--resume", folder)[0] == 0
        (folder / "summary.json").unlink()
    earlier = json.loads((folder / "environment.json").read_text())["earlier"]
    assert len(earlier) == 2
    assert earlier[0] == before


def test_a_run_without_a_checkpoint_begins_anew_and_says_so(tmp_path, whole):
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "summary.json").unlink()
    shutil.rmtree(folder / "checkpoints")
    code, errors = finish(TOY, "--resume", folder)
    assert code == 0
    assert "has no checkpoint: the run begins anew" in errors
    assert left_by(folder) == left_by(whole)


def test_a_damaged_checkpoint_is_passed_over(tmp_path, whole):
    folder = shutil.copytree(whole, tmp_path / "damaged")
    (folder / "summary.json").unlink()
    newest = sorted((folder / "checkpoints").glob("*"))[-1]
    shutil.rmtree(newest / "state")
    code, errors = finish(TOY, "--resume", folder)
    assert code == 0
    assert "is no readable checkpoint" in errors
    assert left_by(folder) == left_by(whole)


def test_checkpoints_whose_log_is_lost_are_refused_and_kept(tmp_path, whole):
    folder = shutil.copytree(whole, tmp_path / "lost")
    for name in ("summary.json", "metrics.jsonl"):
        (folder / name).unlink()
    code, errors = finish(TOY, "--resume", folder)
    assert code == 1
    assert "is shorter than when the checkpoint was made" in errors
    assert len(list((folder / "checkpoints").iterdir())) == 2


def test_two_processes_never_share_a_folder_and_the_dead_do_not_block(tmp_path):
    folder = tmp_path / "run"
    process = launch(TOY, "--pause", "5", "--out", folder)
    wait_for_rows(process, folder, 1)
    code, errors = finish(TOY, "--resume", folder)
    assert code == 2
    assert f"another process is running in {folder}" in errors
    process.kill()
    process.communicate()
    assert finish(TOY, "--resume", folder, "--pause", "0")[0] == 0


def test_a_script_loads_a_run_in_two_lines(tmp_path, whole):
    config, net = run.load(whole)
    assert (config.experiment, config.sizes, net.step) == ("toy_experiment", (), 40)
    model = models.mlp(config.sizes, 1)
    outputs, _ = model.apply(net.params, {}, jnp.array([[-1.0], [0.5]]))
    np.testing.assert_allclose(outputs[:, 0], [-2, 1], atol=0.2)
    with pytest.raises(checkpoint.CheckpointError, match="is no folder of a run with a checkpoint"):
        run.load(tmp_path)


def test_from_repeats_a_run(tmp_path):
    assert finish(TOY, "--seed", "5", "--sizes", "3", "2", "--out", tmp_path / "first")[0] == 0
    assert finish(TOY, "--from", tmp_path / "first" / "config.json", "--out", tmp_path / "again")[0] == 0
    assert left_by(tmp_path / "first") == left_by(tmp_path / "again")
    settings = json.loads((tmp_path / "again" / "config.json").read_text())
    assert (settings["seed"], settings["sizes"]) == (5, [3, 2])


def test_what_cannot_be_resumed_is_refused(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "run")
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"experiment": "another"}')
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"experiment": "toy_experiment", "colour": 3}')
    (tmp_path / "list.json").write_text("[3]")
    (tmp_path / "half.json").write_text('{"experiment": "toy_experiment", "num_steps": 2.5}')
    for arguments, message in [
        (["--from", tmp_path / "list.json"], "list.json has no settings of a run"),
        (["--from", tmp_path / "half.json"], "half.json: num_steps must be of the type int, not 2.5"),
        (["--resume", tmp_path / "nothing"], "cannot read the settings of a run in"),
        (["--resume", tmp_path / "other"], "belongs to the experiment another, not to toy_experiment"),
        (["--resume", tmp_path / "odd"], "has settings that toy_experiment does not know: colour"),
        (["--resume", tmp_path / "run", "--learning-rate", "0.5"], "--learning-rate 0.5 (the run has 0.1)"),
        (["--resume", tmp_path / "run", "--num-steps", "20"], "--num-steps 20 (the run has 40)"),
        (["--resume", tmp_path / "run", "--quick"], "--resume and --quick exclude each other"),
        (["--resume", tmp_path / "run", "--out", tmp_path / "new"], "--resume and --out exclude each other"),
    ]:
        code, errors = finish(TOY, *arguments)
        assert code == 2, errors
        assert message in errors
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before
    assert not (tmp_path / "nothing").exists()
