"""The settings of an experiment: from the command line, or from the config.json of a run."""

import contextlib
import dataclasses
import importlib.util
import io
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import pydantic
import pydantic_core
import tyro
from pydantic import Field


class BadUsageError(Exception):
    """What the user asked for cannot be done; the message says why and how to mend it."""


def _is_path(path: Any) -> Any:
    if path == "" or "\0" in str(path):
        raise ValueError(f"{path!r} is no path")
    return path


def _is_no_file(path: Path | None) -> Path | None:
    try:
        is_file = path is not None and any(part.is_file() for part in (path.expanduser(), *path.expanduser().parents))
    except (OSError, RuntimeError) as error:  # too long, or the home of nobody
        raise ValueError(f"{_short(path)} cannot be a folder ({getattr(error, 'strerror', None) or error})") from error
    if is_file:
        raise ValueError(f"{path} is a file or in one: name the folder that has the data, or is to have them")
    return path


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{_short(path)} cannot be a folder ({error})") from error


# What settings are made of: their limits. The comment behind a setting is its help.
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Width = Annotated[int, Field(ge=1, le=4096)]  # of a layer: two such ones, one after the other, fit into memory
Share = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0, le=1e6)]
Penalty = Annotated[float, Field(ge=0, le=1e6)]
Seed = Annotated[int, Field(ge=0, lt=2**30)]
NumSeeds = Annotated[int, Field(ge=1, le=1000)]
UserPath = Annotated[Path, pydantic.BeforeValidator(_is_path)]
DataDir = Annotated[UserPath | None, pydantic.AfterValidator(_is_no_file)]
ImageDir = Annotated[UserPath, pydantic.AfterValidator(_absolute)]  # so it is no name of a set, and the same everywhere


@dataclasses.dataclass(frozen=True)
class Options:
    """What every experiment takes beside its own settings."""

    out: Path | None = None  # folder for the results, made anew (default: runs/<experiment>/<time>)
    quick: bool = False  # toy size: a few seconds, to see that everything works
    from_: Annotated[Path | None, tyro.conf.arg(name="from")] = None  # another run's config.json, to repeat it


@dataclasses.dataclass(frozen=True)
class TrainingOptions(Options):
    """What an experiment takes too whose trainings are saved on the way."""

    resume: Path | None = None  # go on with the run in this folder, whose settings it keeps
    tensorboard: bool = False  # write the log for TensorBoard too, into the folder's tensorboard/
    profile: bool = False  # trace a part of the training with JAX's profiler, into the folder's profile/


def parse_command_line(name: str, config_class: type, quick: Any, *, resumable: bool) -> tuple[TrainingOptions, Any]:
    """The options and the settings. Raises BadUsageError where these cannot be."""
    for before, argument in itertools.pairwise(sys.argv):
        if re.fullmatch(r"(--[\w-]+=)?|.*[\0\ud800-\udfff].*", argument, re.DOTALL):  # Python's sign of broken UTF-8
            raise BadUsageError(f"behind {before} an argument is empty or no text: {argument!r}")
    options_class = TrainingOptions if resumable else Options
    options, settings = _parse(name, config_class, config_class(), options_class)
    resume = options.resume
    exclusive = {"--resume": resume, "--from": options.from_, "--quick": options.quick}
    both = [flag for flag, value in exclusive.items() if value] + ["--out"] * bool(resume and options.out)
    if len(both) > 1:
        raise BadUsageError(f"{' and '.join(both)} exclude each other: give one of them")
    source = resume / "config.json" if resume else options.from_
    default = read_config(name, config_class, source) if source else quick
    if source or options.quick:  # once more, for what is not said has other defaults
        _, settings = _parse(name, config_class, default, options_class)
    config = _check(config_class, settings)
    tensorboard = options.tensorboard or (resume and (resume / "tensorboard").exists())
    if tensorboard and not importlib.util.find_spec("tensorboardX"):
        raise BadUsageError("the log for TensorBoard needs the package tensorboardX: pip install tensorboardX")
    changed = _differences(config, default) if resume else ""
    if changed:
        raise BadUsageError(f"{resume} cannot go on with other settings: {changed}; begin a new run")
    return options, config


