"""The logistic neuron as a classifier: cross-entropy, Newton's method, straight boundaries, several classes.

The deck (pages 5-6) takes σ(wᵀx + b) for the probability of a class and cross-entropy for its loss. Newton's method
finds the optimum in a few steps, gradient descent in many; the boundary is a straight line. Where that separates the
classes completely there is no optimum, and the run says so. Softmax regression does the same for several classes.

Run:    make experiment NAME=logistic_regression

Expect: 8 Newton steps; probabilities within 1e-15 of scikit-learn's on breast cancer and iris; a boundary that is
        straight to 2e-15 (1 seed)

Time:   13 s
"""

import functools
import warnings
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass
from sklearn.linear_model import LogisticRegression

from jaxnn import data, descent, linear_models, losses, metrics, models
from jaxnn.lab import datasets, plots, tables
from jaxnn.lab.config import Penalty, Seed, UserPath
from jaxnn.lab.run import Run
from jaxnn.lab.start import start
from jaxnn.layers import dense
from jaxnn.types import Batch


@dataclass(frozen=True)
class Config:
    """The data, and the fits."""

    csv: UserPath | None = None  # a table whose last column is the label, a word or 0 ... K-1; None is two real sets
    num_points: Annotated[int, Field(ge=2, le=1_000_000)] = 200  # made-up examples, half of each class
    distance: Annotated[float, Field(ge=0, le=1000)] = 3.0  # between the centres of the classes, in standard deviations
    l2: Penalty = 1e-3  # times the sum of squared weights, in the loss on the table
    seed: Seed = 0  # of the made-up examples


def fit_two_classes(run: Run, examples: Batch) -> dict:
    """Newton's method against gradient descent, and how straight the boundary is."""
    inputs, labels = examples
    fit = jax.jit(linear_models.logistic_regression)(inputs, labels)
    warn(run, "the made-up classes", fit)

    def loss(flat):
        return losses.sigmoid_cross_entropy(inputs @ flat[:2] + flat[2], labels.astype(float)).mean()

    rate = 8 / linear_models.largest_curvature(inputs)  # the inverse of the loss's curvature, since σ' is at most 1/4
    descend = functools.partial(descent.gradient_descent, loss, learning_rate=rate, tol=0.0, max_steps=2000)
    newton = jax.vmap(lambda num_steps: descent.newton(loss, jnp.zeros(3), max_steps=num_steps).x)  # it returns no path
    paths = {"gradient descent": jax.jit(descend)(jnp.zeros(3)).path, "Newton": jax.jit(newton)(jnp.arange(10))}
    minimum = loss(jnp.append(fit.params["weight"][:, 0], fit.params["bias"]))
    excess = {name: np.asarray(jax.vmap(loss)(path) - minimum) for name, path in paths.items()}
    panel = {name: (np.arange(1, len(gap) + 1), np.maximum(gap, 1e-16)) for name, gap in excess.items()}
    named = {"xlabel": "step (1 is the start)", "ylabel": "loss above its minimum (nats)"}
    run.save_figure("descent", plots.lines({"Newton needs a few steps": panel}, **named, log="xy"))
    x1, x2 = jnp.meshgrid(*(jnp.linspace(column.min() - 1, column.max() + 1, 101) for column in inputs.T))
    logits = models.linear(1).apply(fit.params, {}, jnp.stack([x1, x2], axis=-1))[0][..., 0]
    shown = {"points": inputs, "labels": labels, "class_names": ("class 0", "class 1"), "level": 0.5}
    named = {"name": "probability of class 1", "title": "The boundary is straight"}
    run.save_figure("boundary", plots.boundary(x1, x2, jax.nn.sigmoid(logits), **shown, **named))
    return {
        "newton_steps": fit.num_steps,
        "descent_excess_loss": excess["gradient descent"][-1],
        "boundary_bend": plots.level_bend(x1, x2, logits, level=0),
    }


def fit_separable(run: Run, examples: Batch) -> dict:
    """Without a penalty the weights of separable classes grow for ever; with one there is an optimum."""
    free, penalized = (jax.jit(linear_models.logistic_regression)(*examples, l2=l2) for l2 in (0.0, 1e-3))
    warn(run, "the made-up classes, moved apart,", free)
    return {
        "made_up_separated": free.separated,
        "made_up_weight_norm": jnp.linalg.norm(free.params["weight"]),
        "made_up_weight_norm_l2": jnp.linalg.norm(penalized.params["weight"]),
    }


