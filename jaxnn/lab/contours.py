"""Pictures of descents in the plane: paths on contours, and the basins of minima."""

import textwrap
from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jaxnn.lab import style
from jaxnn.lab.style import Values


def paths(
    x1,
    x2,
    values,
    lines: Mapping[str, Values],
    *,
    minimum,
    names: tuple[str, str] = ("$x_1$", "$x_2$"),
    note: str = "",
    num_columns: int = 4,
) -> Figure:
    """A panel per title: a path [steps, 2] over the contours of a function, from a ring to the cross at its minimum.

    values: how far above its minimum the function is, coloured on a logarithmic scale. `names` are those of the axes.
        The note stands in the next cell.
    """
    number = len(lines) + bool(note)
    figure, axes = style.make_panels(number, num_columns=num_columns, height=2.7, sharex=True, sharey=True)
    levels = np.max(values) * np.geomspace(3e-4, 1, 25)
    for axis, (title, line) in zip(axes, lines.items(), strict=False):
        axis.contourf(x1, x2, np.maximum(values, levels[0]), levels, norm="log", cmap="coolwarm", alpha=0.5)
        few = len(line) < 1000  # else the dots would be a thick line
        axis.plot(*np.transpose(line), color="black", marker="." if few else None, markersize=3, linewidth=0.8)
        axis.plot(*np.transpose(line[:1]), marker="o", color="white", markeredgecolor="black", markersize=6)
        axis.plot(*minimum, marker="x", color=style.RED, markersize=8, markeredgewidth=2, linestyle="none", zorder=4)
        limits = {"xlim": (np.min(x1), np.max(x1)), "ylim": (np.min(x2), np.max(x2))}
        axis.set(title=title, xlabel=names[0], ylabel=names[1], **limits)
        axis.label_outer()
    if note:
        if number > num_columns:
            axes[-1 - num_columns].tick_params(labelbottom=True)  # over the note
        axes[-1].axis("off")
        text = "\n\n".join(textwrap.fill(part, 34) for part in (note, "Ring: start. Cross: minimum."))
        axes[-1].text(0, 1, text, va="top", fontsize=9, transform=axes[-1].transAxes)
    return figure


def basins(x1, x2, values, ends, minima: Values, lowest: Values, lines: Values) -> Figure:
    """From where descent ends at which of the minima [number, 2]: regions in colours; and a few descents.

    ends: where it ends from each point of the grid [rows * columns, 2]; lowest: the value at each minimum [number];
        lines: the paths of the descents [number, steps, 2].
    """
    reached = np.linalg.norm(np.asarray(ends)[:, None] - minima, axis=-1).argmin(axis=1).reshape(np.shape(x1))
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axis = figure.subplots()
    colours = [style.BLUE, style.ORANGE, style.GREEN, style.PURPLE, style.SKY, style.YELLOW]
    shades = matplotlib.colors.ListedColormap(colours)
    reached = reached % len(colours)
    axis.pcolormesh(x1, x2, reached, cmap=shades, vmin=-0.5, vmax=len(colours) - 0.5, alpha=0.4, linewidth=0)
    axis.contour(x1, x2, values, 20, colors="grey", linewidths=0.6, linestyles="solid")
    for line in lines:
        axis.plot(*np.transpose(line), color="black", linewidth=0.9)
        axis.plot(*line[0], marker="o", color="white", markeredgecolor="black", markersize=4)
    for minimum, value in zip(minima, lowest, strict=True):
        axis.plot(*minimum, marker="*", color="black", markersize=13)
        background = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
        label = f"$f = {value:.1f}$" + ("\nthe deepest" if value == np.min(lowest) else "")
        axis.annotate(label, minimum, (0, -9), textcoords="offset points", ha="center", va="top", bbox=background)
    title = "Where descent starts decides where it ends:\nall starts of one colour lead to the same minimum"
    axis.set(title=title, xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    return figure
