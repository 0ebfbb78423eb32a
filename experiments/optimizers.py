"""Eight optimizers, each at its best learning rate: which reaches a low loss first.

The deck (page 20) answers slow training with AdaGrad, RMSProp, Adam and their kin. Here they train the same net on the
same digits. Each gets the best learning rate of one grid, by the loss on validation images; then nets with other seeds
race, all optimizers from the same initial weights and with the same batches.

Run:    make experiment NAME=optimizers

Expect: steps to a loss of 0.2 (10 seeds): 360 ± 24 (sgd), 178 ± 22 (momentum), 168 ± 21 (nesterov), 190 ± 21 (adagrad),
        198 ± 18 (rmsprop), 210 ± 27 (adam), 205 ± 31 (adamw), 195 ± 11 (muon, which ends lowest)

Time:   2 min 16 s
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
from jaxnn.lab.config import require
from jaxnn.lab.run import Run, RunFailedError, start

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


@dataclass(frozen=True)
class Config:
    """Grid and race."""

    optimizers: tuple[Optimizer, ...] = tuple(OPTIMIZERS)  # those that race
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)  # the grid
    num_train: int = 10_000  # train on the first so many images
    num_steps: int = 600  # of each training, 100 images each
    eval_every: int = 25  # steps between two looks at the validation images
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
        require(self, "num_seeds", 1 <= self.num_seeds <= 100, "in 1 ... 100")
        last_seed = 2**30 - self.num_seeds  # those above belong to the grid
        require(self, "seed", 0 <= self.seed <= last_seed, f"in 0 ... {last_seed}")


def flatten(images):
    """Images [number, 28, 28, 1] as inputs [number, 784] between 0 and 1."""
    return images.reshape(len(images), -1) / 255


def loss_fn(params, state, batch, keys):
    """Softmax cross-entropy."""
    logits, state = MODEL.apply(params, state, flatten(batch.inputs), keys)
    return losses.softmax_cross_entropy(logits, batch.targets), state


def make_program(config: Config, name: Optimizer, num_looks: int):
    """All learning rates and seeds in one program: the nets [rates, seeds, ...], their validation losses at each look.

    The loss of a net that has diverged is infinite.
    """

    def train_net(learning_rate, key, train, validation):
        optimizer = OPTIMIZERS[name](learning_rate)
        net = training.init_train_state(key, MODEL, optimizer, flatten(train.inputs[:1]))
        num_steps = config.num_steps // num_looks

        def stretch(net, stop):
            settings = {"optimizer": optimizer, "batch_size": 100, "num_steps": num_steps}
            net, _ = training.train_steps(net, train, loss_fn=loss_fn, **settings)
            loss = loss_fn(net.params, net.state, validation, None)[0].mean()
            return net, jnp.where((net.step == stop) & jnp.isfinite(loss), loss, jnp.inf)

        net, course = jax.lax.scan(stretch, net, num_steps * jnp.arange(1, num_looks + 1))
        return net.params, course

    over_seeds = jax.vmap(train_net, (None, 0, None, None))
    return jax.jit(jax.vmap(over_seeds, (0, None, None, None)))


def tune(config: Config, run: Run, data: datasets.Splits) -> tuple[dict[str, float], dict[str, float]]:
    """The learning rate of each optimizer whose nets end with the lowest mean loss, and the seconds that a step took.

    These are per net, while all nets of the grid learn side by side.
    """
    best, seconds, courses = {}, {}, {}
    keys = jax.vmap(jax.random.key)(2**30 + jnp.arange(config.num_tuning_seeds))
    arguments = jnp.array(config.learning_rates), keys, data.train, data.validation
    num_nets = len(config.learning_rates) * config.num_tuning_seeds
    with run.progress(len(config.optimizers) * num_nets, unit="nets") as report:
        for number, name in enumerate(config.optimizers, 1):
            program = make_program(config, name, 1).lower(*arguments).compile()
            began = time.perf_counter()
            _, course = jax.block_until_ready(program(*arguments))
            seconds[name] = (time.perf_counter() - began) / num_nets / config.num_steps
            courses[name] = np.asarray(course, float)[..., 0].T  # [seeds, rates]
            found = courses[name].mean(axis=0)
            if not np.isfinite(found).any():
                raise RunFailedError(f"{name} diverges at all --learning-rates: give lower ones")
            best[name] = config.learning_rates[int(np.argmin(found))]
            for rate, loss in zip(config.learning_rates, found.tolist(), strict=True):
                run.log(optimizer=name, learning_rate=rate, validation_loss=finite(loss))
            report(number * num_nets)
            at_an_end = best[name] in (config.learning_rates[0], config.learning_rates[-1])
            run.say(f"{name}: best at {best[name]:g}{', an end of the grid' if at_an_end else ''}")
    panel = {name: (config.learning_rates, complete(course)) for name, course in courses.items()}
    title = f"after {config.num_steps:,} steps"
    figure = plots.lines({title: panel}, xlabel="learning rate", ylabel="loss on validation images", log="xy")
    run.save_figure("learning_rates", figure)
    return best, seconds


def finite(number: float) -> float | None:
    """The number, or None for what JSON does not have."""
    return number if math.isfinite(number) else None


def complete(course: np.ndarray) -> np.ndarray:
    """The losses [nets, points] where no net has diverged, else NaN: a gap in the picture."""
    return np.where(np.isfinite(course).all(axis=0), course, np.nan)


def main(config: Config, run: Run) -> dict:
    """Tunes, then lets nets with other seeds race; the test set is looked at once, at the end."""
    data = datasets.mnist(config.data_dir)
    data = jax.device_put(data._replace(train=jax.tree.map(lambda leaf: leaf[: config.num_train], data.train)))
    run.record(data_sha256=datasets.SHA256["mnist"])
    run.say(f"each optimizer at {len(config.learning_rates)} learning rates")
    best, seconds = tune(config, run, data)
    keys = jax.vmap(jax.random.key)(jnp.arange(config.seed, config.seed + config.num_seeds))
    num_looks = config.num_steps // config.eval_every
    nets, courses = {}, {}
    run.say("the race, each at its best")
    with run.progress(len(config.optimizers) * config.num_seeds, unit="nets") as report:
        for number, name in enumerate(config.optimizers, 1):
            program = make_program(config, name, num_looks)
            params, course = program(jnp.array([best[name]]), keys, data.train, data.validation)
            nets[name], courses[name] = jax.tree.map(lambda leaf: leaf[0], params), np.asarray(course[0], float)
            for seed, losses_of_net in enumerate(courses[name].tolist(), config.seed):
                row = {"validation_losses": [finite(loss) for loss in losses_of_net]}
                run.log(optimizer=name, learning_rate=best[name], seed=seed, **row)
            report(number * config.num_seeds)
            run.say(f"{name}: loss {courses[name][:, -1].mean():.4f} on validation images")
    draw(config, run, courses)
    return summarize(config, best, courses, seconds, accuracies(nets, data.test))


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
    title = f"each at its best learning rate, {config.num_seeds} nets"
    figure = plots.lines({title: panel}, xlabel="step", ylabel="loss on validation images", log="y")
    run.save_figure("race", figure)


def summarize(config: Config, best, courses, seconds, test_accuracies) -> dict:
    """Of each optimizer, mean and deviation: loss, steps to the target, accuracy; and its lead over the first, by seed.

    None stands where a net has diverged or missed the target.
    """
    first = config.optimizers[0]
    steps_to_target = {name: count_steps(config, course) for name, course in courses.items()}
    summary: dict[str, int | float | None] = {"num_seeds": config.num_seeds, "target": config.target}
    for name, course in courses.items():
        columns = {
            f"{name}_validation_loss": course[:, -1],
            f"{name}_steps_to_target": steps_to_target[name],
            f"{name}_test_accuracy": test_accuracies[name],
        }
        if name != first:
            columns[f"{name}_steps_after_{first}"] = steps_to_target[name] - steps_to_target[first]
        summary[f"{name}_learning_rate"] = best[name]
        summary[f"{name}_num_diverged"] = int((~np.isfinite(course[:, -1])).sum())
        for key, values in columns.items():
            whole = np.isfinite(values).all()
            summary[key] = values.mean().item() if whole else None
            summary[f"{key}_sd"] = values.std(ddof=1).item() if whole and len(values) > 1 else None
        summary[f"{name}_to_target_seconds"] = finite(steps_to_target[name].mean().item() * seconds[name])
    return summary


def count_steps(config: Config, course: np.ndarray) -> np.ndarray:
    """Of each net, the steps to the first look at which its loss was at most the target; NaN where there was none."""
    reached = course <= config.target
    return np.where(reached.any(axis=1), (reached.argmax(axis=1) + 1) * config.eval_every, np.nan)


if __name__ == "__main__":
    toy = {"num_steps": 40, "eval_every": 20, "num_tuning_seeds": 1, "num_seeds": 2}
    start(Config, main, quick=Config(("sgd", "adam"), (0.01, 0.1), **toy))
