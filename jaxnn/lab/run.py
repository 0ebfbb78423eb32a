"""A run of an experiment: a folder for its results, log, progress, checkpoints, exit status."""

import contextlib
import dataclasses
import io
import itertools
import json
import logging
import os
import shlex
import shutil
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock
import jax
import numpy as np
import PIL.Image
import rich.console
import rich.markup
import rich.progress
import rich.table
from jaxtyping import ArrayLike, PyTree

from jaxnn.lab import checkpoint, environment
from jaxnn.lab.config import BadUsageError, Options, parse_command_line
from jaxnn.lab.environment import NoDeviceError

log = logging.getLogger(__name__)


class StoppedError(Exception):
    """Somebody asked the run to stop, and all that it had is saved."""

    def __init__(self, signal_number: int, step: int, directory: Path):
        super().__init__(f"stopped after step {step}; all is saved in {directory}; go on with")
        self.signal_number, self.directory = signal_number, directory


class RunFailedError(Exception):
    """The run cannot go on; the message says why and what may help."""


class Run:
    """The folder of one run, and what an experiment writes into it."""

    def __init__(self, directory: Path, options: Options | None = None, console: rich.console.Console | None = None):
        self.directory = directory
        self._options = options or Options()
        self._tensorboard = self._options.tensorboard or (directory / "tensorboard").exists()
        self._console = console or _stderr()
        self._last_step = -1  # of a checkpoint; -1 where the run makes none
        self._stop_signal: int | None = None
        self._clock = time.perf_counter()
        self._events = None

    def log(self, **row):
        """Appends one row to metrics.jsonl; its numbers must be finite. With --tensorboard, they are shown there too.

        Rows with a `seed` are told apart by it; `step` is where TensorBoard draws the other numbers.
        """
        line = json.dumps(row, allow_nan=False)
        with (self.directory / "metrics.jsonl").open("a") as file:
            file.write(line + "\n")
        if self._tensorboard:
            self._show_in_tensorboard([row])

    def say(self, message: str):
        """Prints a line, above the progress bar where there is one."""
        self._console.print(message, markup=False)

    def record(self, **facts):
        """Adds facts to environment.json, such as the checksums of the data."""
        path = self.directory / "environment.json"
        _write_json(path, json.loads(path.read_text()) | facts)

    def read_log(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, in order."""
        return [json.loads(line) for line in (self.directory / "metrics.jsonl").read_text().splitlines()]

    def restore(self, tree: PyTree, stops: Sequence[int]) -> tuple[PyTree, int]:
        """What the newest checkpoint at one of the steps `stops` holds, and that step; else `tree` and 0.

        The log is cut back to what it was then.
        """
        self._clock = time.perf_counter()
        self._last_step = 0
        errors = []
        for path in reversed(self._checkpoints()):
            step = int(path.name)
            if step not in stops:
                continue
            try:
                restored, notes = checkpoint.load(path, tree)
                self._cut_log(notes["log_bytes"])
            except checkpoint.CheckpointError as error:
                log.warning("%s", error)
                errors.append(error)
                continue
            self._keep_checkpoints(lambda other, step=step: other <= step)
            self._clock -= notes["seconds"]
            self._last_step = step
            return restored, step
        if errors:
            raise RunFailedError(f"none of the checkpoints in {self.directory} can be read")
        self._cut_log(0)
        self._keep_checkpoints(lambda other: False)
        return tree, 0

    def train_seconds(self) -> float:
        """Seconds since `restore`, and those up to the checkpoint that it found."""
        return time.perf_counter() - self._clock

    def checkpoint(self, step: int, tree: PyTree):
        """Saves `tree` and the place in the log, keeps one older checkpoint, and stops if somebody asked for that."""
        with (self.directory / "metrics.jsonl").open("a") as file:
            os.fsync(file.fileno())
        notes = {"log_bytes": (self.directory / "metrics.jsonl").stat().st_size, "seconds": self.train_seconds()}
        checkpoint.save(self.directory / "checkpoints" / f"{step:08d}", tree, notes=notes)
        kept = {int(path.name) for path in self._checkpoints()[-2:]}
        self._keep_checkpoints(lambda other: other in kept)
        self._last_step = step
        if self._stop_signal is not None:
            raise StoppedError(self._stop_signal, step, self.directory)

    def _checkpoints(self) -> list[Path]:
        folders = (self.directory / "checkpoints").glob("*")
        return sorted((path for path in folders if path.name.isdecimal()), key=lambda path: int(path.name))

    def _keep_checkpoints(self, keep: Callable[[int], bool]):
        """Removes the others, and what an interrupted save has left."""
        for path in (self.directory / "checkpoints").glob("*"):
            if not (path.name.isdecimal() and keep(int(path.name))):
                shutil.rmtree(path)

    def _cut_log(self, size: int):
        path = self.directory / "metrics.jsonl"
        if (path.stat().st_size if path.exists() else 0) < size:
            raise checkpoint.CheckpointError(f"{path} is shorter than when the checkpoint was made")
        if path.exists():
            os.truncate(path, size)
        if self._tensorboard:
            self.rewrite_tensorboard()

    def rewrite_tensorboard(self):
        """Makes the folder tensorboard/ anew from metrics.jsonl."""
        self._events = None
        shutil.rmtree(self.directory / "tensorboard", ignore_errors=True)
        if (self.directory / "metrics.jsonl").exists():
            self._show_in_tensorboard(self.read_log())

    def _show_in_tensorboard(self, rows: list[dict[str, Any]]):
        from tensorboardX import SummaryWriter  # an extra

        if self._events is None:
            self._events = SummaryWriter(str(self.directory / "tensorboard"))
        for row in rows:
            ending = f"/seed_{row['seed']}" if "seed" in row else ""
            for name in row.keys() - {"step", "seed"}:
                if isinstance(row[name], int | float):
                    self._events.add_scalar(f"{name}{ending}", row[name], row.get("step"))
        self._events.flush()

    def profile(self, steps: Callable[[], Any]):
        """With --profile, calls `steps` twice, to compile and then under JAX's profiler; else does nothing."""
        if not self._options.profile:
            return
        started, folder = time.perf_counter(), self.directory / "profile"
        shutil.rmtree(folder, ignore_errors=True)
        jax.block_until_ready(steps())
        with jax.profiler.trace(str(folder), create_perfetto_trace=True):
            jax.block_until_ready(steps())
        (trace,) = folder.rglob("perfetto_trace.json.gz")
        log.info("open %s with https://ui.perfetto.dev", trace)
        self._clock += time.perf_counter() - started  # this was no training

    @contextlib.contextmanager
    def _signals_wait_for_a_checkpoint(self):
        def stop(number, frame):
            signal.signal(number, earlier[number])
            self._stop_signal = number
            log.info("stopping at the next checkpoint (the same signal again: at once)")

        earlier = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)
        if self._stop_signal is not None:
            raise StoppedError(self._stop_signal, self._last_step, self.directory)

    def save_figure(self, name: str, figure):
        """Writes a matplotlib figure to figures/<name>.png."""
        folder = self.directory / "figures"
        folder.mkdir(exist_ok=True)
        figure.savefig(folder / f"{name}.png", dpi=120)

    def save_animation(self, name: str, figures: Iterable):
        """Writes matplotlib figures of one size as the frames of <name>.gif; the last one stays for longer."""
        frames = []
        for figure in figures:
            content = io.BytesIO()
            figure.savefig(content, format="png", dpi=80)
            frames.append(PIL.Image.open(content).convert("P", palette=PIL.Image.Palette.ADAPTIVE))
        durations = [300] * (len(frames) - 1) + [3000]  # milliseconds
        path = self.directory / f"{name}.gif"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0)

    @contextlib.contextmanager
    def progress(self, total: int, *, unit: str, done: int = 0) -> Iterator[Callable[..., None]]:
        """Yields `report(done, **values)`: a bar where there is a terminal, a line per call where there is none.

        `done` out of `total` is counted in `unit`s, whose rate is shown; so many were done before. In a run with
        checkpoints, Ctrl-C and SIGTERM wait for the next one.
        """
        with contextlib.ExitStack() as stack:
            if self._last_step >= 0:
                stack.enter_context(self._signals_wait_for_a_checkpoint())
            yield stack.enter_context(self._show_progress(total, unit, done))

    @contextlib.contextmanager
    def _show_progress(self, total: int, unit: str, done: int):
        started, done_before = time.perf_counter(), done

        def describe(done, values):
            rate = (done - done_before) / (time.perf_counter() - started)
            numbers = {
                name.replace("_", " "): f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
                for name, value in values.items()
            }
            speed = f"{rate:,.{0 if rate >= 10 else 1}f} {unit}/s"
            return "  ".join([speed, *(f"{name} {number}" for name, number in numbers.items())])

        if not self._console.is_terminal:
            yield lambda done, **values: self._console.print(f"{done / total:4.0%}  {describe(done, values)}")
            return
        columns = (
            rich.progress.BarColumn(bar_width=12),
            rich.progress.TaskProgressColumn(),
            rich.progress.TimeRemainingColumn(elapsed_when_finished=True),
            rich.progress.TextColumn("{task.description}"),
        )
        with rich.progress.Progress(*columns, console=self._console) as bar:
            task = bar.add_task("compiling", total=total, completed=done_before)
            yield lambda done, **values: bar.update(task, completed=done, description=describe(done, values))


