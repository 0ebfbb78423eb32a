"""A run of an experiment: configuration from the command line, a folder for its results, progress, exit status."""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import itertools
import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import jax
import rich.console
import rich.progress
import rich.table
import tyro

log = logging.getLogger(__name__)

_PACKAGES = ("jax", "jaxlib", "optax", "flax", "numpy", "tensorflow-datasets")


class BadUsageError(Exception):
    """What the user asked for cannot be done; the message says why and how to mend it."""


class RunFailedError(Exception):
    """The run cannot go on; the message says why and what may help."""


@dataclasses.dataclass(frozen=True)
class _Options:
    out: Path | None = None  # folder for the results, made anew (default: runs/<experiment>/<time>)
    quick: bool = False  # toy size: a few seconds, to see that everything works


class Run:
    """The folder of one run, and what an experiment writes into it."""

    def __init__(self, directory: Path, console: rich.console.Console | None = None):
        self.directory = directory
        self._console = console or _stderr()

    def log(self, **row):
        """Appends one row to metrics.jsonl; its numbers must be finite."""
        line = json.dumps(row, allow_nan=False)
        with (self.directory / "metrics.jsonl").open("a") as file:
            file.write(line + "\n")

    def read_log(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, in order."""
        return [json.loads(line) for line in (self.directory / "metrics.jsonl").read_text().splitlines()]

    def save_figure(self, name: str, figure):
        """Writes a matplotlib figure to figures/<name>.png."""
        folder = self.directory / "figures"
        folder.mkdir(exist_ok=True)
        figure.savefig(folder / f"{name}.png", dpi=120)

    @contextlib.contextmanager
    def progress(self, total: int, *, unit: str) -> Iterator[Callable[..., None]]:
        """Yields `report(done, **values)`: a bar where there is a terminal, a line per call where there is none.

        `done` out of `total` is counted in `unit`s, whose rate is shown.
        """
        started = time.perf_counter()

        def describe(done, values):
            rate = done / (time.perf_counter() - started)
            numbers = "".join(f"  {name.replace('_', ' ')} {value:.4g}" for name, value in values.items())
            return f"{rate:,.0f} {unit}/s{numbers}"

        if not self._console.is_terminal:
            yield lambda done, **values: self._console.print(f"{done / total:4.0%}  {describe(done, values)}")
            return
        columns = (
            rich.progress.BarColumn(bar_width=24),
            rich.progress.TaskProgressColumn(),
            rich.progress.TimeRemainingColumn(elapsed_when_finished=True),
            rich.progress.TextColumn("{task.description}"),
        )
        with rich.progress.Progress(*columns, console=self._console) as bar:
            task = bar.add_task("compiling", total=total)
            yield lambda done, **values: bar.update(task, completed=done, description=describe(done, values))


def require(config: Any, name: str, condition: bool, allowed: str):
    """Raises the ValueError that `start` turns into bad usage: this field of the configuration must be `allowed`."""
    if not condition:
        raise ValueError(f"--{name.replace('_', '-')} must be {allowed}, not {getattr(config, name)}")


def start(
    config_class: type,
    main: Callable[[Any, Run], dict[str, Any]],
    *,
    quick: Any,
    data_sha256: dict[str, str] | None = None,
):
    """Runs `main(config, run)`, which returns the summary, with the configuration of the command line.

    `config_class` is a flat frozen dataclass whose comments are the help; it raises ValueError for settings that cannot
    be. `quick` is the configuration of --quick. The process ends with 2 for bad usage, with 1 where the run failed.
    """
    name = Path(sys.argv[0]).stem
    console = _stderr()
    _log_to(console)
    try:
        options, config = _parse(name, config_class, quick)
        run = Run(_make_directory(name, options.out), console)
        _write_json(run.directory / "config.json", {"experiment": name, **dataclasses.asdict(config)})
        _use_compilation_cache()
        device = _device()
        environment = _environment() | ({"data_sha256": data_sha256} if data_sha256 else {})
        _write_json(run.directory / "environment.json", environment)
        log.info("%s on %s, results in %s", name, device, run.directory)
        summary = main(config, run)
        _write_json(run.directory / "summary.json", summary)
    except (BadUsageError, RunFailedError, OSError) as error:
        console.print(f"{name}: {error}", style="red", markup=False)
        sys.exit(2 if isinstance(error, BadUsageError) else 1)
    _print_summary(summary)


def _parse(name, config_class, quick):
    default = quick if "--quick" in sys.argv[1:] else config_class()
    arguments = dataclasses.make_dataclass(
        "Arguments",
        [("run", _Options, _Options()), ("config", config_class, default)],
        frozen=True,
    )
    try:
        parsed = tyro.cli(
            arguments,
            prog=f"python -m experiments {name}",
            description=sys.modules["__main__"].__doc__,
            config=(tyro.conf.OmitArgPrefixes,),
        )
    except ValueError as error:
        raise BadUsageError(str(error)) from error
    return parsed.run, parsed.config


def _make_directory(name: str, out: Path | None) -> Path:
    directory = out or Path("runs") / name
    try:
        if out is None:
            return _make_new_directory(directory)
        directory.mkdir(parents=True, exist_ok=True)
        taken = any(directory.iterdir())
    except OSError as error:
        raise BadUsageError(
            f"cannot make the folder {directory} ({error.strerror}): name another with --out"
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
    path.write_text(json.dumps(content, indent=2, default=str, allow_nan=False) + "\n")


def _use_compilation_cache():
    """Compiled programs are kept, so that the next run starts at once; JAX_COMPILATION_CACHE_DIR says where else."""
    if jax.config.jax_compilation_cache_dir is None:  # pyrefly: ignore[missing-attribute]
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxnn" / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _environment() -> dict[str, Any]:
    return {
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "num_cores": _num_cores(),
        "packages": {package: importlib.metadata.version(package) for package in _PACKAGES},
        "devices": [str(device) for device in jax.devices()],
        "device_kind": jax.devices()[0].device_kind,
        "flags": {key: value for key, value in os.environ.items() if key.startswith(("JAX_", "XLA_"))},
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _device() -> str:
    """What JAX computes on, in words; says aloud where it leaves an accelerator of this machine unused."""
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:
        wanted = jax.config.jax_platforms  # pyrefly: ignore[missing-attribute]
        raise RunFailedError(f"JAX cannot compute on '{wanted}' (JAX_PLATFORMS) here. {error}".strip()) from error
    unused = _unused_accelerator()
    if unused:
        log.warning("There is %s here, but JAX computes on the CPU: %s", *unused)
    if devices[0].platform == "cpu":
        return f"the CPU, {_num_cores()} cores"
    return f"{len(devices)} x {devices[0].device_kind}"


def _unused_accelerator() -> tuple[str, str] | None:
    """An accelerator that the machine has and JAX does not use, with what may help."""
    if jax.default_backend() != "cpu" or jax.config.jax_platforms:  # pyrefly: ignore[missing-attribute]
        return None
    for name, files, extra, plugin in (
        ("an NVIDIA GPU", "nvidia[0-9]*", "cuda", "jax_cuda12_plugin"),
        ("a TPU", "accel[0-9]*", "tpu", "libtpu"),
    ):
        if any(Path("/dev").glob(files)):
            installed = importlib.util.find_spec(plugin)
            help_text = "its plugin is installed but does not start" if installed else f"make setup EXTRA={extra}"
            return name, help_text
    return None


def _num_cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _unused_accelerator() -> tuple[str, str] | None:
    """An accelerator that the machine has and JAX does not use, with the extra that it needs."""
    if jax.default_backend() != "cpu" or jax.config.jax_platforms:  # pyrefly: ignore[missing-attribute]
        return None
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return "an NVIDIA GPU", "cuda"
    if any(Path("/dev").glob("accel[0-9]*")):
        return "a TPU", "tpu"
    return None


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
        table.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    rich.console.Console(highlight=False).print(table)
