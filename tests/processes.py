"""Experiments as processes: started, killed, resumed, and what they leave."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import jax

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "experiments"]


def launch(command, *arguments):
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    pipe = subprocess.PIPE
    arguments = [*command, *map(str, arguments)]
    return subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def finish(command, *arguments):
    process = launch(command, *arguments)
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def experiment(*arguments):
    process = launch(COMMAND, *arguments)
    try:
        out, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    return subprocess.CompletedProcess(arguments, process.returncode, out, errors)


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


def kill_and_resume(command, *settings, folder, num_rows, num_kills):
    """A run that is killed so many times on its way to `num_rows` rows, and each time resumed."""
    moments = random.Random(0)
    process = launch(command, *settings, "--out", folder)
    for kill in range(1, num_kills + 1):
        wait_for_rows(process, folder, kill * num_rows // (num_kills + 1))
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.communicate()
        process = launch(command, "--resume", folder)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
