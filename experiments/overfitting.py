"""Overfitting a few digits, and what helps: penalties, early stopping, dropout, augmentation.

The deck (page 20) names against overfitting ℓ1 and ℓ2 penalties, early stopping, data augmentation and dropout. Here a
net 784-300-100-10 learns from 1,000 digits with none of these regularizers, with each, and with all. On 5,000 others,
early stopping watches the loss, and the strengths of the other regularizers were chosen, by accuracy.

Run:    make experiment NAME=overfitting

Expect: test accuracy (10 seeds) 90.0 % ± 0.7 % with nothing; gains, seed by seed: l1 0.0 ± 0.1, l2 0.1 ± 0.1, early
        stopping -0.7 ± 0.7, dropout 1.3 ± 0.3, augmentation 5.1 ± 0.6, all 5.4 ± 0.5 points; test loss 0.50 ± 0.04
        with nothing, l2 0.36 ± 0.03, early stopping 0.42 ± 0.03, all 0.15 ± 0.01

Time:   3 min
"""

from typing import Annotated, Literal, get_args

import jax
import jax.numpy as jnp
import optax
from pydantic import Field
from pydantic.dataclasses import dataclass

from jaxnn import augment, layers, losses, metrics, models, training
from jaxnn.lab import curves, datasets, plots
from jaxnn.lab.config import DataDir, NumSeeds, Seed
from jaxnn.lab.run import Run, mean_and_sd
from jaxnn.lab.start import start

BATCH_SIZE = 50
EVAL_EVERY = 5  # epochs between two evaluations on the validation images
PATIENCE = 4  # early stopping after so many evaluations without a better one
MODEL = models.preprocess(layers.flatten_pixels, models.mlp([300, 100], 10))
Name = Literal["nothing", "l1", "l2", "early_stopping", "dropout", "augmentation", "all"]
IN_LOSS: dict[Name, dict] = {  # strengths are the best of coarse grids, by validation accuracy
    "l1": {"l1": 3e-5},
    "l2": {"l2": 1e-3},
    "augmentation": {"max_shift": 2, "max_rotation": 15.0},
    "all": {"l1": 1e-5, "l2": 3e-4, "max_shift": 2, "max_rotation": 10.0},
}
STOP_EARLY = "early_stopping", "all"
DROPOUT: dict[Name, float] = {"dropout": 0.5, "all": 0.2}


@dataclass(frozen=True)
class Config:
    """Data and trainings."""

    regularizers: tuple[Name, ...] = get_args(Name)  # those that are compared with nothing
    num_train: Annotated[int, Field(ge=BATCH_SIZE, le=10_000)] = 1000  # digits to learn from, others for each seed
    epochs: Annotated[int, Field(ge=1, le=10_000, multiple_of=EVAL_EVERY)] = 60  # passes over them
    data_dir: DataDir = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: Seed = 0  # of the first net of each kind
    num_seeds: NumSeeds = 10  # nets of each kind; the others take the seeds that follow


def make_loss(model: models.Model, *, l1=0.0, l2=0.0, max_shift=0, max_rotation=0.0):
    """Softmax cross-entropy on augmented images, and the penalties."""

    def loss_fn(params, state, batch, key):
        shift_key, rotation_key, noise_key = jax.random.split(key, 3)
        images = augment.random_shift(batch.inputs, shift_key, max_pixels=max_shift)
        images = augment.random_rotation(images, rotation_key, max_degrees=max_rotation)
        logits, state = model.apply(params, state, images, noise_key)
        penalty = l1 * losses.l1_penalty(params) + l2 * losses.l2_penalty(params)
        return losses.softmax_cross_entropy(logits, batch.targets) + penalty, state

    return loss_fn


def evaluate(params, **batches) -> dict[str, jax.Array]:
    """On each of the batches, the mean loss, without penalties, and the accuracy."""
    found = {}
    for name, batch in batches.items():
        logits, _ = MODEL.apply(params, {}, batch.inputs)
        found[f"{name}_loss"] = losses.softmax_cross_entropy(logits, batch.targets).mean()
        found[f"{name}_accuracy"] = metrics.accuracy(logits, batch.targets)
    return found


