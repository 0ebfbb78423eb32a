"""Pictures of how nets learn, as functions that return a matplotlib Figure."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxnn.lab import plots, style
from jaxnn.lab.style import Values


def learning_curves(rows: Sequence[Mapping], *, lowest_loss: float) -> Figure:
    """From the log of a training: its errors on training and on validation images, and its training loss.

    rows: each with seed, step, train_loss, train_accuracy and validation_accuracy.
    lowest_loss: below which the training loss cannot fall, because labels are smoothed; 0 if they are not.
    """
    columns = "train_accuracy", "validation_accuracy", "train_loss"
    (steps, trained), (_, validated), (_, losses) = (plots.by_seed(rows, "step", column) for column in columns)
    errors = {"training images": (steps, 100 - 100 * trained), "validation images": (steps, 100 - 100 * validated)}
    panels = {"Errors (training images with their noise)": errors, "Loss": {"training images": (steps, losses)}}
    figure = plots.lines(panels, xlabel="step", ylabel=("error (%)", "training loss (nats)"), log="y")
    if lowest_loss > 0:
        style.mark(figure.axes[1], f"labels are smoothed: no net gets below {lowest_loss:.2f}", y=lowest_loss)
    return figure


def errors(rows: Sequence[Mapping], titles: Sequence[str], *, kind: str) -> Figure:
    """From the log of trainings: a panel per kind of net, its errors on training and on validation images by epoch.

    rows: each with seed, epoch, train_accuracy, validation_accuracy and the column `kind`.
    """
    panels: dict[str, dict] = {title: {} for title in titles}
    for part, name in (("train", "training images"), ("validation", "validation images")):
        curves = plots.by_kind(rows, kind, "epoch", f"{part}_accuracy")
        for panel, (epochs, accuracies) in zip(panels.values(), curves.values(), strict=True):
            panel[name] = epochs, 100 - 100 * accuracies
    named = {"xlabel": "epoch", "ylabel": "error (%)", "num_columns": 3, "log": "y", "share_y": True}
    return plots.lines(panels, **named, behind=True)


def rates(curves: Mapping[str, tuple[Values, Values]], best: Mapping[str, float], *, heading: str) -> Figure:
    """Of each optimizer, learning rates and the losses [nets, rates] that they lead to; the best rate is marked."""
    panels = {name: {name: curve} for name, curve in curves.items()}
    named = {"xlabel": "learning rate", "ylabel": "validation loss (nats)", "log": "xy", "share_y": True}
    figure = plots.lines(panels, **named, num_columns=4, height=2.3, heading=heading, all_runs=True, behind=True)
    for axis, name in zip(figure.axes, curves, strict=False):
        style.mark(axis, f"{best[name]:g}", x=best[name])
    return figure


def race(steps: Values, losses: Mapping[str, Values], needed: Mapping[str, float], *, target: float) -> Figure:
    """Losses [nets, steps] of each racer, with a gap where one is not finite, and the loss that is to be reached.

    needed: how many steps each racer takes to the target, NaN where that is not known.
    """
    titles = {name: f"{name}: {number:.0f} steps" if np.isfinite(number) else name for name, number in needed.items()}
    panels = {titles[name]: {name: (steps, values)} for name, values in losses.items()}
    named = {"xlabel": "step", "ylabel": "validation loss (nats)", "log": "y", "share_y": True, "num_columns": 4}
    num_nets = len(next(iter(losses.values())))
    heading = f"Each at its best learning rate, {num_nets} nets; dotted: the target, {target:g}; grey: the others"
    figure = plots.lines(panels, **named, height=2.3, heading=heading, all_runs=True, behind=True)
    for axis in figure.axes[: len(panels)]:
        style.mark(axis, "", y=target)
    return figure


def early_stopping(rows: Sequence[Mapping], *, kind: str) -> Figure:
    """From the log of trainings: a panel per kind of net, its losses by epoch, and dots where nets have stopped early.

    Lines are means until the first net stops.

    rows: each with seed, epoch, train_loss and validation_loss, None where a net has stopped, and the column `kind`.
    """
    trained, validated = (plots.by_kind(rows, kind, "epoch", f"{part}_loss") for part in ("train", "validation"))
    panels = {
        name.replace("_", " "): {"training digits": trained[name], "validation digits": validated[name]}
        for name in trained
    }
    named = {"xlabel": "epoch", "ylabel": "loss (nats)", "share_y": True, "num_columns": 4, "height": 2.3}
    heading = "Losses, mean ± sd of all nets; grey: the other validation losses; a dot: a net stops, its best is taken"
    figure = plots.lines(panels, **named, heading=heading, all_runs=True, behind=True)
    for axis, (epochs, losses) in zip(figure.axes, validated.values(), strict=False):
        last = np.isfinite(losses).sum(axis=1) - 1
        stopped = (last >= 0) & (last < len(epochs) - 1)
        axis.plot(epochs[last[stopped]], losses[stopped, last[stopped]], "o", color="black", markersize=4)
    return figure


def gradients(panels: Mapping[str, Mapping[str, tuple[Values, Values]]]) -> Figure:
    """A panel per kind of net: of each initialisation, hidden layers and log₁₀ of their gradients [nets, layers].

    Shaded are gradients so small that a few hundred steps with momentum at a rate of 0.1 move no weight by a thousandth
    of its size, and so large that one step at a rate of 0.001 moves it by half its size or more.
    """
    named = {"xlabel": "hidden layer (1: at the pixels)", "ylabel": "largest weight gradient", "share_y": True}
    figure = plots.lines(panels, num_columns=3, height=2.6, **named, heading="Gradients before the first step")
    low, high = figure.axes[0].get_ylim()
    for axis, panel in zip(figure.axes, panels.values(), strict=False):
        axis.axhspan(min(low, -7), -6, color=style.BLUE, alpha=0.12, linewidth=0)
        axis.axhspan(2, max(high, 3), color=style.RED, alpha=0.12, linewidth=0)
        right = max(np.max(layers).item() for layers, _ in panel.values())
        axis.text(right, min(low, -7) + 1, "vanishes", ha="right", color=style.BLUE)
        axis.text(right, 2.5, "explodes", ha="right", color=style.RED)
        axis.set(ylim=(min(low, -7), max(high, 3)))
        axis.yaxis.set_major_formatter("$10^{{{x:g}}}$")
    return figure


def batch_normalisation(read: Mapping[str, tuple], grown: Mapping[str, tuple]) -> Figure:
    """By kind of net, for each hidden layer: the digits that are read right from it (%), and log₁₀ of its gradient."""
    panels = {"Layer by layer, the digit is forgotten ...": read, "... and gradients grow on their way back": grown}
    ylabel = "digits read right from the layer (%)", "largest weight gradient"
    heading = "Random nets with batch normalisation, before the first step"
    figure = plots.lines(panels, xlabel="hidden layer (1: at the pixels)", ylabel=ylabel, heading=heading, height=3.3)
    figure.axes[0].set_ylim(0, None)
    style.mark(figure.axes[0], "guessing", y=10.0)
    figure.axes[1].yaxis.set_major_formatter("$10^{{{x:g}}}$")
    return figure
