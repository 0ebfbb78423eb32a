"""The configuration of an experiment: from the command line, or from the config.json of a run."""

import argparse
import dataclasses
import importlib.util
import json
import sys
import typing
from pathlib import Path
from typing import Annotated, Any

import typeguard
import tyro


class BadUsageError(Exception):
    """What the user asked for cannot be done; the message says why and how to mend it."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What every experiment takes beside its own settings."""

    out: Path | None = None  # folder for the results, made anew (default: runs/<experiment>/<time>)
    quick: bool = False  # toy size: a few seconds, to see that everything works
    resume: Path | None = None  # go on with the run in this folder, whose settings it keeps
    from_: Annotated[Path | None, tyro.conf.arg(name="from")] = None  # another run's config.json, to repeat it
    tensorboard: bool = False  # write the log for TensorBoard too, into the folder's tensorboard/
    profile: bool = False  # first trace some steps of the training with JAX's profiler, into the folder's profile/


def require(config: Any, name: str, condition: bool, allowed: str):
    """Raises the ValueError that becomes bad usage: this field of the configuration must be `allowed`."""
    if not condition:
        raise ValueError(f"--{name.replace('_', '-')} must be {allowed}, not {getattr(config, name)}")


def require_seeds(config: Any, *, most: int = 2**31 - 1, end: int = 2**31):
    """Requires of the setting `num_seeds`, 1 where there is none, to be 1 ... most; and all seeds to be 0 ... end - 1.

    These are the setting `seed`, and the `num_seeds` - 1 numbers that follow.
    """
    num_seeds = getattr(config, "num_seeds", 1)
    require(config, "num_seeds", 1 <= num_seeds <= most, f"in 1 ... {most}")
    require(config, "seed", 0 <= config.seed <= end - num_seeds, f"in 0 ... {end - num_seeds}")


def parse_command_line(name: str, config_class: type, quick: Any) -> tuple[Options, Any, bool]:
    """The options and the configuration; and whether that differs from what the run to be resumed was given."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--quick", action="store_true")
    early.add_argument("--resume", type=Path)
    early.add_argument("--from", type=Path, dest="from_")
    given, _ = early.parse_known_args()
    default = quick if given.quick else config_class()
    if given.resume or given.from_:
        default = _read_config(name, config_class, given.from_ or given.resume / "config.json")
    arguments = dataclasses.make_dataclass(
        "Arguments",
        [("run", Options, Options()), ("config", config_class, default)],
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
    options, config = parsed.run, parsed.config
    data_dir = getattr(config, "data_dir", None)
    if data_dir is not None and data_dir.is_file():
        raise BadUsageError(f"--data-dir {data_dir} is a file: name the folder that has the data, or is to have them")
    exclusive = {"--resume": options.resume, "--from": options.from_, "--quick": options.quick}
    given = [flag for flag, value in exclusive.items() if value]
    given += ["--out"] if options.resume and options.out else []
    if len(given) > 1:
        raise BadUsageError(f"{' and '.join(given)} exclude each other: give one of them")
    if options.tensorboard and not importlib.util.find_spec("tensorboardX"):
        raise BadUsageError("--tensorboard needs the package tensorboardX: pip install tensorboardX")
    if options.resume and config != default and not _may_extend(config, default):
        raise BadUsageError(
            f"{options.resume} cannot go on with other settings: {_differences(config, default)}; only a run whose "
            "schedule does not depend on its length can be made longer"
        )
    return options, config, config != default


def _read_config(name: str, config_class: type, path: Path):
    """The configuration that a run wrote to its config.json."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadUsageError(
            f"cannot read the settings of a run in {path} ({getattr(error, 'strerror', None) or error})"
        ) from error
    if not isinstance(content, dict):
        raise BadUsageError(f"{path} has no settings of a run: give a run's config.json")
    experiment = content.pop("experiment", None)
    if experiment != name:
        raise BadUsageError(f"{path} belongs to the experiment {experiment}, not to {name}")
    hints = typing.get_type_hints(config_class)
    unknown = sorted(set(content) - set(hints))
    if unknown:
        raise BadUsageError(f"{path} has settings that {name} does not know: {', '.join(unknown)}")
    settings = {field: _from_json(value, hints[field]) for field, value in content.items()}
    for field, value in settings.items():
        hint = hints[field]
        try:
            typeguard.check_type(value, hint)
        except typeguard.TypeCheckError as error:
            kind = hint.__name__ if isinstance(hint, type) else hint
            raise BadUsageError(f"{path}: {field} must be of the type {kind}, not {value!r}") from error
    try:
        return config_class(**settings)
    except (TypeError, ValueError) as error:
        raise BadUsageError(f"{path}: {error}") from error


def _from_json(value, hint):
    """JSON has neither tuples nor paths."""
    if isinstance(value, list):
        return tuple(_from_json(item, typing.get_args(hint)[0]) for item in value)
    if isinstance(value, str) and Path in (hint, *typing.get_args(hint)):
        return Path(value)
    return value


def _may_extend(config, earlier) -> bool:
    return hasattr(config, "extends") and config.extends(earlier)


def _differences(config, earlier) -> str:
    fields = [field.name for field in dataclasses.fields(config)]
    return ", ".join(
        f"--{name.replace('_', '-')} {getattr(config, name)} (the run has {getattr(earlier, name)})"
        for name in fields
        if getattr(config, name) != getattr(earlier, name)
    )
