"""What a run runs on: versions, device, flags; and where its compiled programs are kept."""

import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import platform
import subprocess
import sys
import warnings
from collections import ChainMap
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import jax

from jaxnn.lab.files import cache_folder, read_json

log = logging.getLogger(__name__)

_PACKAGES = ("jax", "jaxlib", "optax", "flax", "numpy", "tensorflow-datasets")


class NoDeviceError(Exception):
    """JAX cannot compute on what it was told to."""


def use_compilation_cache():
    """Compiled programs are kept, so that the next run starts at once; JAX_COMPILATION_CACHE_DIR says where else."""
    warnings.filterwarnings("ignore", "Error writing persistent compilation cache")  # on a full disk, for each program
    if jax.config.jax_compilation_cache_dir is None:  # pyrefly: ignore[missing-attribute]
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # there are many small ones


def use_all_cores():
    """On CPU, JAX is given a device for each core, unless JAX_NUM_CPU_DEVICES says how many."""
    with contextlib.suppress(RuntimeError):  # it computes already
        if "JAX_NUM_CPU_DEVICES" not in os.environ:
            jax.config.update("jax_num_cpu_devices", _num_cores())


def describe() -> dict[str, Any]:
    """The content of environment.json."""
    return {
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "num_cores": _num_cores(),
        "packages": {package: _version(package) for package in _PACKAGES},
        "devices": [str(device) for device in jax.devices()],
        "device_kind": jax.devices()[0].device_kind,
        "flags": {key: value for key, value in os.environ.items() if key.startswith(("JAX_", "XLA_"))},
        "git_commit": _git_commit(),
    }


def _version(package: str) -> str | None:
    """None where it is not installed: Flax is an extra of its own."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def read(directory: Path) -> Mapping[str, Any]:
    """The environment.json of a run; what its last process has not written is as an earlier one wrote it."""
    content = read_json(directory / "environment.json") or {}
    return ChainMap(content, *reversed(content.get("earlier", [])))


def _git_commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def device() -> str:
    """What JAX computes on, in words; says aloud where it leaves an accelerator of this machine unused."""
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:
        wanted = jax.config.jax_platforms  # pyrefly: ignore[missing-attribute]
        raise NoDeviceError(f"JAX cannot compute on '{wanted}' (JAX_PLATFORMS) here. {error}".strip()) from error
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
