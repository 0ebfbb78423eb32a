"""Eight optimizers, each at its best learning rate: which reaches a low loss first.

The deck (page 20) answers slow training with AdaGrad, RMSProp, Adam and their kin. Here they train the same net on the
same digits. Each gets the learning rate of one grid with which it first reaches a low loss on 1,000 validation images;
then nets with other seeds race to that loss on 1,000 others, all optimizers from the same initial weights and with the
same batches.

Run:    make experiment NAME=optimizers

Expect: steps to a loss of 0.2 (10 seeds): 176 ± 46 (sgd), 100 ± 15 (momentum), 81 ± 10 (nesterov), 113 ± 13 (adagrad),
        88 ± 12 (rmsprop), 63 ± 11 (adam), 66 ± 10 (adamw), 77 ± 11 (muon, whose steps take six times as long)

Time:   3 min 36 s
"""

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnn import losses, metrics, models, training
from jaxnn.lab import datasets, plots
from jaxnn.lab.config import require, require_seeds
from jaxnn.lab.run import Run, RunFailedError, mean_and_sd, start
from jaxnn.types import Batch

Optimizer = Literal["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "muon"]
OPTIMIZERS: dict[Optimizer, Callable] = {  # as functions of the learning rate
    "sgd": optax.sgd,
    "momentum": functools.partial(optax.sgd, momentum=0.9),
    "nesterov": functools.partial(optax.sgd, momentum=0.9, nesterov=True),
    "adagrad": optax.adagrad,
    "rmsprop": optax.rmsprop,
    "adam": optax.adam,
    "adamw": functools.partial(optax.adamw, weight_decay=0.01),
    "muon": optax.contrib.muon,
}
MODEL = models.mlp([100], 10)
NUM_ROUNDS = 7  # of the timing


@dataclass(frozen=True)
class Config:
    """Grid and race."""

    optimizers: tuple[Optimizer, ...] = tuple(OPTIMIZERS)  # those that race
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)  # the grid
    num_train: int = 10_000  # train on the first so many images
    num_steps: int = 400  # of each training, 100 images each
    eval_every: int = 10  # steps between two looks at the validation images
    target: float = 0.2  # loss on validation images to be reached
    num_tuning_seeds: int = 2  # nets for each optimizer and learning rate of the grid
    data_dir: Path | None = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: int = 0  # of the first net of the race; those of the grid take seeds of their own
    num_seeds: int = 10  # nets of each optimizer in the race; the others take the seeds that follow

    def __post_init__(self):
        """Refuses what cannot be."""
        names = self.optimizers
        require(self, "optimizers", bool(names) and len(set(names)) == len(names), "at least one, all different")
        rates = self.learning_rates
        fits = bool(rates) and all(0 < rate < math.inf for rate in rates) and list(rates) == sorted(set(rates))
        require(self, "learning_rates", fits, "above 0, finite, rising, at least one")
        require(self, "num_train", 100 <= self.num_train <= 55_000, "in 100 ... 55000")
        require(self, "eval_every", 1 <= self.eval_every <= 10_000, "in 1 ... 10000")
        fits = 1 <= self.num_steps <= 100_000 and self.num_steps % self.eval_every == 0
        require(self, "num_steps", fits, f"a multiple of --eval-every {self.eval_every}, at most 100000")
        require(self, "target", 0 < self.target < math.inf, "above 0, finite")
        require(self, "num_tuning_seeds", 1 <= self.num_tuning_seeds <= 100, "in 1 ... 100")
        require_seeds(self, most=100, end=2**30)  # those from there on belong to the grid


def flatten(images):
    """Images [number, 28, 28, 1] as inputs [number, 784] between 0 and 1."""
    return images.reshape(len(images), -1) / 255


def loss_fn(params, state, batch, keys):
    """Softmax cross-entropy."""
    logits, state = MODEL.apply(params, state, flatten(batch.inputs), keys)
    return losses.softmax_cross_entropy(logits, batch.targets), state


