"""One file, one experiment. `load` brings back the nets of a run, `newest` finds the latest run of an experiment."""

import importlib
import os
from pathlib import Path
from typing import Any, NamedTuple


class Loaded(NamedTuple):
    """The settings of a run, its model and optimizer, and the train state of its nets, seeds along the first axis."""

    config: Any
    model: Any
    optimizer: Any
    nets: Any


def load(directory: str | os.PathLike) -> Loaded:
    """What the newest checkpoint of a run holds, ready to be used or trained on.

    The experiment must have a function `make_nets(config) -> (model, optimizer, train state)`, as `mnist_cnn` has.
    Raises BadUsageError where the folder is no such run, or its checkpoint cannot be read.
    """
    from jaxnn.lab import checkpoint, config  # here, for they are slow, and `--list` should answer at once

    directory = Path(directory)
    name = config.read_settings(directory / "config.json").get("experiment")
    names = [path.stem for path in Path(__file__).parent.glob("[!_]*.py")]
    module: Any = importlib.import_module(f"experiments.{name}") if name in names else None
    if not hasattr(module, "make_nets"):
        raise config.BadUsageError(f"{directory} is a run of {name}, whose nets cannot be loaded")
    settings = config.read_config(name, module.Config, directory / "config.json")
    paths = sorted((directory / "checkpoints").glob(f"nets-{8 * '[0-9]'}.safetensors"))
    if not paths:
        raise config.BadUsageError(f"{directory} has no checkpoint yet")
    model, optimizer, like = module.make_nets(settings)
    try:
        return Loaded(settings, model, optimizer, checkpoint.load(paths[-1], like)[0])
    except checkpoint.CheckpointError as error:
        raise config.BadUsageError(str(error)) from error


def newest(name: str, **settings: Any) -> Path:
    """The folder in runs/ of the newest finished run of an experiment with these settings. Raises BadUsageError."""
    from jaxnn.lab import config

    for path in sorted(Path("runs").rglob("summary.json"), key=lambda path: -path.stat().st_mtime):
        try:
            found = config.read_settings(path.with_name("config.json"))
        except config.BadUsageError:  # not the folder of a run
            continue
        if found.items() >= {"experiment": name, **settings}.items():
            return path.parent
    raise config.BadUsageError(
        f"no run of {name} has finished here: train a net with make experiment NAME={name}, or name the folder of a "
        "run with --run"
    )