def warn(run: Run, name: str, fit, l2: float = 0.0):
    """Tells the user where a fit has no optimum, or has not found it."""
    if fit.separated and l2 == 0:
        run.say(f"{name} are separable: the loss without a penalty has no minimum, the weights would grow for ever")
    elif not fit.converged:
        run.say(f"warning: the fit of {name} has not converged: give an --l2 above {l2:g}")


def load_sets(config: Config, run: Run) -> dict[str, tuple[Batch, tuple[str, ...]]]:
    """The user's table, or breast cancer and iris, and what their classes are called."""
    if config.csv is None:
        return {name: (getattr(datasets, name)(), datasets.CLASS_NAMES[name]) for name in ("breast_cancer", "iris")}
    table = tables.read_csv(config.csv, labels=True)
    for warning in tables.warnings(table) if config.l2 == 0 else []:  # a penalty makes every fit unique
        run.say(f"warning: {warning}")
    return {"table": (Batch(table.inputs, table.targets), table.class_names)}


def fit_table(config: Config, run: Run, name: str, table: Batch, class_names: tuple[str, ...]) -> dict:
    """A real table, features standardised, against scikit-learn: logistic for two classes, softmax for more."""
    inputs, labels = data.standardize(data.fit_standardizer(table.inputs), table.inputs), jnp.asarray(table.targets)
    num_classes = len(class_names)
    softmax = functools.partial(linear_models.softmax_regression, num_classes=num_classes)
    fit = jax.jit(linear_models.logistic_regression if num_classes == 2 else softmax)(inputs, labels, l2=config.l2)
    warn(run, f"the classes of {name}", fit, config.l2)
    logits = dense(fit.params, inputs)
    if num_classes == 2:  # softmax of (0, z) is (1 - σ(z), σ(z))
        logits = jnp.concatenate([jnp.zeros_like(logits), logits], axis=1)
    matrix = metrics.confusion_matrix(labels, logits.argmax(axis=1), num_classes=num_classes)
    run.save_figure(f"confusion_{name}", plots.confusion(matrix, class_names, title=f"{name}, training data"))
    run.log(table=name, classes=class_names, weights=fit.params["weight"], bias=fit.params["bias"])
    return {
        f"{name}_loss": losses.softmax_cross_entropy(logits, labels).mean(),
        f"{name}_accuracy": metrics.accuracy(logits, labels),
        f"{name}_newton_steps": fit.num_steps,
        f"{name}_difference_to_sklearn": difference_to_sklearn(inputs, labels, logits, config.l2),
    }


def difference_to_sklearn(inputs, labels, logits, l2: float):
    """The largest difference between the probabilities and scikit-learn's for the same loss; NaN without penalty."""
    if l2 == 0:
        return np.nan
    theirs = LogisticRegression(C=1 / (2 * len(inputs) * l2), solver="newton-cholesky", tol=1e-12, max_iter=1000)
    with warnings.catch_warnings(action="ignore"):  # its line search complains at the optimum itself
        theirs.fit(inputs, labels)
    return jnp.abs(theirs.predict_proba(inputs) - jax.nn.softmax(logits)).max()


def main(config: Config, run: Run) -> dict:
    """Two made-up classes that overlap, the same two moved apart; then real tables."""
    sets = load_sets(config, run)
    noise = jax.random.normal(jax.random.key(config.seed), (config.num_points, 2))
    labels = jnp.arange(config.num_points) % 2
    centres = (labels[:, None] - 0.5) * jnp.array([0.8, 0.6])  # of the class of each example, 1 apart
    overlapping, apart = (Batch(noise + d * centres, labels) for d in (config.distance, 4 * config.distance + 10))
    summary = fit_two_classes(run, overlapping) | fit_separable(run, apart)
    for name, (table, class_names) in sets.items():
        summary |= fit_table(config, run, name, table, class_names)
    return summary


if __name__ == "__main__":
    start(Config, main, quick=Config(num_points=60), x64=True)
