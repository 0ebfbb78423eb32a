"""The logistic neuron as a classifier: cross-entropy, Newton's method, straight boundaries, several classes.

The deck (pages 5-6) takes σ(wᵀx + b) for the probability of a class and cross-entropy for its loss. Newton's method
finds the optimum in a few steps, gradient descent in many; the boundary is a straight line; where it can separate the
classes completely there is no optimum, which is said. Softmax regression does the same for several classes.

Run:    make experiment NAME=logistic_regression

Expect: 8 Newton steps; probabilities within 1e-15 of scikit-learn's on breast cancer and iris; a boundary that is
        straight to 2e-15 (1 seed)

Time:   13 s
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402

from jaxnn import data, descent, linear_models, losses, metrics, models  # noqa: E402
from jaxnn.lab import datasets, plots, tables  # noqa: E402
from jaxnn.lab.config import require, require_seeds  # noqa: E402
from jaxnn.lab.run import Run, start  # noqa: E402
from jaxnn.types import Batch  # noqa: E402


@dataclass(frozen=True)
class Config:
    """The data, and the fits."""

    csv: Path | None = None  # a table whose last column is the label, 0 ... K-1; None is the breast cancer set
    num_points: int = 200  # made-up examples, half of each class
    distance: float = 3.0  # between the centres of the two classes, in standard deviations
    l2: float = 1e-3  # times the sum of squared weights, in the loss on the table
    max_steps: int = 2000  # of gradient descent
    seed: int = 0  # of the made-up examples

    def __post_init__(self):
        """Refuses what cannot be."""
        require(self, "num_points", 2 <= self.num_points <= 1_000_000, "in 2 ... 1000000")
        require(self, "distance", 0 <= self.distance <= 1000, "in 0 ... 1000")
        require(self, "l2", 0 <= self.l2 <= 1e6, "in 0 ... 1e6")
        require(self, "max_steps", 1 <= self.max_steps <= 1_000_000, "in 1 ... 1000000")
        require_seeds(self)


def main(config: Config, run: Run) -> dict:
    """Two made-up classes that overlap, the same ones apart; real tables."""
    sets = load_sets(config, run)
    noise = jax.random.normal(jax.random.key(config.seed), (config.num_points, 2))
    labels = jnp.arange(config.num_points) % 2
    direction = jnp.array([0.8, 0.6])
    overlapping, apart = (
        Batch(noise + (labels[:, None] - 0.5) * distance * direction, labels)
        for distance in (config.distance, 4 * config.distance + 10)
    )
    return fit_two_classes(config, run, overlapping) | fit_separable(run, apart) | fit_tables(config, run, sets)


def fit_two_classes(config: Config, run: Run, examples: Batch) -> dict:
    """Newton's method against gradient descent, and how straight the boundary is."""
    fit = jax.jit(linear_models.logistic_regression)(*examples)
    report_separation(run, "the made-up classes", fit)

    def loss(flat):
        logits = examples.inputs @ flat[:2] + flat[2]
        return losses.sigmoid_cross_entropy(logits, examples.targets.astype(float)).mean()

    rate = 4 / (linear_models.largest_curvature(examples.inputs) / 2)  # σ' is at most 1/4
    settings = {"learning_rate": rate, "tol": 0.0, "max_steps": config.max_steps}
    down = jax.jit(lambda x0: descent.gradient_descent(loss, x0, **settings).path)(jnp.zeros(3))
    newton = jax.jit(jax.vmap(lambda steps: descent.newton(loss, jnp.zeros(3), max_steps=steps).x))(jnp.arange(10))
    best = loss(jnp.append(fit.params["weight"][:, 0], fit.params["bias"]))
    losses_of = jax.jit(jax.vmap(loss))
    excess = {
        name: np.asarray(losses_of(path) - best) for name, path in (("gradient descent", down), ("Newton", newton))
    }
    content = {name: (np.arange(1, len(gap) + 1), np.maximum(gap, 1e-16)) for name, gap in excess.items()}
    run.save_figure(
        "descent", plots.lines({"loss above its minimum": content}, xlabel="step, the start is 1", log="xy")
    )

    x1, x2 = jnp.meshgrid(*(jnp.linspace(column.min() - 1, column.max() + 1, 101) for column in examples.inputs.T))
    logits, _ = models.linear(1).apply(fit.params, {}, jnp.stack([x1, x2], axis=-1))
    probability = jax.nn.sigmoid(logits[..., 0])
    title = "probability of class 1; the boundary is straight"
    figure = plots.boundary(
        x1, x2, probability, level=0.5, title=title, points=examples.inputs, labels=np.asarray(examples.targets)
    )
    run.save_figure("boundary", figure)
    return {
        "newton_steps": fit.num_steps.item(),
        "descent_excess_loss": excess["gradient descent"][-1].item(),
        "boundary_bend": plots.level_bend(x1, x2, logits[..., 0], level=0),
    }