def _parse(name: str, config_class: type, default: Any, options_class: type) -> tuple[TrainingOptions, dict[str, Any]]:
    """What the command line says, its settings not yet checked: tyro would stop at the first that cannot be."""

    class Unchecked(config_class):
        def __init__(self, **settings):
            self.__dict__.update(settings)

    Unchecked.__doc__ = config_class.__doc__
    unchecked = Unchecked(**{field.name: getattr(default, field.name) for field in dataclasses.fields(default)})
    fields = [("run", options_class, options_class()), ("config", Unchecked, unchecked)]
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parsed = tyro.cli(
                dataclasses.make_dataclass("Arguments", fields, frozen=True),
                prog=f"python -m experiments {name}",
                description=sys.modules[config_class.__module__].__doc__,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as error:
        if error.code:
            raise BadUsageError(_without_box(errors.getvalue())) from error
        raise
    except BrokenPipeError:  # whoever reads the --help has seen enough
        sys.exit(1)
    options = TrainingOptions(**vars(parsed.run))
    return options, {field.name: getattr(parsed.config, field.name) for field in dataclasses.fields(config_class)}


def _without_box(text: str) -> str:
    """In one line, what tyro writes into a box of several: the complaint, and the setting that may have been meant."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()[1:]  # colours are dropped, and the title
    words = " ".join(line.strip("│ ") for line in lines)
    complaint = next(part.strip() for part in re.split("[─-]{5,}", words) if part.strip())
    near = re.search(r"Perhaps you meant:\s+(--[\w-]+)", words)
    return complaint + (f": did you mean {near[1]}?" if near else " (--help names all settings)")


def _check(config_class: type, settings: dict[str, Any]):
    try:
        return config_class(**settings)
    except pydantic.ValidationError as error:
        raise BadUsageError(_in_words(error)) from error


def read_config(name: str | None, config_class: type, path: Path):
    """The settings that a run of the experiment `name` wrote to its config.json. Raises BadUsageError."""
    content = read_settings(path)
    experiment = content.pop("experiment", None)
    if experiment != name:
        raise BadUsageError(f"{path} belongs to the experiment {experiment}, not to {name}")
    try:
        return pydantic.TypeAdapter(config_class).validate_json(json.dumps(content), strict=True, extra="forbid")
    except pydantic.ValidationError as error:
        raise BadUsageError(f"{path}: {_in_words(error)}") from error


def read_settings(path: Path) -> dict[str, Any]:
    """The content of a run's config.json, whatever the experiment. Raises BadUsageError where it is no such file."""
    try:
        content = pydantic_core.from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadUsageError(f"cannot read the settings of a run in {path} ({reason})") from error
    if not isinstance(content, dict):
        raise BadUsageError(f"{path} has no settings of a run: give a run's config.json")
    return content


def _in_words(error: pydantic.ValidationError) -> str:
    """A line for each setting that cannot be."""
    lines = []
    for fault in error.errors():
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] != "value_error":
            message = f"{message[0].lower()}{message[1:]}, not {_short(fault['input'])}"
        lines.append(" ".join([*(f"--{str(part).replace('_', '-')}:" for part in fault["loc"][:1]), message]))
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:100]} ..."


def _differences(config, earlier) -> str:
    """The settings that differ; where the data lie is none of the nets' business."""
    names = [field.name for field in dataclasses.fields(config) if field.name != "data_dir"]
    return ", ".join(
        f"--{name.replace('_', '-')} {getattr(config, name)} (the run has {getattr(earlier, name)})"
        for name in names
        if getattr(config, name) != getattr(earlier, name)
    )
