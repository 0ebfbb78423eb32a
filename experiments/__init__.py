"""One file, one experiment. `load` brings back the nets of a run, `newest` finds the latest run of an experiment.

At the end of a run the learning rate has fallen to nearly nothing, so a finished net is trained on with an optimizer of
its own, from `training.restart(net, optax.adam(1e-4))`; the run's own is for an unfinished one.
"""

import dataclasses
import importlib
import os
from pathlib import Path
from typing import Any, NamedTuple


class Loaded(NamedTuple):
    """What a run has learned, ready to be used or to be trained on: `train_steps(net, data, loss_fn, optimizer, ...)`.

    That is for one net, loaded with `seed=`, else under `jax.vmap` or `jax.lax.map`; of an `EarlyStopping`, for its
    `.train_state`.

    nets: the train state of all its nets, seeds along the first axis, or of one; where they stop early, their
        `EarlyStopping`, whose params and state are the best that each has had.
    class_names: what the labels of its data mean, where the run has recorded that.
    """

    config: Any
    model: Any
    loss_fn: Any
    optimizer: Any
    nets: Any
    class_names: tuple[str, ...] = ()


def load(directory: str | os.PathLike, training: str = "nets", *, seed: int | None = None) -> Loaded:
    """What the newest checkpoint of a run holds.

    training: which one, of a run that has several: for `mnist_mlp` the recipe, for `overfitting` the
        regularizer, for `weight_sharing` the kind of net.
    seed: of the one net that is wanted.

    The experiment must have a function `make_nets(config)`, or `make_nets(config, training)`, that gives model, loss,
    optimizer and nets. Where a run has recorded the `class_names` and `num_train` of its data, the function is given
    `num_classes` too, and `config` has that `num_train`.

    Raises BadUsageError where the folder is no such run, its config.json has been edited, or its checkpoint cannot be
    read.
    """
    import jax  # here, for they are slow, and `--list` should answer at once

    from jaxnn.lab import checkpoint, config, environment
    from jaxnn.lab.run import Run

    directory = Path(directory)
    given = config.read_settings(directory / "config.json")
    name = given.get("experiment")
    names = [path.stem for path in Path(__file__).parent.glob("[!_]*.py")]
    module: Any = importlib.import_module(f"experiments.{name}") if name in names else None
    if not hasattr(module, "make_nets"):
        raise config.BadUsageError(f"{directory} is a run of {name}, whose nets cannot be loaded")
    settings = config.read_config(name, module.Config, directory / "config.json")
    paths = sorted((directory / "checkpoints").glob(f"*-{8 * '[0-9]'}.safetensors"))
    found = {path.stem.rpartition("-")[0]: path for path in paths}  # the newest of each
    if training not in found:
        there = f"name one of its trainings: {', '.join(found)}" if found else "it has no checkpoint yet"
        raise config.BadUsageError(f"{directory} has no checkpoint of {training}: {there}")
    Run(directory, settings=given).check_settings()
    recorded = environment.read(directory)
    class_names, sizes = tuple(recorded.get("class_names", ())), {}
    try:
        if class_names:
            sizes["num_classes"] = len(class_names)
            settings = dataclasses.replace(settings, num_train=recorded["num_train"])
    except (KeyError, ValueError) as error:
        raise config.BadUsageError(f"{directory / 'environment.json'} has been edited: put it back") from error
    arguments = [] if training == "nets" else [training]
    model, loss_fn, optimizer, nets = module.make_nets(settings, *arguments, **sizes)
    try:
        nets, _ = checkpoint.load(found[training], nets)
    except checkpoint.CheckpointError as error:
        raise config.BadUsageError(str(error)) from error
    if seed is not None:
        if not 0 <= seed - settings.seed < settings.num_seeds:
            last = settings.seed + settings.num_seeds - 1
            raise config.BadUsageError(f"{directory} has nets of the seeds {settings.seed} ... {last}, not {seed}")
        nets = jax.tree.map(lambda leaf: leaf[seed - settings.seed], nets)
    return Loaded(settings, model, loss_fn, optimizer, nets, class_names)


def load_net(directory: str | os.PathLike, experiment: str, *, seed: int | None = None) -> Loaded:
    """What `load` gives, of one net, of `seed` or the first, trained to the end (`config.num_steps`).

    experiment: whose run it must be.

    Raises BadUsageError, too, where it is a run of another, or the net has taken fewer steps.
    """
    from jaxnn.lab import config

    given = config.read_settings(Path(directory) / "config.json")
    if given.get("experiment") != experiment:
        raise config.BadUsageError(f"{directory} is no run of {experiment}")
    seed = given.get("seed", 0) if seed is None else seed
    loaded = load(directory, seed=seed)
    if loaded.nets.step < loaded.config.num_steps:
        raise config.BadUsageError(
            f"{directory}: the net of seed {seed} has taken {loaded.nets.step} of {loaded.config.num_steps} steps: it "
            "has diverged, or the run has not finished"
        )
    return loaded


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
