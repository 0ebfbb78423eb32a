"""How all pictures look: readable where a page shows them 900 pixels wide, and to the colour-blind."""

from collections.abc import Sequence

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

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


def percent(axis, *, decimals: int | None = None):
    """Shows the shares on `axis.xaxis` or `axis.yaxis` as percentages."""
    axis.set_major_formatter(PercentFormatter(1, decimals=decimals))


def label_lines(axis: Axes, ends: Sequence[tuple[str, float, float, str]], *, gap: float = 0.06):
    """Writes beside each line its label, at the right end of the axes, instead of a legend.

    ends: label, x and y of the last point, and colour of each line. Labels that would overlap move apart, by `gap` of
        the axes' height at least.
    """
    transform = axis.transScale + axis.transLimits
    heights = [transform.transform((x, y))[1] for _, x, y, _ in ends]
    order = sorted(range(len(ends)), key=lambda index: heights[index])
    places: list[float] = []
    for index in order:
        places.append(max(heights[index], places[-1] + gap if places else -1.0))
    overflow = max(0.0, places[-1] - 1.0) if places else 0.0
    for place, index in zip(places, order, strict=True):
        label, _, _, colour = ends[index]
        axis.annotate(
            label,
            (1, place - overflow),
            xytext=(4, 0),
            textcoords="offset points",
            xycoords="axes fraction",
            color=colour,
            fontsize=9,
            va="center",
            annotation_clip=False,
        )
