"""Eight optimizers, each at its best learning rate: which reaches a low loss first.

The deck (page 20) answers slow training with AdaGrad, RMSProp, Adam and their kin. Here they train the same net on the
same digits. Each gets the learning rate, out of one grid, that is first to a low loss on 1,000 validation images; then
nets with other seeds race to that loss on 1,000 others, each seed with the same initial weights and the same batches.

Run:    make experiment NAME=optimizers

Expect: steps to a loss of 0.2 (10 seeds): 151 ± 31 (sgd), 106 ± 20 (momentum), 72 ± 17 (nesterov), 108 ± 12 (adagrad),
        89 ± 21 (rmsprop), 65 ± 19 (adam), 91 ± 39 (adamw), 74 ± 12 (muon, whose steps take five times as long)

Time:   2 min 45 s
"""

import timeit
from typing import Annotated, get_args

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from jaxnn import layers, losses, metrics, models, training
from jaxnn.lab import curves, datasets, plots
from jaxnn.lab.config import DataDir, NumSeeds, Rate
from jaxnn.lab.run import Run, RunFailedError, mean_and_sd
from jaxnn.lab.start import start
from jaxnn.types import Batch

MODEL = models.preprocess(layers.flatten_pixels, models.mlp([100], 10))
loss_fn = training.make_loss(MODEL, losses.softmax_cross_entropy)
GRID = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)
EVAL_EVERY = 10  # steps between two evaluations on validation images
TUNING_SEEDS = range(2**30, 2**30 + 2)  # of the nets of the grid: beyond all that can race


@dataclass(frozen=True)
class Config:
    """Grid and race."""

    optimizers: Annotated[tuple[training.OptimizerName, ...], Field(min_length=1)] = get_args(training.OptimizerName)
    learning_rates: Annotated[tuple[Rate, ...], Field(min_length=1)] = GRID  # each optimizer gets the best of them
    num_steps: Annotated[int, Field(ge=1, le=100_000, multiple_of=EVAL_EVERY)] = 400  # of each training
    target: Annotated[float, Field(gt=0, le=1e6)] = 0.2  # loss on validation images to be reached
    data_dir: DataDir = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: Annotated[int, Field(ge=0, lt=2**29)] = 0  # of the first net of the race
    num_seeds: NumSeeds = 10  # nets of each optimizer in the race; the others take the seeds that follow


def train(config: Config, run: Run, part: str, name: training.OptimizerName, rates, seeds: range, data):
    """Trains nets of all learning rates and seeds in one program; logs and returns their results [rates, seeds]."""

    def train_net(learning_rate, key, data):
        optimizer = training.OPTIMIZERS[name](learning_rate)

        def train_and_evaluate(net, step):
            net, _ = training.train_steps(net, data.train, loss_fn, optimizer, batch_size=100, num_steps=EVAL_EVERY)
            loss = loss_fn(net.params, net.state, data.validation, None)[0].mean()
            return net, jnp.where((net.step == step) & jnp.isfinite(loss), loss, jnp.inf)  # inf: diverged

        net = training.init_train_state(key, MODEL, optimizer, data.train.inputs[:1])
        net, curve = jax.lax.scan(train_and_evaluate, net, jnp.arange(EVAL_EVERY, config.num_steps + 1, EVAL_EVERY))
        accuracy = metrics.accuracy(MODEL.apply(net.params, net.state, data.test.inputs)[0], data.test.targets)
        finished, reached = jnp.isfinite(curve[-1]), curve <= config.target
        steps = jnp.where(finished & reached.any(), (reached.argmax() + 1) * EVAL_EVERY, jnp.nan)
        row = {"validation_losses": curve, "validation_loss": curve[-1], "steps_to_target": steps}
        return row | {"accuracy": jnp.where(finished, accuracy, jnp.nan)}

    train_nets = jax.jit(jax.vmap(jax.vmap(train_net, (None, 0, None)), (0, None, None)))
    columns = train_nets(rates, training.seed_keys(seeds[0], len(seeds)), data)
    for number, rate in enumerate(rates):
        row = {"part": part, "optimizer": name, "learning_rate": rate}
        run.log_seeds(seeds[0], **row, **{column: values[number] for column, values in columns.items()})
    return columns


def choose(name: str, rates: np.ndarray, columns) -> np.float64:
    """The learning rate whose nets reach the target first; where none does, the one with the lowest loss."""
    loss, steps = (np.mean(columns[column], axis=1) for column in ("validation_loss", "steps_to_target"))
    if np.isinf(loss).all():
        raise RunFailedError(f"{name} diverges at all --learning-rates: give lower ones")
    return rates[np.lexsort((loss, steps))[0]]  # by steps, then by loss; NaN comes last


