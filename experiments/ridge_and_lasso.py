"""Least squares on a real table, and what ridge and lasso penalties make of the weights.

The deck (page 3) asks for the weights of least squared error. Here they are found for a real table (diabetes, or
--csv FILE). A penalty on the weights shrinks them: ridge, on their squares, makes all of them smaller; lasso, on their
absolute values, makes more and more of them exactly 0 as it grows.

Run:    make experiment NAME=ridge_and_lasso

Expect: diabetes: R² 0.518 on the rows it is fitted to

Time:   6 s
"""

from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from jaxnn import linear_models, metrics
from jaxnn.data import fit_standardizer, standardize
from jaxnn.lab import datasets, diagrams, plots, tables
from jaxnn.lab.config import BadUsageError, Seed, UserPath
from jaxnn.lab.run import Run
from jaxnn.lab.start import start
from jaxnn.layers import dense


@dataclass(frozen=True)
class Config:
    """The table, and the penalties."""

    csv: UserPath | None = None  # a table whose last column is the target; None is the diabetes set
    num_penalties: Annotated[int, Field(ge=2, le=1000)] = 40  # strengths of ridge and lasso
    seed: Seed = 0  # changes nothing: no number is drawn here


def load_table(csv: Path | None) -> tables.Table:
    """The user's, or the diabetes set."""
    if csv is None:
        inputs, targets = datasets.diabetes()
        return tables.Table(inputs, targets[:, 0], datasets.FEATURE_NAMES["diabetes"])
    table = tables.read_csv(csv)
    if np.ptp(table.targets) == 0:
        raise BadUsageError(f"{csv}: the last column, the target, does not vary: there is nothing to fit")
    return table


def fit_table(run: Run, inputs, targets, feature_names: tuple[str, ...]):
    """Least squares on the features as they are, not standardised: says and logs the weights, in their units."""
    params = linear_models.least_squares(inputs, targets).params
    weights = params["weight"][:, 0]
    run.log(fit="least squares", bias=params["bias"][0], features=feature_names, weights=weights)
    for name, weight in zip(feature_names, weights, strict=True):
        run.say(f"{name}: weight {weight:.6g}")


def draw_residuals(run: Run, inputs, targets) -> dict:
    """Least squares on standardised features: predictions, residuals and R²."""
    fit = linear_models.least_squares(inputs, targets)
    outputs = dense(fit.params, inputs)
    predictions, residuals = outputs[:, 0], (targets - outputs)[:, 0]
    # the last number is the slope of the line on which the points of a perfect fit lie
    panels = {
        "On the line, a prediction is right": (predictions, targets[:, 0], 1),
        "What is left should show no pattern": (predictions, residuals, 0),
    }
    ylabel = "target", "residual: target - prediction"
    run.save_figure("residuals", diagrams.points(panels, xlabel="prediction", ylabel=ylabel))
    return {
        "table_rows": len(inputs),
        "table_features": inputs.shape[1],
        "table_rank": fit.rank,
        "table_condition": fit.condition,
        "table_r2": metrics.r2(outputs, targets),
        "table_residual_sd": jnp.std(residuals),
        "table_mean_residual": residuals.mean(),
    }


def draw_penalties(config: Config, run: Run, inputs, targets, feature_names: tuple[str, ...]):
    """The weights of standardised features, which both penalties treat alike, as the penalty grows."""
    largest_l1 = 2 * jnp.abs(inputs.T @ (targets - targets.mean())).max() / len(inputs)  # makes all weights 0
    l1_penalties = largest_l1 * jnp.geomspace(1e-4, 1, config.num_penalties)
    l2_penalties = jnp.geomspace(1e-4, 1e2, config.num_penalties)
    ridge = jax.vmap(lambda l2: linear_models.least_squares(inputs, targets, l2=l2))(l2_penalties)
    lasso = jax.jit(jax.vmap(lambda l1: linear_models.lasso(inputs, targets, l1=l1)))(l1_penalties)
    if not lasso.converged.all():
        run.say("warning: lasso has not converged for some penalties: the columns are nearly collinear")
    paths = {}
    for name, penalties, fits in (
        ("ridge: all weights leave 0 together", l2_penalties, ridge),
        ("lasso: they leave 0 one after another", l1_penalties, lasso),
    ):
        weights = fits.params["weight"][..., 0].T
        labels = [feature.replace("$", r"\$") for feature in feature_names]  # else Matplotlib reads formulas
        paths[name] = {  # from high to low, so that the names stand where the weights are apart
            label: (penalties[::-1], weight[::-1]) for label, weight in zip(labels, weights, strict=True)
        }
    named = {"xlabel": "penalty, from strong to weak", "ylabel": "weight of the standardised feature"}
    run.save_figure("penalties", plots.lines(paths, **named, height=4.2, log="x"))
    for penalty, weights in zip(l1_penalties, lasso.params["weight"][..., 0], strict=True):
        run.log(l1=penalty, weights=weights)


def main(config: Config, run: Run) -> dict:
    """The table by least squares, its residuals, and its weights under both penalties."""
    table = load_table(config.csv)
    for warning in tables.warnings(table):
        run.say(f"warning: {warning}")
    inputs, targets = jnp.asarray(table.inputs), jnp.asarray(table.targets)[:, None]
    fit_table(run, inputs, targets, table.feature_names)
    inputs = standardize(fit_standardizer(inputs), inputs)
    draw_penalties(config, run, inputs, targets, table.feature_names)
    return draw_residuals(run, inputs, targets)


if __name__ == "__main__":
    start(Config, main, quick=Config(num_penalties=5), x64=True)