def mean_and_sd(name: str, values: ArrayLike) -> dict[str, float | None]:
    """For the summary: the mean over several nets, and as `<name>_sd` their sample standard deviation.

    None stands for the deviation of one net, and for both where a value is not finite.
    """
    values = np.asarray(values, float)
    if not np.isfinite(values).all():
        return {name: None, f"{name}_sd": None}
    return {name: values.mean().item(), f"{name}_sd": values.std(ddof=1).item() if len(values) > 1 else None}


def load(directory: str | os.PathLike) -> tuple[types.SimpleNamespace, Any]:
    """The configuration of a run, and what its newest checkpoint holds, such as `state.params`, for use in a script.

    Raises CheckpointError where there is none, or it cannot be read.
    """
    directory = Path(directory)
    try:
        content = json.loads((directory / "config.json").read_text())
        newest = Run(directory)._checkpoints()[-1]
    except (OSError, ValueError, IndexError) as error:
        raise checkpoint.CheckpointError(f"{directory} is no folder of a run with a checkpoint") from error
    config = {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
    return types.SimpleNamespace(**config), checkpoint.load(newest)[0]


def start(
    config_class: type,
    main: Callable[[Any, Run], dict[str, Any]],
    *,
    quick: Any,
):
    """Runs `main(config, run)`, which returns the summary, with the configuration of the command line.

    `config_class` is a flat frozen dataclass whose comments are the help; it raises ValueError for settings that cannot
    be; its method `extends(earlier)`, where it has one, says whether --resume may go on with a run of the configuration
    `earlier` under this one. `quick` is the configuration of --quick. The process ends with 2 for bad usage, with 1
    where the run failed, and with 128 + its number after a signal. A setting `num_devices` makes so many of the CPU.
    """
    name = Path(sys.argv[0]).stem
    console = _stderr()
    _log_to(console)
    signal.signal(signal.SIGINT, _interrupt)
    run = None
    try:
        options, config, extended = parse_command_line(name, config_class, quick)
        run = Run(options.resume or _make_directory(name, options.out), options, console)
        with _lock(run.directory):
            if (run.directory / "summary.json").exists() and not extended:
                log.info("%s is finished already", run.directory)
                if options.tensorboard:
                    run.rewrite_tensorboard()
                summary = json.loads((run.directory / "summary.json").read_text())
            else:
                with _undo_if_nothing_began(run.directory, is_new=options.resume is None):
                    summary = _execute(name, config, main, run, options)
    except StoppedError as error:
        console.print(f"{name}: {error}", markup=False)
        _say_how_to_go_on(console, name, error.directory)
        sys.exit(128 + error.signal_number)
    except KeyboardInterrupt:
        console.show_cursor()
        console.print(f"{name}: interrupted", markup=False)
        if run and (run.directory / "checkpoints").exists():
            _say_how_to_go_on(console, name, run.directory)
        sys.exit(128 + signal.SIGINT)
    except (BadUsageError, RunFailedError, NoDeviceError, OSError) as error:
        console.print(f"{name}: {error}", style="red", markup=False)
        sys.exit(2 if isinstance(error, BadUsageError) else 1)
    _print_summary(summary)


def _interrupt(number, frame):
    """Ctrl-C; but in JAX's callback of the garbage collector the exception would be lost: there, a moment later."""
    if frame is not None and frame.f_code.co_name == "_xla_gc_callback":
        threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
        return
    raise KeyboardInterrupt


def _say_how_to_go_on(console, name: str, directory: Path):
    console.print(f'  make experiment NAME={name} ARGS="--resume {shlex.quote(str(directory))}"', markup=False)


def _execute(name, config, main, run, options) -> dict[str, Any]:
    _write_json(run.directory / "config.json", {"experiment": name, **dataclasses.asdict(config)})
    (run.directory / "summary.json").unlink(missing_ok=True)
    environment.use_compilation_cache()
    environment.use_cpu_devices(getattr(config, "num_devices", 1))
    if not (run.directory / "checkpoints").exists():
        if (run.directory / "metrics.jsonl").exists():
            log.info("%s has no checkpoint: the run begins anew", run.directory)
        run._cut_log(0)
    device = environment.device()
    _write_json(run.directory / "environment.json", environment.describe() | _earlier(run.directory))
    log.info("%s on %s, results in %s", name, device, run.directory)
    summary = main(config, run)
    if options.profile and not (run.directory / "profile").exists():
        log.warning("--profile: %s has no training that it could show", name)
    _write_json(run.directory / "summary.json", summary)
    return summary


def _earlier(directory: Path) -> dict[str, Any]:
    """What a resumed run ran on before."""
    path = directory / "environment.json"
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    return {"earlier": [*content.pop("earlier", []), content]}


@contextlib.contextmanager
def _undo_if_nothing_began(directory: Path, *, is_new: bool):
    """A run that fails before its first row leaves no new folder behind, and one that is resumed as it was.

    So the same command can be given again.
    """
    before = {path: path.read_bytes() for path in directory.glob("*.json*")}
    try:
        yield
    except (BadUsageError, RunFailedError, NoDeviceError, OSError, KeyboardInterrupt):
        log, checkpoints = directory / "metrics.jsonl", directory / "checkpoints"
        if is_new and not log.exists() and not checkpoints.exists():
            shutil.rmtree(directory)
        if not is_new and before.get(log, b"").startswith(log.read_bytes() if log.exists() else b""):
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


def _write_json(path: Path, content: dict):
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2, default=str, allow_nan=False) + "\n")
    part.replace(path)  # whoever reads finds all of it or none


def _stderr() -> rich.console.Console:
    return rich.console.Console(stderr=True, highlight=False, soft_wrap=True)


class _Printer(logging.Handler):
    """Prints a message as it is, on lines as long as they are."""

    def __init__(self, console: rich.console.Console):
        super().__init__()
        self._console = console

    def emit(self, record):
        """Above a progress bar, where there is one."""
        self._console.print(record.getMessage(), markup=False)


def _log_to(console: rich.console.Console):
    """What jaxnn's rooms have to say goes to the terminal."""
    logger = logging.getLogger("jaxnn")
    logger.handlers = [_Printer(console)]
    logger.setLevel(logging.INFO)
    logger.propagate = False  # TFDS brings a handler of its own to the root


def _print_summary(summary: dict[str, Any]):
    table = rich.table.Table(show_header=False, box=None)
    for name, value in summary.items():
        table.add_row(rich.markup.escape(name), f"{value:.6g}" if isinstance(value, float) else str(value))
    rich.console.Console(highlight=False).print(table)