def fit_separable(run: Run, examples: Batch) -> dict:
    """Without a penalty the weights of separable classes grow for ever; with one there is an optimum."""
    fit = jax.jit(linear_models.logistic_regression)
    free, held = (fit(*examples, l2=l2) for l2 in (0.0, 1e-3))
    report_separation(run, "the made-up classes, moved apart,", free)
    return {
        "made_up_separated": bool(free.separated),
        "made_up_weight_norm": jnp.linalg.norm(free.params["weight"]).item(),
        "made_up_weight_norm_l2": jnp.linalg.norm(held.params["weight"]).item(),
    }


def report_separation(run: Run, name: str, fit):
    """Says so where a fit without penalty has no optimum."""
    if fit.separated:
        run.say(f"{name} are separable: the loss without a penalty has no minimum, the weights would grow for ever")


def load_sets(config: Config, run: Run) -> dict[str, Batch]:
    """The user's table, or breast cancer and iris."""
    if config.csv is None:
        return {"breast_cancer": datasets.breast_cancer(), "iris": datasets.iris()}
    table = tables.read_csv(config.csv)
    labels = tables.labels(table, config.csv)
    for warning in tables.warnings(table) if config.l2 == 0 else []:  # a penalty makes every fit unique
        run.say(f"warning: {warning}")
    return {"table": Batch(table.inputs, labels)}


def fit_tables(config: Config, run: Run, sets: dict[str, Batch]) -> dict:
    """Real tables, features standardised, against scikit-learn; two classes by the logistic, more by softmax."""
    summary = {}
    for name, (inputs, labels) in sets.items():
        inputs = data.standardize(data.fit_standardizer(inputs), jnp.asarray(inputs))
        num_classes = labels.max().item() + 1
        if num_classes == 2:
            fit = jax.jit(linear_models.logistic_regression)(inputs, labels, l2=config.l2)
            logits = models.linear(1).apply(fit.params, {}, inputs)[0]
            logits = jnp.concatenate([jnp.zeros_like(logits), logits], axis=1)
        else:
            fit_softmax = jax.jit(linear_models.softmax_regression, static_argnames="num_classes")
            fit = fit_softmax(inputs, labels, num_classes=num_classes, l2=config.l2)
            logits = models.linear(num_classes).apply(fit.params, {}, inputs)[0]
        if not fit.converged:
            run.say(f"warning: the fit of {name} has not converged: give an --l2 above {config.l2:g}")
        if config.l2 == 0:
            report_separation(run, f"the classes of {name}", fit)
        matrix = metrics.confusion_matrix(labels, logits.argmax(axis=1), num_classes=num_classes)
        names = datasets.CLASS_NAMES.get(name, [str(label) for label in range(num_classes)])
        run.save_figure(f"confusion_{name}", plots.confusion(matrix, names, title=f"{name}, training data"))
        for index, weights in enumerate(fit.params["weight"].tolist()):
            run.log(table=name, feature=index, weights=weights)
        summary |= {
            f"{name}_loss": losses.softmax_cross_entropy(logits, jnp.asarray(labels)).mean().item(),
            f"{name}_accuracy": metrics.accuracy(logits, labels).item(),
            f"{name}_newton_steps": fit.num_steps.item(),
            f"{name}_difference_to_sklearn": difference_to_sklearn(inputs, labels, logits, config.l2),
        }
    return summary


def difference_to_sklearn(inputs, labels, logits, l2: float) -> float | None:
    """The largest difference between the probabilities and scikit-learn's for the same loss; None without penalty."""
    if l2 == 0:
        return None
    theirs = LogisticRegression(C=1 / (2 * len(inputs) * l2), solver="newton-cholesky", tol=1e-12, max_iter=1000)
    with warnings.catch_warnings(action="ignore"):  # its line search complains at the optimum itself
        theirs.fit(inputs, labels)
    return np.abs(theirs.predict_proba(inputs) - jax.nn.softmax(logits)).max().item()


if __name__ == "__main__":
    start(Config, main, quick=Config(num_points=60, max_steps=100))
