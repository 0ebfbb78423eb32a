"""A run of an experiment: the folder of its results, its log, its checkpoints and its pictures."""

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, PyTree

from jaxnn.lab import checkpoint, console, environment, gif
from jaxnn.lab.chunks import Chunks
from jaxnn.lab.config import BadUsageError, TrainingOptions
from jaxnn.lab.files import read_json, to_json, write_json

log = logging.getLogger(__name__)


class RunFailedError(Exception):
    """The run cannot go on; the message says why and what may help."""


class Run:
    """The folder of one run, and what an experiment writes into it.

    settings: those of the run; a checkpoint made with other settings is refused.
    """

    def __init__(self, directory: Path, options: TrainingOptions | None = None, settings: dict[str, Any] | None = None):
        self.directory = directory
        self.train_seconds = 0.0  # spent in chunks so far, in this process and in those before
        self._options = options or TrainingOptions()
        self._settings = _plain(settings or {})
        self._console = console.stderr()
        self._log = directory / "metrics.jsonl"
        self._log_size = self._log.stat().st_size if self._log.exists() else 0  # the bytes that count
        self._shown: dict[str, float] = {}
        self._names: set[str] = set()  # of the trainings
        self._chunks: Chunks | None = None  # of the newest
        self._has_tensorboard = self._options.tensorboard or (directory / "tensorboard").exists()
        self._events: Any = None

    def chunks(
        self, state: PyTree, total: int, *, every: int, name: str = "nets", unit: str = "steps", per_step: int = 1
    ) -> Chunks:
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
        self._shown = {}
        state, done = self._restore(name, state)

        def save(step, state, seconds):
            self.train_seconds += seconds
            self._save(name, step, state)
            return self._shown

        profile = self.directory / "profile" if self._options.profile else None
        self._chunks = Chunks(state, done, total, every=every, save=save, unit=unit, per_step=per_step, profile=profile)
        return self._chunks

    def log(self, **row):
        """Appends a row to metrics.jsonl, as `to_json` writes it. With --tensorboard, its numbers are shown there too.

        Rows with a `seed` are told apart by it; `step` is where TensorBoard draws the other numbers. A resumed run must
        write the same rows again: no wall times.
        """
        with self._log.open("r+b" if self._log.exists() else "wb") as file:
            file.seek(self._log_size)
            file.write(to_json(row).encode() + b"\n")
            self._log_size = file.tell()
        if self._events is not None:
            self._show_in_tensorboard([row])
        elif self._has_tensorboard:
            self._rewrite_tensorboard()

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
        """The rows of metrics.jsonl, in order. Raises RunFailedError where one of them is damaged."""
        lines = self._log_rows(self._log_size).splitlines()
        rows = []
        for number, line in enumerate(lines, 1):
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise RunFailedError(f"line {number} of {self._log} is damaged") from error
        return rows

    def _log_rows(self, size: int) -> bytes:
        return self._log.read_bytes()[:size] if self._log.exists() else b""

    def _log_digest(self, size: int) -> str:
        return hashlib.sha256(self._log_rows(size)).hexdigest()

    def say(self, message: str):
        """Prints a line, above the progress bar where there is one."""
        self._console.print(message)

    def record(self, **facts):
        """Adds facts to environment.json, such as the checksums of the data.

        Raises BadUsageError where this or an earlier process of the run has recorded others.
        """
        path, known, facts = self.directory / "environment.json", environment.read(self.directory), _plain(facts)
        changed = [name.replace("_", " ") for name in facts if known.get(name, facts[name]) != facts[name]]
        if changed:
            raise BadUsageError(
                f"{self.directory} cannot go on, for facts that it has recorded have changed ({', '.join(changed)}): "
                "put back what they come from, or begin a new run"
            )
        write_json(path, (read_json(path) or {}) | facts)

    def save_figure(self, name: str, figure):
        """Writes a matplotlib figure to figures/<name>.png."""
        folder = self.directory / "figures"
        folder.mkdir(exist_ok=True)
        figure.savefig(folder / f"{name}.png", dpi=120)

    def save_animation(self, name: str, figures: Iterable):
        """Writes matplotlib figures as the frames of figures/<name>.gif, as `gif.encode` makes it."""
        folder = self.directory / "figures"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.gif").write_bytes(gif.encode(figures))

    def _rewrite_tensorboard(self):
        """All rows of the log so far, into a new file of the folder tensorboard/."""
        from tensorboardX import SummaryWriter  # an extra; `parse_command_line` refuses where it is not

        for path in (self.directory / "tensorboard").glob("events.out.tfevents.*"):
            path.unlink()
        self._events = SummaryWriter(str(self.directory / "tensorboard"))
        self._show_in_tensorboard(self.read_log())

    def _show_in_tensorboard(self, rows: list[dict[str, Any]]):
        for row in rows:
            ending = f"/seed_{row['seed']}" if "seed" in row else ""
            numbers = {name: np.asarray(value) for name, value in row.items() if name not in ("step", "seed")}
            for name, value in numbers.items():
                if value.ndim == 0 and value.dtype.kind in "if":
                    self._events.add_scalar(f"{name}{ending}", value.item(), row.get("step"))
            self._events.flush()  # row by row, so that a full disk fails here: in the writer's own thread it would hang

    def begin(self):
        """Starts writing metrics.jsonl from its beginning; restoring a checkpoint moves on to where its rows end."""
        self._log_size = 0

    def finish(self):
        """Cuts off the rows of an earlier process that this one did not write again: all have been written now."""
        if self._log.exists():
            os.truncate(self._log, self._log_size)
        if self._has_tensorboard and self._events is None:
            self._rewrite_tensorboard()

    def close(self):
        """Ends the progress that is shown. The log stays as it is: checkpoints count on it."""
        if self._chunks is not None:
            self._chunks.close()
        self._close_tensorboard()

    def _close_tensorboard(self):
        if self._events is not None:
            self._events.close()
            self._events = None

    def check_settings(self):
        """Raises BadUsageError where the settings are not those of the checkpoints: config.json has been edited."""
        for _, path in self._checkpoints():
            try:
                saved = checkpoint.read_notes(path).get("settings", {})
            except checkpoint.CheckpointError:  # whoever restores it says so
                continue
            edited = [f"{name} {self._settings.get(name)} (was {saved.get(name)})" for name in self._differing(saved)]
            if edited:
                config = self.directory / "config.json"
                raise BadUsageError(f"{config} has been edited: {', '.join(edited)}; put it back, or begin a new run")

    def _differing(self, saved: dict[str, Any]) -> list[str]:
        """The settings that are not what they were; where the data lie is none of the nets' business."""
        names = (self._settings.keys() | saved.keys()) - {"data_dir"}
        return sorted(name for name in names if saved.get(name) != self._settings.get(name))

    def _checkpoints(self, name: str | None = None) -> list[tuple[int, Path]]:
        """Of one training, or of all, by their steps; any other file in the folder is the user's own."""
        found = []
        for path in (self.directory / "checkpoints").glob("*.safetensors"):
            training, _, step = path.stem.rpartition("-")
            is_ours = step.isdecimal() and path.name == _file_name(training, int(step)) and path.is_file()
            if is_ours and name in (training, None):
                found.append((int(step), path))
        return sorted(found)

    def _restore(self, name: str, state: PyTree) -> tuple[PyTree, int]:
        """What the newest checkpoint holds that can be read, and its step; else `state` and 0."""
        errors = []
        for step, path in reversed(self._checkpoints(name)):
            try:
                restored, notes = checkpoint.load(path, state)
                self._check(path, notes)
            except (checkpoint.CheckpointError, RunFailedError) as error:
                log.warning("%s", error)
                errors.append(error)
                continue
            self._log_size, self.train_seconds = notes["log_bytes"], notes["train_seconds"]
            self._close_tensorboard()  # the log goes on elsewhere: all is to be shown anew
            self._prune(name)  # a kill may have come between the last checkpoint and this
            return restored, step
        if errors:
            raise RunFailedError(f"none of the checkpoints of {name} in {self.directory} can be resumed from")
        return state, 0

    def _check(self, path: Path, notes: dict[str, Any]):
        differing = self._differing(notes.get("settings", {}))
        if differing:
            raise checkpoint.CheckpointError(f"{path} was made with other settings: {', '.join(differing)}")
        if notes.get("log_sha256") != self._log_digest(notes["log_bytes"]):
            raise checkpoint.CheckpointError(
                f"{self._log} is damaged: its rows are not those that {path.name} came after"
            )

    def _save(self, name: str, step: int, state: PyTree):
        """A checkpoint with the place in the log; of this training, one older is kept."""
        with self._log.open("ab") as file:
            os.fsync(file.fileno())
        log = {"log_bytes": self._log_size, "log_sha256": self._log_digest(self._log_size)}
        notes = {**log, "train_seconds": self.train_seconds, "settings": self._settings}
        folder = self.directory / "checkpoints"
        folder.mkdir(exist_ok=True)
        checkpoint.save(folder / _file_name(name, step), state, notes={"step": step, **notes})
        self._prune(name)

    def _prune(self, name: str):
        """Keeps the last two checkpoints of a training."""
        for _, path in self._checkpoints(name)[:-2]:
            path.unlink()


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    """The content as it is read back from JSON."""
    return json.loads(to_json(content))


def _file_name(training: str, step: int) -> str:
    return f"{training}-{step:08d}.safetensors"


def mean_and_sd(name: str, values: ArrayLike | Sequence[float]) -> dict[str, float]:
    """For the summary: the mean over several nets, and as `<name>_sd` their sample standard deviation.

    NaN stands for the deviation of one net, and for both where a value is not finite.
    """
    values = np.asarray(values, float)
    if not np.isfinite(values).all():
        return {name: math.nan, f"{name}_sd": math.nan}
    return {name: values.mean().item(), f"{name}_sd": values.std(ddof=1).item() if len(values) > 1 else math.nan}