def make_nets(config: Config, name: Name):
    """With a regularizer: the model, the loss, the optimizer, and the nets of all seeds before the first step."""
    model = models.preprocess(layers.flatten_pixels, models.mlp([300, 100], 10, dropout=DROPOUT.get(name, 0.0)))
    num_steps, image = config.epochs * (config.num_train // BATCH_SIZE), jnp.zeros((1, 28, 28, 1), jnp.uint8)
    optimizer = optax.sgd(optax.cosine_decay_schedule(0.05, num_steps), momentum=0.9)
    keys = jax.vmap(jax.random.split)(training.seed_keys(config.seed, config.num_seeds))[:, 1]
    nets = jax.vmap(lambda key: training.init_train_state(key, model, optimizer, image))(keys)
    return model, make_loss(model, **IN_LOSS.get(name, {})), optimizer, jax.vmap(training.init_early_stopping)(nets)


def train(config: Config, run: Run, name: Name, own, validation):
    """Trains the nets of all seeds side by side, each on digits of its `own`; each is logged until it stops early."""
    _, loss_fn, optimizer, nets = make_nets(config, name)
    chunk_steps = EVAL_EVERY * (config.num_train // BATCH_SIZE)

    def train_net(net, own, validation):
        sizes = {"batch_size": BATCH_SIZE, "num_steps": chunk_steps}
        train_state, _ = training.train_steps(net.train_state, own, loss_fn, optimizer, **sizes)
        row = evaluate(train_state.params, train=own, validation=validation)
        score = -row["validation_loss"] if name in STOP_EARLY else train_state.step  # without it, the last net is best
        row = jax.tree.map(lambda x: jnp.where(training.is_training(net, patience=PATIENCE), x, jnp.nan), row)
        return training.update_early_stopping(net, train_state, score, patience=PATIENCE), row

    train_nets = jax.jit(jax.vmap(train_net, (0, 0, None)))
    chunks = run.chunks(nets, config.epochs // EVAL_EVERY * chunk_steps, every=chunk_steps, name=name)
    for step, _ in chunks:
        chunks.state, row = train_nets(chunks.state, own, validation)
        run.log_seeds(config.seed, regularizer=name, epoch=step // chunk_steps * EVAL_EVERY, **row)
    return chunks.state


def draw(run: Run, results: dict):
    """The losses of each kind until its first net stops early; errors and losses on the test set."""
    run.save_figure("learning_curves", curves.early_stopping(run.read_log(), kind="regularizer"))
    named = {name.replace("_", " "): row for name, row in results.items()}
    panels = {"errors": {name: 100 * (1 - row["test_accuracy"]) for name, row in named.items()}}
    panels["losses"] = {name: row["test_loss"] for name, row in named.items()}
    run.save_figure("test_set", plots.spread(panels, ylabel=("test error (%)", "test loss (nats)")))


def summarize(results: dict) -> dict:
    """Test accuracy and loss with each regularizer, the gap between training and test accuracy, gains seed by seed."""
    summary, nothing = {}, results["nothing"]
    for name, result in results.items():
        summary |= mean_and_sd(f"{name}_test_accuracy", result["test_accuracy"])
        summary |= mean_and_sd(f"{name}_test_loss", result["test_loss"])
        summary |= mean_and_sd(f"{name}_gap", result["train_accuracy"] - result["test_accuracy"])
        if name != "nothing":
            summary |= mean_and_sd(f"{name}_gain", result["test_accuracy"] - nothing["test_accuracy"])
    return summary


def main(config: Config, run: Run) -> dict:
    """Trains all nets, and evaluates them on the test set once, at the end."""
    data = jax.device_put(datasets.mnist(config.data_dir))
    run.record(data_sha256=datasets.SHA256["mnist"])
    keys = jax.vmap(jax.random.split)(training.seed_keys(config.seed, config.num_seeds))[:, 0]  # the others: make_nets
    drawn = jax.vmap(lambda key: jax.random.permutation(key, len(data.train.targets))[: config.num_train])(keys)
    own = jax.tree.map(lambda leaf: leaf[drawn], data.train)
    names: list[Name] = [name for name in get_args(Name) if name in ("nothing", *config.regularizers)]
    nets = {name: train(config, run, name, own, data.validation) for name in names}
    test_nets = jax.jit(jax.vmap(lambda params, own, test: evaluate(params, train=own, test=test), (0, 0, None)))
    results = {name: test_nets(nets[name].params, own, data.test) for name in nets}
    draw(run, results)
    return {"num_seeds": config.num_seeds, "num_train": config.num_train, **summarize(results)}


if __name__ == "__main__":
    start(Config, main, quick=Config(("all",), num_train=100, epochs=10, num_seeds=2), resumable=True)
