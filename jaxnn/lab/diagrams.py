"""Pictures that one experiment draws each, as functions that return a matplotlib Figure."""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from jaxnn.lab import plots
from jaxnn.lab.plots import Values


def predictions(pictures, images, probabilities, titles: Sequence[str], class_names: Sequence[str]) -> Figure:
    """A row for two examples: each picture, what the net sees of it, and its probabilities [examples, classes].

    So many are drawn as there are titles.
    """
    num_rows = -(-len(titles) // 2)
    figure = Figure(figsize=(12, 1.7 * num_rows + 0.4), layout="constrained")
    axes = figure.subplots(num_rows, 6, squeeze=False, width_ratios=[1, 1, 2.4] * 2).reshape(-1, 3)
    for axis in axes[len(titles) :].ravel():
        axis.axis("off")
    for (left, middle, right), picture, image, probs, title in zip(
        axes, pictures, images, probabilities, titles, strict=False
    ):
        left.imshow(picture, cmap="gray", vmin=0, vmax=1)
        left.set_title(title if len(title) <= 24 else f"{title[:10]}...{title[-10:]}", fontsize=8, parse_math=False)
        middle.imshow(np.squeeze(image), cmap="gray_r")
        for axis in (left, middle):
            axis.set(xticks=[], yticks=[])
        best = int(np.argmax(probs))
        colours = ["tab:blue" if index == best else "silver" for index in range(len(probs))]
        right.bar(range(len(probs)), probs, color=colours)
        right.set_title(f"{class_names[best]}: {probs[best]:.1%}", fontsize=9, parse_math=False)
        right.set(ylim=(0, 1), yticks=[0, 0.5, 1])
        turned = 90 if sum(map(len, class_names)) > 50 else 0
        right.set_xticks(range(len(probs)), class_names, rotation=turned, parse_math=False)
        right.tick_params(labelsize=7)
    return figure


def paths(x1, x2, values, lines: Mapping[str, Values], *, minimum) -> Figure:
    """Paths [steps, 2] over the contours of a function, on a logarithmic scale; a cross marks its minimum."""
    figure = Figure(figsize=(7.5, 6), layout="constrained")
    axis = figure.subplots()
    levels = np.geomspace(1e-2, np.max(values), 25)
    axis.contourf(x1, x2, values, levels, norm="log", extend="both", cmap="coolwarm", alpha=0.5)
    for (label, line), style in zip(lines.items(), itertools.cycle(["-", "--", "-.", ":"])):  # some coincide
        axis.plot(*np.transpose(line), linestyle=style, linewidth=1.5, label=label)
    axis.plot(*minimum, marker="x", color="black", markersize=9, linestyle="none", label="minimum")
    axis.set(xlabel="$x_1$", ylabel="$x_2$", xlim=(np.min(x1), np.max(x1)), ylim=(np.min(x2), np.max(x2)))
    axis.legend(fontsize=8)
    return figure


def simplex(probs, panels: Mapping[str, Values], *, unit: str, mark: Values) -> Figure:
    """Values over distributions of three outcomes [number, 3], as a triangle whose corners are the sure outcomes.

    A cross marks the distribution `mark`.
    """
    corners = np.array([[0, 0], [1, 0], [0.5, np.sqrt(0.75)]])
    x, y = (np.asarray(probs) @ corners).T
    figure, axes = plots.make_panels(len(panels), size=(4.6, 3.9))
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        image = axis.tricontourf(x, y, values, 20, cmap="coolwarm")
        figure.colorbar(image, ax=axis, label=unit, shrink=0.8)
        axis.plot(*(mark @ corners), marker="x", color="black")
        for number, (corner, side) in enumerate(zip(corners, ("right", "left", "center"), strict=True), 1):
            axis.text(*corner, f" $q_{number}=1$ ", ha=side, va="bottom" if side == "center" else "top")
        axis.set(title=title, aspect="equal", xlim=(-0.15, 1.15), ylim=(-0.12, 1.02))
        axis.axis("off")
    return figure


def points(panels: Mapping[str, tuple], *, xlabel: str = "", ylabel: str = "") -> Figure:
    """A panel per title: of (x, y, slope), the points and the line y = slope · x to hold them against."""
    figure, axes = plots.make_panels(len(panels), size=(5.0, 4.0))
    for axis, (title, (x, y, slope)) in zip(axes, panels.items(), strict=True):
        axis.scatter(x, y, s=14, alpha=0.5)
        ends = np.array([np.min(x), np.max(x)])
        axis.plot(ends, slope * ends, color="black", linewidth=1)
        axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
        axis.grid(alpha=0.3)
    return figure


def classes(panels: Mapping[str, Values], labels, class_names: Sequence[str]) -> Figure:
    """A panel per title: points [number, 2] in the colours of their classes, whose names stand at their medians."""
    figure, axes = plots.make_panels(len(panels), size=(5.0, 4.6))
    labels = np.asarray(labels)
    for axis, (title, spots) in zip(axes, panels.items(), strict=True):
        axis.scatter(*np.transpose(spots), c=labels, cmap="tab10", vmin=0, vmax=9, s=6)
        for label, name in enumerate(class_names):
            if (labels == label).any():
                place = np.median(spots[labels == label], axis=0)
                axis.text(
                    *place, name, ha="center", va="center", bbox={"boxstyle": "round", "fc": "white", "alpha": 0.8}
                )
        axis.set(title=title, xticks=[], yticks=[])
    return figure


def heatmaps(panels: Mapping[str, Values], *, rows: tuple[str, Values], columns: tuple[str, Values]) -> Figure:
    """A panel per title: values [rows, columns] in colour on a logarithmic scale, a cross on the lowest.

    `rows` and `columns` have the name and the values of each axis.
    """
    figure, axes = plots.make_panels(len(panels), size=(4.6, 4.0))
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        finite = np.ma.masked_invalid(values)
        norm = LogNorm(finite.min(), min(finite.max(), 10 * finite.min()))  # what diverged says nothing about the rest
        image = axis.imshow(finite, cmap="viridis", norm=norm, aspect="auto", origin="lower")
        figure.colorbar(image, ax=axis, extend="max")
        row, column = np.unravel_index(finite.argmin(), finite.shape)
        axis.plot(column, row, marker="x", color="white", markersize=10)
        axis.set(title=title, ylabel=rows[0], xlabel=columns[0])
        axis.set_yticks(range(len(rows[1])), [f"{value:.2g}" for value in rows[1]])
        axis.set_xticks(range(len(columns[1])), [f"{value:.0e}" for value in columns[1]], rotation=45)
    return figure


def tables(
    panels: Mapping[str, Values], *, rows: Sequence[str], columns: Sequence, xlabel: str = "", label: str = ""
) -> Figure:
    """A panel per title: of values [rows, columns, runs], mean ± sd on the colour of the mean."""
    means = {title: np.mean(values, axis=-1) for title, values in panels.items()}
    size = 1.2 + 0.7 * len(columns), 0.9 + 0.4 * len(rows)
    figure, axes = plots.make_panels(len(panels), size=(size[0] + 2 / len(panels), size[1]), sharey=True)
    low, high = min(map(np.min, means.values())), max(map(np.max, means.values()))
    for axis, (title, values) in zip(axes, means.items(), strict=True):
        image = axis.imshow(values, cmap="viridis", vmin=low, vmax=high, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            runs = np.asarray(panels[title][row][column])
            text = f"{value:.2f}" + (f"\n± {runs.std(ddof=1):.2f}" if len(runs) > 1 else "")
            colour = "black" if value > (low + high) / 2 else "white"
            axis.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
        axis.set(title=title, xlabel=xlabel)
        axis.set_xticks(range(len(columns)), columns)
        axis.set_yticks(range(len(rows)), rows)
    figure.colorbar(image, ax=axes, label=label)
    return figure


def network(neurons: Sequence[np.ndarray], edges: Sequence[np.ndarray], *, title: str = "") -> Figure:
    """A fully connected net, from left to right: `neurons` holds a value for each of its neurons but the inputs.

    `edges` holds a matrix [from, to] for each layer. Red is positive and blue negative, and the thicker the larger.
    """
    columns = [np.zeros(len(edges[0])), *neurons]
    heights = [(len(column) - 1) / 2 - np.arange(len(column)) for column in columns]  # the first on top
    figure = Figure(figsize=(2.4 * len(columns), 1.3 * max(map(len, columns)) + 0.6), layout="constrained")
    axis = figure.subplots()
    largest = max(np.abs(matrix).max() for matrix in edges) or 1
    for number, matrix in enumerate(edges):
        for (row, column), value in np.ndenumerate(matrix):
            ends = heights[number][row], heights[number + 1][column]
            colour = "tab:red" if value > 0 else "tab:blue"
            axis.plot([number, number + 1], ends, color=colour, linewidth=0.3 + 5 * abs(value) / largest, zorder=1)
    limit = max(np.abs(values).max() for values in neurons) or 1
    coolwarm = matplotlib.colormaps["coolwarm"]
    for number, values in enumerate(columns):
        names = [f"$x_{index}$" for index in range(1, len(values) + 1)]
        shades = coolwarm(values / limit / 2 + 0.5) if number else ["lightgrey"] * len(values)
        axis.scatter([number] * len(values), heights[number], s=1300, c=shades, edgecolors="black", zorder=2)
        for height, name, value in zip(heights[number], names, values, strict=True):
            text = name if number == 0 else f"{value:.3f}"
            axis.text(number, height, text, ha="center", va="center", fontsize=8, zorder=3)
    axis.set(
        title=title, xlim=(-0.4, len(columns) - 0.6), ylim=(-max(map(len, columns)) / 2, max(map(len, columns)) / 2)
    )
    axis.axis("off")
    return figure


def classified(images, labels, probs, class_names: Sequence[str], *, worst: bool) -> Figure:
    """Images, titled with their labels; mistakes in red, with what was read and the label's probability.

    Shown are up to 30 images, first the mistakes, by the label's probability, if `worst`; else up to 10 mistakes and 50
    others, in their order.

    images [examples, height, width, 1], labels [examples], probs [examples, classes].
    """
    predictions, labels = np.argmax(probs, axis=1), np.asarray(labels)
    mistaken = predictions != labels
    shown = np.sort(np.concatenate([np.flatnonzero(mistaken)[:10], np.flatnonzero(~mistaken)[:50]]))
    if worst:
        shown = np.lexsort((probs[np.arange(len(labels)), labels], ~mistaken))[:30]
    titles = [
        f"{class_names[labels[i]]}\nas {class_names[predictions[i]]}\n{probs[i, labels[i]]:.1%}"
        if predictions[i] != labels[i]
        else class_names[labels[i]]
        for i in shown
    ]
    return plots.image_grid(images[shown], titles, wrong=mistaken[shown])


def race(steps, curves: Mapping[str, Values], *, target: float) -> Figure:
    """Losses [nets, steps] of each racer, with a gap where one is not finite, and the loss that is to be reached."""
    lines = {name: (steps, losses) for name, losses in curves.items()}
    lines[f"target {target:g}"] = steps, np.full(len(steps), target)
    title = f"each at its best learning rate, {len(next(iter(curves.values())))} nets"
    return plots.lines({title: lines}, xlabel="step", ylabel="loss on validation images", log="y", all_runs=True)