def make_program(config: Config, name: Optimizer):
    """All learning rates and seeds in one program: the nets [rates, seeds, ...], their validation losses at each look.

    The loss of a net that has diverged is infinite.
    """

    def train_net(learning_rate, key, train, validation):
        optimizer = OPTIMIZERS[name](learning_rate)
        net = training.init_train_state(key, MODEL, optimizer, flatten(train.inputs[:1]))

        def stretch(net, stop):
            settings = {"optimizer": optimizer, "batch_size": 100, "num_steps": config.eval_every}
            net, _ = training.train_steps(net, train, loss_fn=loss_fn, **settings)
            loss = loss_fn(net.params, net.state, validation, None)[0].mean()
            return net, jnp.where((net.step == stop) & jnp.isfinite(loss), loss, jnp.inf)

        net, course = jax.lax.scan(stretch, net, jnp.arange(config.eval_every, config.num_steps + 1, config.eval_every))
        return net.params, course

    over_seeds = jax.vmap(train_net, (None, 0, None, None))
    return jax.jit(jax.vmap(over_seeds, (0, None, None, None)))


def tune(config: Config, run: Run, train: Batch, validation: Batch) -> dict[Optimizer, float]:
    """The learning rate of each optimizer whose nets reach the target first; where none does, with the lowest loss."""
    best, losses_at_end, steps_to_target = {}, {}, {}
    keys = jax.vmap(jax.random.key)(2**30 + jnp.arange(config.num_tuning_seeds))
    rates = config.learning_rates
    num_nets = len(rates) * config.num_tuning_seeds
    with run.progress(len(config.optimizers) * num_nets, unit="nets") as report:
        for number, name in enumerate(config.optimizers, 1):
            _, courses = make_program(config, name)(jnp.array(rates), keys, train, validation)
            courses = np.asarray(courses, float)  # [rates, seeds, looks]
            losses_at_end[name] = courses[..., -1].T
            steps_to_target[name] = np.stack([count_steps(config, course) for course in courses], axis=1)
            found, steps = losses_at_end[name].mean(axis=0), steps_to_target[name].mean(axis=0)
            if not np.isfinite(found).any():
                raise RunFailedError(f"{name} diverges at all --learning-rates: give lower ones")
            _, _, best[name] = min(zip(np.nan_to_num(steps, nan=np.inf), found, rates, strict=True))
            for rate, loss, num_steps in zip(rates, found.tolist(), steps.tolist(), strict=True):
                row = {"validation_loss": finite(loss), "steps_to_target": finite(num_steps)}
                run.log(optimizer=name, learning_rate=rate, **row)
            report(number * num_nets)
            at_an_end = best[name] in (rates[0], rates[-1])
            run.say(f"{name}: best at {best[name]:g}{', an end of the grid' if at_an_end else ''}")
    panels = {
        title: {name: (rates, complete(values)) for name, values in found.items()}
        for title, found in (
            (f"steps to a loss of {config.target:g}", steps_to_target),
            (f"loss after {config.num_steps:,} steps", losses_at_end),
        )
    }
    run.save_figure("learning_rates", plots.lines(panels, xlabel="learning rate", log="xy"))
    return best


def measure_seconds(best: dict[Optimizer, float], train: Batch) -> dict[Optimizer, float]:
    """Of each optimizer, the seconds that a step of one net takes: the median of rounds in which all take turns."""
    programs, nets = {}, {}
    for name, rate in best.items():
        optimizer = OPTIMIZERS[name](rate)
        settings = {"loss_fn": loss_fn, "optimizer": optimizer, "batch_size": 100, "num_steps": 100}
        programs[name] = jax.jit(functools.partial(training.train_steps, **settings))
        nets[name] = training.init_train_state(jax.random.key(0), MODEL, optimizer, flatten(train.inputs[:1]))
        jax.block_until_ready(programs[name](nets[name], train))  # compiles
    seconds = {name: [] for name in best}
    for _ in range(NUM_ROUNDS):
        for name, program in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(program(nets[name], train))
            seconds[name].append((time.perf_counter() - began) / 100)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def finite(number: float) -> float | None:
    """The number, or None for what JSON does not have."""
    return number if math.isfinite(number) else None


def complete(course: np.ndarray) -> np.ndarray:
    """The losses [nets, points] where no net has diverged, else NaN: a gap in the picture."""
    return np.where(np.isfinite(course).all(axis=0), course, np.nan)


