"""Real processes, killed and resumed: what they leave is what an unbroken run leaves."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import models
from jaxnn.lab import checkpoint, run

ROOT = Path(__file__).parents[2]
TOY = [sys.executable, str(Path(__file__).parent / "toy_experiment.py")]
CNN = [sys.executable, "-m", "experiments", "mnist_cnn"]


def launch(command, *arguments):
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    pipe = subprocess.PIPE
    arguments = [*command, *map(str, arguments)]
    return subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def finish(command, *arguments):
    process = launch(command, *arguments)
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def wait_for_rows(process, folder, number):
    log = folder / "metrics.jsonl"
    while process.poll() is None and (not log.exists() or len(log.read_bytes().splitlines()) < number):
        time.sleep(0.002)


def left_by(folder):
    """All that must be equal: the log, the summary without its times, the arrays of the last checkpoint."""
    summary = json.loads((folder / "summary.json").read_text())
    last = sorted((folder / "checkpoints").glob("*"))[-1]
    arrays = json.loads((last / "_CHECKPOINT_METADATA").read_text())["custom_metadata"]["sha256"]
    numbers = {name: value for name, value in summary.items() if not name.endswith("_seconds")}
    return (folder / "metrics.jsonl").read_bytes(), numbers, last.name, arrays


@pytest.mark.parametrize(
    ("command", "settings", "num_rows", "num_kills"),
    [(TOY, ["--every", "1"], 40, 6), (CNN, ["--quick", "--eval-every", "8", "--num-seeds", "2"], 20, 2)],
    ids=["toy", "mnist_cnn"],
)
def test_kill_9_at_any_moment_changes_nothing(tmp_path, command, settings, num_rows, num_kills):
    assert finish(command, *settings, "--out", tmp_path / "whole")[0] == 0
    folder, moments = tmp_path / "killed", random.Random(0)
    process = launch(command, *settings, "--out", folder)
    for kill in range(1, num_kills + 1):
        wait_for_rows(process, folder, kill * num_rows // (num_kills + 1))
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.communicate()
        process = launch(command, "--resume", folder)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert left_by(folder) == left_by(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, number):
    assert finish(TOY, "--out", tmp_path / "whole")[0] == 0
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
    assert left_by(folder) == left_by(tmp_path / "whole")


def test_a_finished_run_can_be_extended_where_that_changes_nothing(tmp_path):
    assert finish(TOY, "--num-steps", "40", "--out", tmp_path / "whole")[0] == 0
    folder = tmp_path / "extended"
    assert finish(TOY, "--num-steps", "18", "--out", folder)[0] == 0  # 18 is no stop of the longer run
    assert finish(TOY, "--resume", folder, "--num-steps", "40")[0] == 0
    assert left_by(folder) == left_by(tmp_path / "whole")
    code, errors = finish(TOY, "--resume", folder)
    assert (code, "is finished already" in errors) == (0, True)


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    assert finish(TOY, "--out", tmp_path / "whole")[0] == 0
    folder = shutil.copytree(tmp_path / "whole", tmp_path / "damaged")
    (folder / "summary.json").unlink()
    newest = sorted((folder / "checkpoints").glob("*"))[-1]
    shutil.rmtree(newest / "state")
    code, errors = finish(TOY, "--resume", folder)
    assert code == 0
    assert "is no readable checkpoint" in errors
    assert left_by(folder) == left_by(tmp_path / "whole")


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


def test_a_script_loads_a_run_in_two_lines(tmp_path):
    assert finish(TOY, "--out", tmp_path / "run")[0] == 0
    config, net = run.load(tmp_path / "run")
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


def test_what_cannot_be_resumed_is_refused(tmp_path):
    assert finish(TOY, "--out", tmp_path / "run")[0] == 0
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"experiment": "another"}')
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"experiment": "toy_experiment", "colour": 3}')
    for arguments, message in [
        (["--resume", tmp_path / "nothing"], "cannot read the settings of a run in"),
        (["--resume", tmp_path / "other"], "belongs to the experiment another, not to toy_experiment"),
        (["--resume", tmp_path / "odd"], "has settings that toy_experiment does not know: colour"),
        (["--resume", tmp_path / "run", "--learning-rate", "0.5"], "--learning-rate 0.5 (the run has 0.1)"),
        (["--resume", tmp_path / "run", "--num-steps", "20"], "--num-steps 20 (the run has 40)"),
        (["--resume", tmp_path / "run", "--quick"], "exclude one another"),
        (["--resume", tmp_path / "run", "--out", tmp_path / "new"], "excludes --out"),
    ]:
        code, errors = finish(TOY, *arguments)
        assert code == 2, errors
        assert message in errors
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before
    assert not (tmp_path / "nothing").exists()
