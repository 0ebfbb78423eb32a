"""A run of an experiment: the folder of its results, its log, its pictures, and the chunks of its training."""

import contextlib
import io
import itertools
import json
import logging
import math
import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import PIL.Image
from jaxtyping import ArrayLike, PyTree

from jaxnn.lab import checkpoint, console
from jaxnn.lab.config import TrainingOptions

log = logging.getLogger(__name__)


class StoppedError(Exception):
    """Somebody asked the run to stop, and all that it had is saved."""

    def __init__(self, signal_number: int, step: int, directory: Path):
        super().__init__(f"stopped after step {step}; all is saved in {directory}; go on with")
        self.signal_number, self.directory = signal_number, directory


class RunFailedError(Exception):
    """The run cannot go on; the message says why and what may help."""


class Run:
    """The folder of one run, and what an experiment writes into it.

    settings: those of the run; every checkpoint carries them, and none of other settings is gone on with.
    """

    def __init__(self, directory: Path, options: TrainingOptions | None = None, settings: dict[str, Any] | None = None):
        self.directory = directory
        self.train_seconds = 0.0  # spent in chunks so far, in this process and in those before
        self._options = options or TrainingOptions()
        self._settings = json.loads(to_json(settings or {}))
        self._console = console.stderr()
        self._log = directory / "metrics.jsonl"
        self._log_size = self._log.stat().st_size if self._log.exists() else 0  # the bytes that count
        self._shown: dict[str, float] = {}
        self._names: set[str] = set()  # of the trainings
        self._stop_signal: int | None = None
        self._events = None
        self._open = contextlib.ExitStack()

    def chunks(
        self, state: PyTree, total: int, *, every: int, name: str = "nets", unit: str = "steps", per_step: int = 1
    ) -> "Chunks":
        """The chunks of a training of `total` steps, each up to a multiple of `every`, that are still to be done.

        They begin behind the newest checkpoint. After each, its end is saved; progress is shown; Ctrl-C and SIGTERM
        stop the run.

        state: any pytree of arrays at step 0.
        name: tells one training of the run from another.
        unit, per_step: what progress counts, and how many of it a step has.
        """
        if name in self._names:
            raise ValueError(f"one training of the run is called {name} already: give each a name of its own")
        self._names.add(name)
        return Chunks(self, name, state, total, every, unit, per_step)

    def log(self, **row):
        """Appends a row to metrics.jsonl, as `to_json` writes it. With --tensorboard, its numbers are shown there too.

        Rows with a `seed` are told apart by it; `step` is where TensorBoard draws the other numbers. A resumed run must
        write the same rows again: no wall times.
        """
        with self._log.open("r+b" if self._log.exists() else "wb") as file:
            file.seek(self._log_size)
            file.write(to_json(row).encode() + b"\n")
            self._log_size = file.tell()
        if self._options.tensorboard or (self.directory / "tensorboard").exists():
            self.show_in_tensorboard([row])

    def log_seeds(self, seed: int, **columns: ArrayLike | str):
        """A row for each net of the seeds `seed`, `seed` + 1 ...; progress shows the means.

        columns: a value for each net, along the first axis, or one for all.
        """
        arrays = {name: np.asarray(column) for name, column in columns.items()}
        num_nets = max(len(array) for array in arrays.values() if array.ndim)
        for net in range(num_nets):
            self.log(seed=seed + net, **{name: array[net] if array.ndim else array for name, array in arrays.items()})
        means = {name: array[np.isfinite(array)] for name, array in arrays.items() if array.dtype.kind == "f"}
        self._shown = {name: values.mean().item() for name, values in means.items() if len(values)}

    def read_log(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, in order."""
        if not self._log.exists():
            return []
        return [json.loads(line) for line in self._log.read_bytes()[: self._log_size].splitlines()]

    def say(self, message: str):
        """Prints a line, above the progress bar where there is one."""
        self._console.print(message)

    def record(self, **facts):
        """Adds facts to environment.json, such as the checksums of the data."""
        path = self.directory / "environment.json"
        write_json(path, json.loads(path.read_text()) | facts)

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

    def show_in_tensorboard(self, rows: list[dict[str, Any]]):
        """Writes rows of the log into the folder tensorboard/, the first time in a process all that there are."""
        from tensorboardX import SummaryWriter  # an extra

        if self._events is None:
            shutil.rmtree(self.directory / "tensorboard", ignore_errors=True)
            self._events = SummaryWriter(str(self.directory / "tensorboard"))
            rows = self.read_log()
        for row in rows:
            ending = f"/seed_{row['seed']}" if "seed" in row else ""
            numbers = {name: np.asarray(value) for name, value in row.items() if name not in ("step", "seed")}
            for name, value in numbers.items():
                if value.ndim == 0 and value.dtype.kind in "if":
                    self._events.add_scalar(f"{name}{ending}", value.item(), row.get("step"))
        self._events.flush()

    def begin(self):
        """Rows that an earlier process wrote count only as far as its checkpoints say."""
        self._log_size = 0

    def finish(self):
        """Cuts off the rows of an earlier process that this one did not write again: all have been written now."""
        if self._log.exists():
            os.truncate(self._log, self._log_size)

    def close(self):
        """Ends the progress that is shown. The log stays as it is: checkpoints count on it."""
        self._open.close()
        self._close_tensorboard()

    def _close_tensorboard(self):
        if self._events is not None:
            self._events.close()
            self._events = None

    def _checkpoints(self, name: str) -> list[tuple[int, Path]]:
        """Of this training, by their steps."""
        paths = (self.directory / "checkpoints").glob("*.safetensors")
        parts = [(*path.stem.rpartition("-")[::2], path) for path in paths]
        return sorted((int(step), path) for training, step, path in parts if training == name and step.isdecimal())

    def _restore(self, name: str, state: PyTree) -> tuple[PyTree, int]:
        """What the newest checkpoint holds that can be read, and its step; else `state` and 0."""
        errors = []
        for step, path in reversed(self._checkpoints(name)):
            try:
                restored, notes = checkpoint.load(path, state)
                self._check(path, notes)
            except checkpoint.CheckpointError as error:
                log.warning("%s", error)
                errors.append(error)
                continue
            self._log_size, self.train_seconds = notes["log_bytes"], notes["train_seconds"]
            self._close_tensorboard()  # the log goes on elsewhere: it is to be written anew
            return restored, step
        if errors:
            raise RunFailedError(f"none of the checkpoints of {name} in {self.directory} can be gone on with")
        return state, 0

    def _check(self, path: Path, notes: dict[str, Any]):
        own, saved = self._settings, notes.get("settings", {})
        differing = sorted(name for name in own if name != "data_dir" and saved.get(name) != own[name])
        if differing:
            raise checkpoint.CheckpointError(f"{path} was made with other settings: {', '.join(differing)}")
        if notes["log_bytes"] > (self._log.stat().st_size if self._log.exists() else 0):
            raise checkpoint.CheckpointError(f"{self._log} is shorter than when {path.name} was made")

    def _save(self, name: str, step: int, state: PyTree):
        """A checkpoint with the place in the log; of this training, one older is kept."""
        with self._log.open("ab") as file:
            os.fsync(file.fileno())
        notes = {"log_bytes": self._log_size, "train_seconds": self.train_seconds, "settings": self._settings}
        folder = self.directory / "checkpoints"
        folder.mkdir(exist_ok=True)
        checkpoint.save(folder / f"{name}-{step:08d}.safetensors", state, notes={"step": step, **notes})
        for _, path in self._checkpoints(name)[:-2]:
            path.unlink()

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

    @contextlib.contextmanager
    def _traced(self):
        folder = self.directory / "profile"
        shutil.rmtree(folder, ignore_errors=True)
        with jax.profiler.trace(str(folder), create_perfetto_trace=True):
            yield
        (trace,) = folder.rglob("perfetto_trace.json.gz")
        log.info("open %s with https://ui.perfetto.dev", trace)


class Chunks:
    """Iterates over the chunks of a training that are still to be done, as (the step at its end, its number of steps).

    `state` is where the training stands: the body of the loop puts there what its chunk has made of it.
    """

    def __init__(self, run: Run, name: str, state: PyTree, total: int, every: int, unit: str, per_step: int):
        self._run, self._name, self._unit, self._per_step = run, name, unit, per_step
        self.state, done = run._restore(name, state)
        self._stops = [done, *range(done - done % every + every, total, every), total] if done < total else [done]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """One after the other; each is saved before the next begins."""
        run, chunks = self._run, list(itertools.pairwise(self._stops))
        if not chunks:
            return
        total, done = (step * self._per_step for step in (self._stops[-1], self._stops[0]))
        run._shown, started = {}, time.perf_counter() - run.train_seconds
        with run._open:
            run._open.enter_context(run._signals_wait_for_a_checkpoint())
            report = run._open.enter_context(console.progress(run._console, total, unit=self._unit, done=done))
            for number, (start, step) in enumerate(chunks):
                traced = run._options.profile and number == min(1, len(chunks) - 1)  # the first one compiles
                with run._traced() if traced else contextlib.nullcontext():
                    yield step, step - start
                    jax.block_until_ready(self.state)
                run.train_seconds = time.perf_counter() - started
                run._save(self._name, step, self.state)
                report(step * self._per_step, {"step": step, **run._shown})
                if run._stop_signal is not None:
                    break
        if run._stop_signal is not None:  # a signal that came after the last chunk counts, too
            raise StoppedError(run._stop_signal, step, run.directory)


def mean_and_sd(name: str, values: ArrayLike | Sequence[float]) -> dict[str, float]:
    """For the summary: the mean over several nets, and as `<name>_sd` their sample standard deviation.

    NaN stands for the deviation of one net, and for both where a value is not finite.
    """
    values = np.asarray(values, float)
    if not np.isfinite(values).all():
        return {name: math.nan, f"{name}_sd": math.nan}
    return {name: values.mean().item(), f"{name}_sd": values.std(ddof=1).item() if len(values) > 1 else math.nan}


def to_json(content: Any, **options) -> str:
    """JSON, which has neither arrays nor NaN nor infinity: lists, null, and "inf" or "-inf" stand for them.

    Numbers of low precision get the digits that tell them from their neighbours: float32's 0.1 is 0.1.
    """

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, np.ndarray | np.generic | jax.Array):
            array = np.asarray(value)
            if array.dtype.kind in "fV" and array.dtype.itemsize < 8:
                array = array.astype(np.float32).astype(str).astype(float)
            return plain(array.tolist())
        if isinstance(value, float) and not math.isfinite(value):
            return None if math.isnan(value) else str(value)
        return str(value) if isinstance(value, Path) else value

    return json.dumps(plain(content), allow_nan=False, **options)


def write_json(path: Path, content: dict[str, Any]):
    """The content as a file: whoever reads finds all of it or none."""
    part = path.with_suffix(".part")
    part.write_text(to_json(content, indent=2) + "\n")
    part.replace(path)