def main(config: Config, run: Run) -> dict:
    """Tunes, then lets nets with other seeds race; the test set is looked at once, at the end."""
    data = datasets.mnist(config.data_dir, num_validation=2000)
    few = jax.tree.map(lambda leaf: leaf[: config.num_train], data.train)
    train, validation, test = jax.device_put(data._replace(train=few))
    choosing, racing = (Batch(*(leaf[part::2] for leaf in validation)) for part in (0, 1))
    run.record(data_sha256=datasets.SHA256["mnist"])
    run.say(f"each optimizer at {len(config.learning_rates)} learning rates")
    best = tune(config, run, train, choosing)
    keys = jax.vmap(jax.random.key)(jnp.arange(config.seed, config.seed + config.num_seeds))
    nets, courses = {}, {}
    run.say("the race, each at its best")
    with run.progress(len(config.optimizers) * config.num_seeds, unit="nets") as report:
        for number, name in enumerate(config.optimizers, 1):
            params, course = make_program(config, name)(jnp.array([best[name]]), keys, train, racing)
            nets[name], courses[name] = jax.tree.map(lambda leaf: leaf[0], params), np.asarray(course[0], float)
            for seed, losses_of_net in enumerate(courses[name].tolist(), config.seed):
                row = {"validation_losses": [finite(loss) for loss in losses_of_net]}
                run.log(optimizer=name, learning_rate=best[name], seed=seed, **row)
            report(number * config.num_seeds)
            run.say(f"{name}: loss {courses[name][:, -1].mean():.4f} on validation images")
    draw(config, run, courses)
    return summarize(config, best, courses, measure_seconds(best, train), accuracies(nets, test))


def accuracies(nets, test) -> dict[str, np.ndarray]:
    """On all test images, of each net."""

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def accuracy(params, test):
        return metrics.accuracy(MODEL.apply(params, {}, flatten(test.inputs))[0], test.targets)

    return {name: np.asarray(accuracy(params, test), float) for name, params in nets.items()}


def draw(config: Config, run: Run, courses):
    """The losses on validation images, step by step."""
    steps = np.arange(config.eval_every, config.num_steps + 1, config.eval_every)
    panel = {name: (steps, complete(course)) for name, course in courses.items()}
    panel[f"target {config.target:g}"] = (steps, np.full(len(steps), config.target))
    title = f"each at its best learning rate, {config.num_seeds} nets"
    figure = plots.lines({title: panel}, xlabel="step", ylabel="loss on validation images", log="y")
    run.save_figure("race", figure)


def summarize(config: Config, best, courses, seconds, test_accuracies) -> dict:
    """Of each optimizer, mean and deviation: loss, steps to the target, accuracy; and its lead over the first, by seed.

    The seconds are those of one net that learns alone: the mean number of steps times what a step takes.

    None stands where a net has diverged or missed the target.
    """
    first = config.optimizers[0]
    steps_to_target = {name: count_steps(config, course) for name, course in courses.items()}
    summary: dict[str, int | float | None] = {"num_seeds": config.num_seeds, "target": config.target}
    for name, course in courses.items():
        columns = {
            f"{name}_validation_loss": course[:, -1],
            f"{name}_steps_to_target": steps_to_target[name],
            f"{name}_test_accuracy": np.where(np.isfinite(course[:, -1]), test_accuracies[name], np.nan),
        }
        if name != first:
            columns[f"{name}_steps_after_{first}"] = steps_to_target[name] - steps_to_target[first]
        summary[f"{name}_learning_rate"] = best[name]
        summary[f"{name}_num_diverged"] = int((~np.isfinite(course[:, -1])).sum())
        for key, values in columns.items():
            summary |= mean_and_sd(key, values)
        summary[f"{name}_to_target_seconds"] = finite(steps_to_target[name].mean().item() * seconds[name])
    return summary


def count_steps(config: Config, course: np.ndarray) -> np.ndarray:
    """Of each net, the steps to the first look at which its loss was at most the target.

    NaN where there was none, or where the net has diverged in the end.
    """
    reached = (course <= config.target) & np.isfinite(course[:, -1:])
    return np.where(reached.any(axis=1), (reached.argmax(axis=1) + 1) * config.eval_every, np.nan)


if __name__ == "__main__":
    toy = {"num_steps": 40, "eval_every": 20, "num_tuning_seeds": 1, "num_seeds": 2}
    start(Config, main, quick=Config(("sgd", "adam"), (0.01, 0.1), **toy))
