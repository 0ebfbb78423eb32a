"""How all pictures look: readable where a page shows them 900 pixels wide, and to the colour-blind."""

from collections.abc import Sequence
from typing import TypeAlias

import jax
import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

Values: TypeAlias = np.ndarray | jax.Array
WIDTH = 9.0  # inches of the widest figure: 900 pixels are then 100 an inch, and 9 points 12 pixels
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, YELLOW, SKY, GREY = "#CC79A7", "#F0E442", "#56B4E9", "#767676"
"""Okabe and Ito's colours ("Color universal design", 2008), which people with any colour vision tell apart.

GREY is for what a highlighted line stands out from.
"""
RC = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "legend.fontsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=[BLUE, RED, GREEN, ORANGE, PURPLE, SKY, GREY]),
    "grid.alpha": 0.3,
    "mathtext.fontset": "cm",
}


def use():
    """Makes this the look of all figures of the process."""
    matplotlib.rcParams.update(RC)


def make_panels(number: int, *, height: float, num_columns: int | None = None, width: float = WIDTH, **options):
    """A figure `width` inches wide, and so many axes, `height` inches high each, in rows of `num_columns` or in one."""
    num_columns = min(num_columns or number, number)
    num_rows = -(-number // num_columns)
    figure = Figure(figsize=(width, height * num_rows), layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False, **options).ravel()
    for axis in axes[number:]:
        axis.set_visible(False)
    return figure, axes[:number]


def percent(axis):
    """Shows the shares on `axis.xaxis` or `axis.yaxis` as percentages."""
    axis.set_major_formatter(PercentFormatter(1))


def plain_ticks(axis):
    """Writes 0.1, 0.2, 0.5, not powers of ten, on a logarithmic `axis.xaxis` or `axis.yaxis` of less than 3 decades."""
    low, high = sorted(axis.get_view_interval())
    if high < 1000 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 10 * low else MaxNLocator(5, steps=[1, 2, 5, 10]))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())


def label_lines(axis: Axes, ends: Sequence[tuple[str, float, float, str]], *, gap: float = 0.16):
    """Writes beside each line its label, at the right end of the axes, instead of a legend.

    ends: label, x and y of the last point, and colour of each line. Labels that would overlap move apart, by `gap`
        inches at least.
    """
    axis.autoscale_view()  # limits are lazy
    transform = axis.transScale + axis.transLimits
    heights = np.nan_to_num([np.clip(transform.transform((x, y))[1], 0, 1) for _, x, y, _ in ends])
    order, gap = np.argsort(heights, kind="stable"), gap * axis.figure.dpi / axis.bbox.height
    places = heights[order]
    for upper in range(1, len(places)):
        places[upper] = max(places[upper], places[upper - 1] + gap)
    for lower in reversed(range(len(places))):
        places[lower] = min(places[lower], places[lower + 1] - gap if lower + 1 < len(places) else 1)
    for index, place in zip(order, places, strict=True):
        label, _, _, colour = ends[index]
        where = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
        axis.annotate(label, (1, place), xytext=(4, 0), **where, color=colour, fontsize=9, va="center")


def mark(axis: Axes, text: str, *, x: float | None = None, y: float | None = None):
    """A dotted line through the axes, upright at `x` or level at `y`, with a text at its end."""
    dotted = {"color": "black", "linestyle": ":", "linewidth": 1}
    written = {"textcoords": "offset points", "fontsize": 9}
    if x is not None:
        axis.axvline(x, **dotted)
        axis.annotate(
            text, (x, 0.98), xytext=(-3, 0), xycoords=("data", "axes fraction"), ha="right", va="top", **written
        )
    if y is not None:
        axis.axhline(y, **dotted)
        axis.annotate(text, (0.02, y), xytext=(0, 2), xycoords=("axes fraction", "data"), **written)
