"""A small experiment of two trainings, to be run, stopped and resumed."""

import os
import time

import jax
import numpy as np
from pydantic.dataclasses import dataclass

from jaxnn.lab.config import Count, DataDir, Rate, Seed
from jaxnn.lab.run import Run
from jaxnn.lab.start import start


@dataclass(frozen=True)
class Config:
    """Settings."""

    num_steps: Count = 20  # of each training
    every: Count = 4  # steps of a chunk
    learning_rates: tuple[Rate, ...] = (0.1, 0.2)  # one for each training
    data_dir: DataDir = None  # data folder
    seed: Seed = 0  # of the noise


@jax.jit(static_argnames="num_steps")
def train(state, learning_rate, num_steps):
    """Weights descend along w - 2, which noise disturbs."""

    def step(state, _):
        key, noise_key = jax.random.split(state["key"])
        slope = state["weight"] - 2 + 0.1 * jax.random.normal(noise_key)
        return {"key": key, "weight": state["weight"] - learning_rate * slope}, slope

    return jax.lax.scan(step, state, length=num_steps)


def main(config: Config, run: Run) -> dict:
    """Two trainings, the second from the end of the first."""
    weight = np.float32(0)
    for number, learning_rate in enumerate(config.learning_rates, 1):
        run.log(training=number, learning_rate=learning_rate)
        state = {"key": jax.random.key(config.seed), "weight": jax.numpy.asarray(weight)}
        chunks = run.chunks(state, config.num_steps, every=config.every, name=f"training_{number}")
        for step, num_steps in chunks:
            chunks.state, slopes = train(chunks.state, learning_rate, num_steps)
            run.log(training=number, step=step, slope=slopes.mean(), weight=chunks.state["weight"])
            time.sleep(float(os.environ.get("TOY_PAUSE", "0")))
        weight = chunks.state["weight"]
    return {"weight": weight, "num_rows": len(run.read_log()), "train_seconds": run.train_seconds}


if __name__ == "__main__":
    start(Config, main, quick=Config(num_steps=4), resumable=True)
