"""From the command line to the exit status: an experiment as a process."""

import contextlib
import dataclasses
import itertools
import json
import logging
import os
import re
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock
import jax

from jaxnn.lab import console, environment
from jaxnn.lab.config import BadUsageError, parse_command_line
from jaxnn.lab.environment import NoDeviceError
from jaxnn.lab.run import Run, RunFailedError, StoppedError, to_json, write_json

log = logging.getLogger(__name__)


def start(
    config_class: type,
    main: Callable[[Any, Run], dict[str, Any]],
    *,
    quick: Any,
    x64: bool = False,
    resumable: bool = False,
):
    """Runs `main(config, run)`, which returns the summary, with the settings of the command line.

    The process ends with 2 for bad usage, with 1 where the run failed, and with 128 + its number after a signal.

    config_class: a flat frozen dataclass of pydantic's; limits stand in its annotations, its comments are the help.
    quick: the settings of --quick.
    x64: arrays are float64 by default.
    resumable: the experiment trains in `run.chunks`, so that it takes --resume, --tensorboard and --profile.
    """
    name = Path(sys.argv[0]).stem
    terminal = console.stderr()
    console.show_log(terminal)
    signal.signal(signal.SIGINT, _interrupt)
    run = None
    try:
        options, config = parse_command_line(name, config_class, quick, resumable=resumable)
        directory = options.resume or _make_directory(name, options.out)
        settings = {"experiment": name, **dataclasses.asdict(config)}
        with _lock(directory), jax.enable_x64(True) if x64 else contextlib.nullcontext():
            run = Run(directory, options, settings)
            if (directory / "summary.json").exists():
                log.info("%s is finished already", directory)
                if options.tensorboard:
                    run.show_in_tensorboard([])
                    run.close()
                summary = json.loads((directory / "summary.json").read_text())
            else:
                with _undo_if_nothing_began(directory, is_new=options.resume is None):
                    summary = _execute(run, settings, lambda run: main(config, run))
    except StoppedError as error:
        terminal.print(f"{name}: {error}")
        _say_how_to_go_on(terminal, name, error.directory)
        sys.exit(128 + error.signal_number)
    except KeyboardInterrupt:
        terminal.show_cursor()
        terminal.print(f"{name}: interrupted")
        if run and (run.directory / "checkpoints").exists():
            _say_how_to_go_on(terminal, name, run.directory)
        sys.exit(128 + signal.SIGINT)
    except (BadUsageError, RunFailedError, NoDeviceError, OSError) as error:
        terminal.print(f"{name}: {error}", style="red")
        sys.exit(2 if isinstance(error, BadUsageError) else 1)
    console.print_summary(summary)
    _say_what_to_look_at(terminal, run.directory, sys.modules[main.__module__].__doc__ or "")


def _execute(run: Run, settings: dict[str, Any], main: Callable[[Run], dict[str, Any]]) -> dict[str, Any]:
    directory = run.directory
    if (directory / "metrics.jsonl").exists() and not (directory / "checkpoints").exists():
        log.info("%s has no checkpoint: the run begins anew", directory)
    write_json(directory / "config.json", settings)
    environment.use_compilation_cache()
    device = environment.device()
    write_json(directory / "environment.json", environment.describe() | _earlier(directory))
    log.info("%s on %s, results in %s", settings["experiment"], device, directory)
    run.begin()
    try:
        summary = main(run)
        run.finish()
    finally:
        run.close()
    write_json(directory / "summary.json", summary)
    return json.loads(to_json(summary))


def _earlier(directory: Path) -> dict[str, Any]:
    """What a resumed run ran on before."""
    path = directory / "environment.json"
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    return {"earlier": [*content.pop("earlier", []), content]}


def _interrupt(number, frame):
    """Ctrl-C; but in JAX's callback of the garbage collector the exception would be lost: there, a moment later."""
    if frame is not None and frame.f_code.co_name == "_xla_gc_callback":
        threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
        return
    raise KeyboardInterrupt


def _say_how_to_go_on(terminal, name: str, directory: Path):
    terminal.print(f'  make experiment NAME={name} ARGS="--resume {shlex.quote(str(directory))}"')


def _say_what_to_look_at(terminal, directory: Path, docstring: str):
    """The pictures, and what the experiment's docstring lets one expect."""
    for picture in sorted(directory.glob("figures/*.png")) + sorted(directory.glob("*.gif")):
        terminal.print(f"picture: {picture}")
    for expected in re.findall(r"^Expect: (.*(?:\n +.*)*)", docstring, re.MULTILINE):
        terminal.print(f"expect: {' '.join(expected.split())}")


@contextlib.contextmanager
def _undo_if_nothing_began(directory: Path, *, is_new: bool):
    """A run that fails before its first row leaves no new folder behind, and one that is resumed as it was.

    So the same command can be given again.
    """
    before = {path: path.read_bytes() for path in directory.glob("*.json*")}
    try:
        yield
    except (BadUsageError, RunFailedError, NoDeviceError, OSError, KeyboardInterrupt):
        rows = directory / "metrics.jsonl"  # it is there, too, where a checkpoint is
        if is_new and not rows.exists():
            shutil.rmtree(directory)
        if not is_new and before.get(rows, b"").startswith(rows.read_bytes() if rows.exists() else b""):
            for path, content in before.items():
                path.write_bytes(content)
        raise


@contextlib.contextmanager
def _lock(directory: Path):
    """Two processes never write into one folder; the lock of a process that died does not hold."""
    lock = filelock.FileLock(directory / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise BadUsageError(f"another process is running in {directory}: wait for it, or name another folder") from None
    try:
        yield
    finally:
        lock.release()


def _make_directory(name: str, out: Path | None) -> Path:
    directory = out or Path("runs") / name
    try:
        if out is None:
            return _make_new_directory(directory)
        directory.mkdir(parents=True, exist_ok=True)
        taken = any(directory.iterdir())
        if not taken:
            (directory / ".lock").touch()
    except OSError as error:
        raise BadUsageError(
            f"cannot write into the folder {directory} ({error.strerror}): name another with --out"
        ) from error
    if taken:
        raise BadUsageError(f"{directory} is there already: name another folder with --out, or remove it")
    return directory


def _make_new_directory(parent: Path) -> Path:
    """Named after the time, and a number where a run of the same second has taken that."""
    stamp = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    for name in itertools.chain([stamp], (f"{stamp}_{number}" for number in itertools.count(2))):
        with contextlib.suppress(FileExistsError):
            (parent / name).mkdir(parents=True)
            return parent / name
    raise AssertionError("unreachable: there is always a next number")