def step_seconds(name: training.OptimizerName, learning_rate: float, examples: Batch) -> float:
    """What a step of one net takes: the median of seven times fifty steps."""
    optimizer, sizes = training.OPTIMIZERS[name](learning_rate), {"batch_size": 100, "num_steps": 50}
    net = training.init_train_state(jax.random.key(0), MODEL, optimizer, examples.inputs[:1])
    steps = jax.jit(lambda net, examples: training.train_steps(net, examples, loss_fn, optimizer, **sizes))
    seconds = timeit.repeat(lambda: jax.block_until_ready(steps(net, examples)), number=1, repeat=8)
    return np.median(seconds[1:]).item() / 50  # the first one compiles


def draw(config: Config, run: Run, rows):
    """What each learning rate leads to, and the race."""
    grid = [row for row in rows if row["part"] == "grid"]
    losses_by_rate = plots.by_kind(grid, "optimizer", "learning_rate", "validation_loss")
    best = {name: race_column(rows, name, "learning_rate")[0] for name in losses_by_rate}
    heading = f"Loss after {config.num_steps} steps; dotted: the rate first at {config.target:g}; grey: the others"
    run.save_figure("learning_rates", curves.rates(losses_by_rate, best, heading=heading))
    racers: dict[str, np.ndarray] = {name: race_column(rows, name, "validation_losses") for name in config.optimizers}
    needed: dict[str, float] = {name: race_column(rows, name, "steps_to_target").mean() for name in config.optimizers}
    steps = np.arange(EVAL_EVERY, config.num_steps + 1, EVAL_EVERY)
    run.save_figure("race", curves.race(steps, racers, needed, target=config.target))


def race_column(rows, optimizer: str, column: str) -> np.ndarray:
    """A column of the log, for all nets of an optimizer in the race, in the order of their seeds."""
    own = {row["seed"]: row[column] for row in rows if (row["part"], row["optimizer"]) == ("race", optimizer)}
    return np.array([*own.values()], float)


def summarize(config: Config, rows, examples: Batch) -> dict:
    """Means of the race; `steps_after` compares seed by seed. NaN: a net has diverged or missed the target."""
    first, summary = config.optimizers[0], {"num_seeds": config.num_seeds, "target": config.target}
    for name in config.optimizers:
        columns = "learning_rate", "validation_loss", "steps_to_target"
        rates, loss, steps = (race_column(rows, name, column) for column in columns)
        summary |= {f"{name}_learning_rate": rates[0], f"{name}_num_diverged": np.isinf(loss).sum()}
        summary |= mean_and_sd(f"{name}_validation_loss", loss) | mean_and_sd(f"{name}_steps_to_target", steps)
        summary |= mean_and_sd(f"{name}_test_accuracy", race_column(rows, name, "accuracy"))
        if name != first:
            summary |= mean_and_sd(f"{name}_steps_after_{first}", steps - race_column(rows, first, "steps_to_target"))
        summary[f"{name}_to_target_seconds"] = steps.mean() * step_seconds(name, rates[0], examples)
    return summary


def main(config: Config, run: Run) -> dict:
    """Tunes on one half of the validation images, never on test images; races nets with other seeds on the other."""
    data = jax.device_put(datasets.mnist(config.data_dir, num_train=10_000, num_validation=2000))
    run.record(data_sha256=datasets.SHA256["mnist"])
    choosing, racing = (Batch(*(leaf[half::2] for leaf in data.validation)) for half in (0, 1))
    to_tune, to_race = data._replace(validation=choosing, test=choosing), data._replace(validation=racing)
    rates, seeds = np.array(config.learning_rates), range(config.seed, config.seed + config.num_seeds)
    for number, _ in run.chunks({}, len(config.optimizers), every=1, unit="optimizers"):
        name = config.optimizers[number - 1]
        best = choose(name, rates, train(config, run, "grid", name, rates, TUNING_SEEDS, to_tune))
        run.say(f"{name}: best at {best:g}")
        train(config, run, "race", name, np.array([best]), seeds, to_race)
    rows = run.read_log()
    draw(config, run, rows)
    return summarize(config, rows, data.train)


if __name__ == "__main__":
    start(Config, main, quick=Config(("sgd", "adam"), (0.01, 0.1), 40, target=0.7, num_seeds=2), resumable=True)
