"""From the command line to the exit status: an experiment as a process."""

import contextlib
import dataclasses
import itertools
import json
import logging
import math
import os
import re
import shlex
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock
import jax

from jaxnn.lab import console, environment, style
from jaxnn.lab.chunks import StoppedError
from jaxnn.lab.config import BadUsageError, TrainingOptions, parse_command_line
from jaxnn.lab.environment import NoDeviceError
from jaxnn.lab.files import read_json, to_json, write_json, write_whole
from jaxnn.lab.run import Run, RunFailedError

log = logging.getLogger(__name__)

_FAILURES = (BadUsageError, RunFailedError, NoDeviceError, OSError)  # that the user can do something about


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
    earlier = signal.signal(signal.SIGINT, _make_interrupt())
    run = None
    try:
        options, config = parse_command_line(name, config_class, quick, resumable=resumable)
        settings = {"experiment": name, **dataclasses.asdict(config)}
        float64 = jax.enable_x64(True) if x64 else contextlib.nullcontext()
        with _folder(name, options) as directory, _lock(directory), float64:
            run = Run(directory, options, settings)
            run.check_settings()
            summary = read_json(directory / "summary.json")
            if not summary:
                with _undo_if_nothing_began(directory, is_new=options.resume is None):
                    summary = _execute(run, settings, lambda run: main(config, run))
            else:
                log.info("%s is finished already", directory)
                if options.tensorboard:
                    run.finish()
                    run.close()
        console.print_summary(summary)
        _say_what_to_look_at(terminal, directory, sys.modules[main.__module__].__doc__ or "")
    except StoppedError as error:
        terminal.print(f"{name}: {error}; go on with")
        _say_how_to_go_on(terminal, name, run)
        sys.exit(128 + error.signal_number)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        terminal.show_cursor()
        terminal.print(f"{name}: interrupted")
        _say_how_to_go_on(terminal, name, run)
        _exit_at_once(128 + signal.SIGINT)
    except _FAILURES as error:
        terminal.print(f"{name}: {_in_words(error, run)}", style="red")
        if isinstance(error, OSError):
            _say_how_to_go_on(terminal, name, run)
        sys.exit(2 if isinstance(error, BadUsageError) else 1)
    finally:
        signal.signal(signal.SIGINT, earlier)


def _execute(run: Run, settings: dict[str, Any], main: Callable[[Run], dict[str, Any]]) -> dict[str, Any]:
    directory = run.directory
    if (directory / "metrics.jsonl").exists() and not (directory / "checkpoints").exists():
        log.info("%s has no checkpoint: the run begins anew", directory)
    if not (directory / "config.json").exists():  # a resumed run keeps its settings
        write_json(directory / "config.json", settings)
    environment.use_compilation_cache()
    environment.use_all_cores()
    style.use()
    device = environment.device()
    write_json(directory / "environment.json", environment.describe() | _earlier(directory))
    log.info("%s on %s, results in %s", settings["experiment"], device, directory)
    run.begin()
    try:
        summary = main(run)
        run.finish()
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            raise RunFailedError(
                f"{device} has not enough memory: give fewer seeds or smaller nets ({error})"
            ) from error
        raise
    finally:
        run.close()
    write_json(directory / "summary.json", summary)
    return json.loads(to_json(summary))


def _earlier(directory: Path) -> dict[str, Any]:
    """What a resumed run ran on before."""
    content = read_json(directory / "environment.json")
    return {"earlier": [*content.pop("earlier", []), content]} if content else {}


def _make_interrupt() -> Callable:
    """What Ctrl-C does: raises KeyboardInterrupt; again within a second, while that tidies up, nothing."""
    last = -math.inf

    def interrupt(number, frame):
        nonlocal last
        calls = {caller.f_code.co_name for caller, _ in traceback.walk_stack(frame)}
        if "_xla_gc_callback" in calls:  # the exception would be lost there: a moment later
            threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
        elif time.monotonic() > last + 1:
            last = time.monotonic()
            raise KeyboardInterrupt

    return interrupt


def _exit_at_once(status: int):
    """Without Python's own end, which crashes where JAX is still compiling."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _in_words(error: Exception, run: Run | None) -> str:
    """What failed; an error of the disk is told with a path, which it lacks where it comes from a write."""
    if isinstance(error, OSError) and error.strerror and run:
        return f"{error.strerror}: {error.filename or run.directory}"
    return str(error)


def _say_how_to_go_on(terminal, name: str, run: Run | None):
    """The command for a run that has a checkpoint, as a shell takes it, whatever the folder is called."""
    if run is None or not (run.directory / "checkpoints").exists():
        return
    python = Path(sys.executable)
    if Path.cwd() in python.parents[1:]:
        python = python.relative_to(Path.cwd())
    program = ["-m", "experiments", name] if sys.argv[0] == name else [sys.argv[0]]
    terminal.file.write(f"  {shlex.join([str(python), *program, '--resume', str(run.directory)])}\n")


def _say_what_to_look_at(terminal, directory: Path, docstring: str):
    """The pictures, and what the experiment's docstring lets one expect."""
    for picture in sorted(directory.glob("figures/*.*")):
        terminal.print(f"picture: {picture}")
    for expected in re.findall(r"^Expect: (.*(?:\n +.*)*)", docstring, re.MULTILINE):
        terminal.print(f"expect: {' '.join(expected.split())}")


@contextlib.contextmanager
def _undo_if_nothing_began(directory: Path, *, is_new: bool):
    """A run that fails before its first row is undone: a new folder is emptied, a resumed one restored.

    So the same command can be given again.
    """
    environment, rows = directory / "environment.json", directory / "metrics.jsonl"
    before = {path: path.read_bytes() for path in (environment, rows) if path.exists()}
    try:
        yield
    except (*_FAILURES, KeyboardInterrupt):
        if is_new and not rows.exists():
            for path in directory.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif environment in before and before.get(rows) == (rows.read_bytes() if rows.exists() else None):
            write_whole(environment, before[environment])
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


@contextlib.contextmanager
def _folder(name: str, options: TrainingOptions) -> Iterator[Path]:
    """That of the run. Of the folders that are made for it, those that are empty at the end are removed again."""
    if options.resume:
        yield options.resume
        return
    wanted = options.out or Path("runs") / name
    made = [folder for folder in (wanted, *wanted.parents) if not os.path.exists(folder)]
    try:
        try:
            if options.out:
                _take(wanted)
            else:
                wanted = _make_new_directory(wanted)
                made.insert(0, wanted)
        except OSError as error:
            raise BadUsageError(
                f"cannot write into the folder {wanted} ({error.strerror}): name another with --out"
            ) from error
        yield wanted
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _take(directory: Path):
    """A folder that is new, empty, or has only what a run leaves that was killed before it wrote its settings."""
    directory.mkdir(parents=True, exist_ok=True)
    if {path.name for path in directory.iterdir()} - {".lock", ".config.json.part"}:
        raise BadUsageError(f"{directory} is there already: name another folder with --out, or remove it")
    (directory / ".lock").touch()


def _make_new_directory(parent: Path) -> Path:
    """Named after the time, and a number where a run of the same second has taken that."""
    stamp = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    for name in itertools.chain([stamp], (f"{stamp}_{number}" for number in itertools.count(2))):
        with contextlib.suppress(FileExistsError):
            (parent / name).mkdir(parents=True)
            return parent / name
    raise AssertionError("unreachable: there is always a next number")
