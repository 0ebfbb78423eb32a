"""A small training that can be run, killed and resumed: a line fitted to points."""

import dataclasses
import functools
import time

import jax
import jax.numpy as jnp
import optax

from jaxnn import losses, models, training
from jaxnn.lab.config import require
from jaxnn.lab.run import Run, start
from jaxnn.types import Batch


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings."""

    num_steps: int = 40  # steps
    every: int = 4  # steps between two checkpoints
    learning_rate: float = 0.1  # of SGD
    pause: float = 0.0  # seconds to wait after each checkpoint
    sizes: tuple[int, ...] = ()  # hidden neurons
    seed: int = 0  # of the net

    def __post_init__(self):
        """Refuses what cannot be."""
        require(self, "num_steps", self.num_steps >= 1, "1 or more")

    def extends(self, earlier):
        """More steps, and any pause, change nothing in the steps before."""
        same = dataclasses.replace(self, num_steps=earlier.num_steps, pause=earlier.pause) == earlier
        return same and self.num_steps >= earlier.num_steps


def main(config: Config, run: Run) -> dict:
    """Fits y = 2x."""
    inputs = jnp.linspace(-1, 1, 20)[:, None]
    data = Batch(inputs, 2 * inputs)
    model, optimizer = models.mlp(config.sizes, 1), optax.sgd(config.learning_rate, momentum=0.9)

    def loss_fn(params, state, batch, keys):
        outputs, state = model.apply(params, state, batch.inputs, keys)
        return losses.squared_error(outputs, batch.targets), state

    settings = {"loss_fn": loss_fn, "optimizer": optimizer, "batch_size": 5}
    train = jax.jit(functools.partial(training.train_steps, **settings), static_argnames="num_steps")
    net = training.init_train_state(jax.random.key(config.seed), model, optimizer, inputs)
    stops = [*range(config.every, config.num_steps, config.every), config.num_steps]
    net, step = run.restore(net, stops)
    with run.progress(config.num_steps, unit="steps", done=step) as report:
        for stop in (stop for stop in stops if stop > step):
            net, metrics = train(net, data, num_steps=stop - step)
            loss = metrics["loss"].mean().item()
            run.log(step=stop, loss=loss)
            run.checkpoint(stop, net)
            report(stop, loss=loss)
            time.sleep(config.pause)
            step = stop
    return {"loss": run.read_log()[-1]["loss"], "train_seconds": time.perf_counter()}


if __name__ == "__main__":
    start(Config, main, quick=Config(num_steps=4))
