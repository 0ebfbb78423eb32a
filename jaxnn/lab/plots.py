"""Pictures: each function returns a matplotlib Figure; nothing is shown or saved here."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import jax
import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Values: TypeAlias = np.ndarray | jax.Array


def image_grid(
    images,
    titles: Sequence[str],
    *,
    num_columns: int = 10,
    wrong: Sequence[bool] | None = None,
    signed: bool = False,
    size: float = 1.0,
) -> Figure:
    """Images [height, width] or [height, width, 1], any number and size, with a title each; red where `wrong`.

    Grey, 0 (or the lowest value) white; if `signed`, 0 is white, positive red and negative blue, each image on a scale
    of its own. `size` is the width of each in inches.
    """
    num_rows = -(-len(images) // num_columns)
    height = size + 0.15 + 0.15 * max(title.count("\n") + 1 for title in titles)  # of a row
    figure = Figure(figsize=(size * num_columns, height * num_rows))
    axis = figure.add_axes((0, 0, 1, 1), autoscale_on=False)  # one for all, in inches: one for each takes long to draw
    for index, (image, title) in enumerate(zip(images, titles, strict=True)):
        image = np.asarray(image).reshape(np.shape(image)[:2])
        x, y = (index % num_columns + 0.5) * size, (num_rows - 1 - index // num_columns) * height + size / 2 + 0.05
        half_height, half_width = 0.47 * size * np.array(image.shape) / max(image.shape)
        extent = (x - half_width, x + half_width, y - half_height, y + half_height)
        limit = np.abs(image).max() or 1
        low, high = (-limit, limit) if signed else (None, None)
        axis.imshow(image, cmap="RdBu_r" if signed else "gray_r", vmin=low, vmax=high, extent=extent)
        colour = "crimson" if wrong is not None and wrong[index] else "black"
        axis.text(x, y + size / 2, title, ha="center", va="bottom", fontsize=9, color=colour)
    axis.set(xlim=(0, size * num_columns), ylim=(0, height * num_rows))
    axis.axis("off")
    return figure


def curves(steps, quantities: Mapping[str, np.ndarray]) -> Figure:
    """A panel per quantity, an array [runs, steps]: each run thin, the mean thick, ± one standard deviation shaded."""
    figure = Figure(figsize=(5 * len(quantities), 3.6), layout="constrained")
    axes = figure.subplots(1, len(quantities), squeeze=False)[0]
    for axis, (name, values) in zip(axes, quantities.items(), strict=True):
        values = np.ma.masked_invalid(values)  # a run that diverged or stopped leaves gaps
        mean, several = values.mean(axis=0), values.count(axis=0) > 1
        if len(values) > 1:
            sd = np.ma.masked_where(~several, values.std(axis=0, ddof=1))
            axis.plot(steps, values.T, color="tab:blue", linewidth=0.6, alpha=0.5)
            axis.fill_between(steps, mean - sd, mean + sd, color="tab:blue", alpha=0.2, label="± sd")
        axis.plot(steps, mean, color="tab:blue", linewidth=2, label="mean")
        axis.set(xlabel="step", title=name)
        axis.grid(alpha=0.3)
    if any(len(values) > 1 for values in quantities.values()):
        axes[-1].legend()
    return figure


def confusion(matrix, class_names: Sequence[str], *, title: str = "") -> Figure:
    """Counts by label (row) and prediction (column); colour shows the errors, the diagonal has only its numbers."""
    matrix = np.asarray(matrix)
    errors = np.where(np.eye(len(matrix), dtype=bool), np.nan, matrix)
    figure = Figure(figsize=(6, 5.4), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(errors, cmap="Reds", vmin=0, vmax=max(1, np.nanmax(errors)))
    figure.colorbar(image, ax=axis, label="errors", shrink=0.8)
    limit = np.nanmax(errors) / 2
    for row, column in np.ndindex(*matrix.shape):
        if matrix[row, column]:
            colour = "white" if row != column and matrix[row, column] > limit else "black"
            axis.text(column, row, matrix[row, column], ha="center", va="center", fontsize=8, color=colour)
    ticks = range(len(class_names))
    axis.set(xlabel="prediction", ylabel="label", title=title)
    axis.set_xticks(ticks, class_names, rotation=90 if max(map(len, class_names)) > 3 else 0)
    axis.set_yticks(ticks, class_names)
    return figure


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
        right.set_title(f"{class_names[best]}: {probs[best]:.1%}", fontsize=9)
        right.set(ylim=(0, 1), yticks=[0, 0.5, 1])
        right.set_xticks(range(len(probs)), class_names)
        right.tick_params(labelsize=7)
    return figure


class Surface(NamedTuple):
    """Values [rows, columns] over a grid of x1 and x2, [rows, columns] each, and what is drawn with them.

    On the floor, a contour of the values, a path [steps, 2] and an arrow, [2, 2] from tail to head; in space, a plane
    like the values and points [number, 3] with black edges. `limits` are the lowest and the highest value that height
    and colours have to show, where several pictures are to be compared; else those of this one.
    """

    title: str
    x1: Values
    x2: Values
    values: Values
    path: Values | None = None
    arrow: Values | None = None
    plane: "Surface | None" = None
    points: Values | None = None
    limits: tuple[float, float] | None = None


def surfaces(panels: Sequence[Surface], *, num_columns: int = 3) -> Figure:
    """Functions of two variables as half-transparent surfaces over their contours."""
    figure, axes = _panels(len(panels), num_columns, size=(4.6, 4.3), projection="3d")
    for axis, panel in zip(axes, panels, strict=True):
        axis.set_box_aspect(None, zoom=0.88)  # room for the labels
        axis.computed_zorder = False  # what is drawn later lies above
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.yaxis.set_major_locator(MaxNLocator(5))
        low, high = panel.limits or (np.min(panel.values), np.max(panel.values))
        colours = {"cmap": "coolwarm", "vmin": low, "vmax": high, "alpha": 0.6}
        floor = low - 0.5 * (high - low or 1)
        shown = panel.x1, panel.x2, panel.values
        axis.contourf(*shown, 12, zdir="z", offset=floor, **colours)
        axis.plot_surface(*shown, **colours, linewidth=0, rcount=60, ccount=60)
        if panel.plane is not None:
            axis.plot_surface(panel.plane.x1, panel.plane.x2, panel.plane.values, color="seagreen", alpha=0.5)
            high = max(high, np.max(panel.plane.values))
        if panel.points is not None:
            axis.scatter(*np.transpose(panel.points), c=panel.points[:, 2], cmap="coolwarm", edgecolors="black", s=14)
        if panel.path is not None:
            axis.plot(*np.transpose(panel.path), floor, color="black", marker=".", markersize=3, linewidth=1)
        if panel.arrow is not None:
            tail, tip = np.asarray(panel.arrow)
            barbs = (
                (tip - tail) @ np.array([[-0.2, 0.1], [-0.1, -0.2]]),
                (tip - tail) @ np.array([[-0.2, -0.1], [0.1, -0.2]]),
            )
            course = np.array([tail, tip, tip + barbs[0], tip, tip + barbs[1]])
            axis.plot(*course.T, floor, color="black", linewidth=2)
        axis.set(title=panel.title, xlabel="$x_1$", ylabel="$x_2$", zlabel="$y$")
        axis.set_zlim(floor, high)
    return figure


def _panels(number: int, num_columns: int, *, size: tuple[float, float], projection: str | None = None):
    """A figure, and so many axes of the given width and height in rows of at most `num_columns`."""
    num_columns = min(num_columns, number)
    num_rows = -(-number // num_columns)
    figure = Figure(figsize=(size[0] * num_columns, size[1] * num_rows), layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False, subplot_kw={"projection": projection}).ravel()
    for axis in axes[number:]:
        axis.set_visible(False)
    return figure, axes[:number]


def lines(
    panels: Mapping[str, Mapping[str, tuple]],
    *,
    num_columns: int = 2,
    xlabel: str = "",
    ylabel: str = "",
    log: str = "",
    share_y: bool = False,
) -> Figure:
    """A panel per title, in it a line (x, y) per label; `log` names the axes, of "xy", that are logarithmic.

    Of y [runs, len(x)], the mean is drawn, ± one standard deviation shaded. With `share_y`, all panels have one scale.
    """
    figure, axes = _panels(len(panels), num_columns, size=(5.0, 3.4))
    for axis, (title, content) in zip(axes, panels.items(), strict=True):
        if share_y and axis is not axes[0]:
            axis.sharey(axes[0])
        for label, (x, y) in content.items():
            y = np.ma.masked_invalid(np.atleast_2d(np.asarray(y)))
            mean = y.mean(axis=0)
            (line,) = axis.plot(x, mean, label=label, marker="o" if len(mean) == 1 else None)
            if len(y) > 1:
                sd = y.std(axis=0, ddof=1)
                axis.fill_between(x, mean - sd, mean + sd, color=line.get_color(), alpha=0.2, linewidth=0)
        axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
        if "x" not in log and all(np.asarray(x).dtype.kind == "i" for x, _ in content.values()):
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        above_0 = [name for name in log if np.isfinite(getattr(axis.dataLim, f"minpos{name}"))]
        axis.set(**{f"{name}scale": "log" for name in above_0})
        axis.grid(alpha=0.3)
        if len(content) > 6:
            axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        elif len(content) > 1:
            axis.legend(fontsize=8)
    return figure


def boundary(
    x1, x2, values, *, level: float | None = None, title: str = "", points=None, labels=None, point_cmap="coolwarm"
) -> Figure:
    """A function of two variables, the line where it has a level, and points [number, 2] coloured by their labels."""
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    axis = figure.subplots()
    image = axis.contourf(x1, x2, values, 20, cmap="coolwarm", alpha=0.7)
    if level is not None:
        axis.contour(x1, x2, values, [level], colors="black")
    figure.colorbar(image, ax=axis)
    if points is not None:
        axis.scatter(*np.transpose(points), c=labels, cmap=point_cmap, edgecolors="black", s=18)
    axis.set(title=title, xlabel="$x_1$", ylabel="$x_2$")
    return figure


def paths(x1, x2, values, courses: Mapping[str, Values], *, levels, minimum) -> Figure:
    """Paths [steps, 2] over the contours of a function, on a logarithmic scale; a cross marks its minimum."""
    figure = Figure(figsize=(7.5, 6), layout="constrained")
    axis = figure.subplots()
    axis.contourf(x1, x2, values, levels, norm="log", extend="both", cmap="coolwarm", alpha=0.5)
    for (label, course), style in zip(courses.items(), itertools.cycle(["-", "--", "-.", ":"])):  # some coincide
        axis.plot(*np.transpose(course), linestyle=style, linewidth=1.5, label=label)
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
    figure = Figure(figsize=(4.6 * len(panels), 3.9), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
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
    figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, (x, y, slope)) in zip(axes, panels.items(), strict=True):
        axis.scatter(x, y, s=14, alpha=0.5)
        ends = np.array([np.min(x), np.max(x)])
        axis.plot(ends, slope * ends, color="black", linewidth=1)
        axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
        axis.grid(alpha=0.3)
    return figure


def classes(panels: Mapping[str, Values], labels, class_names: Sequence[str]) -> Figure:
    """A panel per title: points [number, 2] in the colours of their classes, whose names stand at their medians."""
    figure, axes = _panels(len(panels), len(panels), size=(5.0, 4.6))
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


def level_bend(x1, x2, values, *, level: float) -> float | None:
    """How far from straight the line is on which a function on a grid has that level: the largest distance of a point.

    Between grid points the function is interpolated linearly. None where no such line crosses the grid.
    """
    if not np.min(values) < level < np.max(values):
        return None
    course = np.concatenate(Figure().subplots().contour(x1, x2, values, [level]).allsegs[0])
    _, _, directions = np.linalg.svd(course - course.mean(axis=0), full_matrices=False)
    return float(np.abs((course - course.mean(axis=0)) @ directions[1]).max())


def heatmaps(panels: Mapping[str, Values], *, rows: tuple[str, Values], columns: tuple[str, Values]) -> Figure:
    """A panel per title: values [rows, columns] in colour on a logarithmic scale, a cross on the lowest.

    `rows` and `columns` have the name and the values of each axis.
    """
    figure = Figure(figsize=(4.6 * len(panels), 4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
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
    panels: Mapping[str, Values],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    xlabel: str = "",
    label: str = "",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """A panel per title: of values [rows, columns, runs], mean ± sd on the colour of the mean, which `limits` bound."""
    means = {title: np.mean(values, axis=-1) for title, values in panels.items()}
    size = 1.2 + 0.7 * len(columns), 0.9 + 0.4 * len(rows)
    figure = Figure(figsize=(size[0] * len(panels) + 2, size[1]), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    low, high = limits or (min(map(np.min, means.values())), max(map(np.max, means.values())))
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


def spread(
    panels: Mapping[str, Mapping[str, np.ndarray]],
    *,
    ylabel: str,
    scale: str = "linear",
    marks: Mapping[str, Mapping[str, Sequence]] | None = None,
) -> Figure:
    """A panel per title: of each label a column of values, the median as a bar.

    `marks` adds, for each name, one value per column (or None) in each panel; `scale` is that of the values.
    """
    figure = Figure(figsize=(4.2 * len(panels), 3.8), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, columns) in zip(axes, panels.items(), strict=True):
        for number, values in enumerate(columns.values()):
            spots = number + np.linspace(-0.2, 0.2, len(values))
            axis.plot(spots, values, ".", color="tab:blue", alpha=0.6)
            bar = [number - 0.3, number + 0.3], [np.median(values)] * 2
            axis.plot(*bar, color="black", linewidth=2, label="" if number else "median")
        for colour, (name, heights) in zip(("crimson", "seagreen", "orange"), (marks or {}).items(), strict=False):
            axis.plot(range(len(columns)), heights[title], "D", color=colour, label=name)
        axis.set_xticks(range(len(columns)), columns, **({"rotation": 30, "ha": "right"} if len(columns) > 4 else {}))
        axis.set(title=title, yscale=scale, ylabel=ylabel)
        axis.grid(alpha=0.3, axis="y")
    axes[-1].legend(fontsize=8)
    return figure
