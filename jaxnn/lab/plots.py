"""Pictures that several experiments draw: each function returns a matplotlib Figure; nothing is saved here."""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from jaxnn.lab import style
from jaxnn.lab.style import Values


def image_grid(
    images: Values | Sequence,
    titles: Sequence[str],
    *,
    num_columns: int = 10,
    wrong: Sequence[bool] | Values | None = None,
    signed: bool | Sequence[bool] | Values = False,
    size: float = 1.0,
    heading: str = "",
) -> Figure:
    """Framed images [height, width] or [height, width, 1], any number and size, with a title each; red where `wrong`.

    Images beyond the titles have none. A string among the images is written in the place of one. Grey, 0 (or the lowest
    value) white; where `signed`, 0 is white, positive red and negative blue, each image on a scale of its own. `size`
    is the width of each in inches, less where the columns are many. `heading` stands above all of them.
    """
    titles, num_columns = [*titles, *[""] * (len(images) - len(titles))], min(num_columns, len(images))
    size = min(size, style.WIDTH / num_columns)
    lines = [max(text.count("\n") + bool(text) for text in row) for row in _rows(titles, num_columns)]
    heights = [size + 0.05 + 0.16 * number for number in lines]
    width, height = size * num_columns, sum(heights) + 0.25 * (heading.count("\n") + bool(heading))
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((0, 0, 1, 1), autoscale_on=False)  # one for all, in inches: one for each takes long to draw
    bottoms = sum(heights) - np.cumsum(heights)
    signs = np.broadcast_to(signed, len(images))
    for index, (image, text) in enumerate(zip(images, titles, strict=True)):
        x, y = (index % num_columns + 0.5) * size, bottoms[index // num_columns] + size / 2 + 0.03
        if isinstance(image, str):
            axis.text(x, y, image, ha="center", va="center", fontsize=9)
        else:
            _draw_image(axis, image, x, y, 0.94 * size, signed=signs[index])
        colour = style.RED if wrong is not None and wrong[index] else "black"
        axis.text(x, y + size / 2 - 0.02, text, ha="center", va="bottom", fontsize=9, color=colour, parse_math=False)
    if heading:
        axis.text(width / 2, height - 0.05, heading, ha="center", va="top", fontsize=11)
    axis.set(xlim=(0, width), ylim=(0, height))
    axis.axis("off")
    return figure


def _rows(values, length):
    return [values[start : start + length] for start in range(0, len(values), length)]


def _draw_image(axis, image, x, y, size, *, signed):
    """An image in a frame around (x, y), as wide or as high as `size`."""
    image = np.asarray(image, float).reshape(np.shape(image)[:2])
    height, width = size * np.array(image.shape) / max(image.shape)
    corner = x - width / 2, y - height / 2
    limit = np.abs(image).max() or 1
    low, high = (-limit, limit) if signed else (None, None)
    extent = (corner[0], corner[0] + width, corner[1], corner[1] + height)
    axis.imshow(image, cmap="RdBu_r" if signed else "gray_r", vmin=low, vmax=high, extent=extent)
    axis.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="darkgrey", linewidth=0.5))


def confusion(matrix, class_names: Sequence[str], *, title: str = "") -> Figure:
    """Counts by label (row) and prediction (column); colour shows the errors, the diagonal has only its numbers."""
    matrix = np.asarray(matrix)
    errors = np.where(np.eye(len(matrix), dtype=bool), np.nan, matrix)
    figure, (axis,) = style.make_panels(1, height=5.4, width=6.0)
    image = axis.imshow(errors, cmap="Oranges", vmin=0, vmax=max(1, np.nanmax(errors)))
    bar = figure.colorbar(image, ax=axis, label="number of errors", shrink=0.8)
    bar.locator = MaxNLocator(integer=True)
    limit = np.nanmax(errors) / 2
    for row, column in np.ndindex(*matrix.shape):
        if matrix[row, column]:
            colour = "white" if row != column and matrix[row, column] > limit else "black"
            axis.text(column, row, matrix[row, column], ha="center", va="center", fontsize=9, color=colour)
    ticks = range(len(class_names))
    axis.set(xlabel="prediction", ylabel="label", title=title)
    axis.set_xticks(ticks, class_names, rotation=90 if max(map(len, class_names)) > 3 else 0, parse_math=False)
    axis.set_yticks(ticks, class_names, parse_math=False)
    return figure


def by_seed(rows: Sequence[Mapping], x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    """Of the rows of a log, a column x, each value once, and a column y [seeds, len(x)], NaN where it has no number."""
    xs, seeds = (sorted({row[name] for row in rows}) for name in (x, "seed"))
    values = {(row["seed"], row[x]): row[y] for row in rows}
    return np.array(xs), np.array([[values.get((seed, at)) for at in xs] for seed in seeds], float)


def by_kind(rows: Sequence[Mapping], kind: str, x: str, y: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each value of the column `kind`, what `by_seed` makes of its rows."""
    kinds = dict.fromkeys(row[kind] for row in rows)
    return {name: by_seed([row for row in rows if row[kind] == name], x, y) for name in kinds}


def lines(
    panels: Mapping[str, Mapping[str, tuple]],
    *,
    num_columns: int = 2,
    height: float = 2.9,
    heading: str = "",
    xlabel: str = "",
    ylabel: str | Sequence[str] = "",
    log: str = "",
    share_y: bool = False,
    all_runs: bool = False,
    behind: bool = False,
) -> Figure:
    """A panel per title, in it a line (x, y) per label, which stands beside it.

    Where all panels have the same few labels, they stand below. Of y [runs, len(x)], the mean is drawn, ± one standard
    deviation shaded. An x that falls is drawn so, from high to low.

    ylabel: of all panels, or of each.
    log: the axes, of "xy", that are logarithmic.
    share_y: all panels have one scale.
    all_runs: draws only where each run has a finite value.
    behind: the last line of every panel lies in grey behind the lines of each, to compare with.
    """
    num_columns = min(num_columns, len(panels))
    width = style.WIDTH if num_columns > 1 else 6.0
    figure, axes = style.make_panels(
        len(panels), num_columns=num_columns, height=height, width=width, sharey="all" if share_y else "none"
    )
    figure.suptitle(heading, fontsize=11)
    ylabels = [ylabel] * len(axes) if isinstance(ylabel, str) else ylabel
    ends = []
    for number, (axis, (title, content)) in enumerate(zip(axes, panels.items(), strict=True)):
        for other in panels.values() if behind else ():
            *_, (x, y) = other.values()
            axis.plot(x, _runs(y, all_runs).mean(axis=0), color=style.GREY, alpha=0.4, linewidth=1)
        ends.append([_draw_line(axis, label, x, _runs(y, all_runs)) for label, (x, y) in content.items()])
        axis.set(title=title, xlabel=xlabel)
        axis.set_ylabel("" if share_y and number % num_columns else ylabels[number])
        _scale(axis, content, log)
    _label(figure, axes, ends)
    return figure


def _runs(y: Values, all_runs: bool) -> np.ma.MaskedArray:
    """The values [runs, len(x)], masked where they are not finite, or, on request, where one of the runs' is not."""
    runs = np.ma.masked_invalid(np.atleast_2d(np.asarray(y)))
    return np.ma.mask_cols(runs) if all_runs else runs


def _draw_line(axis: Axes, label: str, x, runs: np.ma.MaskedArray) -> tuple[str, float, float, str]:
    """The mean of the runs, ± one standard deviation shaded; what `style.label_lines` has to know of it."""
    mean = runs.mean(axis=0)
    (line,) = axis.plot(x, mean, label=label, marker="o" if mean.count() == 1 or len(x) <= 8 else None, markersize=4)
    if len(runs) > 1:
        sd = runs.std(axis=0, ddof=1)
        axis.fill_between(x, mean - sd, mean + sd, color=line.get_color(), alpha=0.2, linewidth=0)
    last = np.flatnonzero(~np.ma.getmaskarray(mean))[-1:]
    x_end, y_end = (float(values[last[0]]) if len(last) else np.nan for values in (np.asarray(x), mean))
    return label, x_end, y_end, to_hex(line.get_color())


def _scale(axis: Axes, content: Mapping[str, tuple], log: str):
    """Logarithms on axes that have something above 0; whole steps; an x that falls."""
    xs = [np.asarray(x) for x, _ in content.values()]
    if "x" not in log and all(x.dtype.kind == "i" for x in xs):
        axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    if any(x[0] > x[-1] for x in xs if len(x)):
        axis.invert_xaxis()
    for name in log:
        if np.isfinite(getattr(axis.dataLim, f"minpos{name}")):
            axis.set(**{f"{name}scale": "log"})
            style.plain_ticks(getattr(axis, f"{name}axis"))
    axis.grid(alpha=0.3)


def _label(figure: Figure, axes: np.ndarray, ends: Sequence[Sequence[tuple[str, float, float, str]]]):
    """The names of the lines, beside them, or below where all panels have the same few."""
    names = {tuple(label for label, *_ in panel) for panel in ends}
    if len(axes) > 1 and len(names) == 1 and 1 < len(ends[0]) <= 4:
        labelled, labels = axes[0].get_legend_handles_labels()
        figure.legend(labelled, labels, loc="outside lower center", ncols=4)
        return
    for axis, panel in zip(axes, ends, strict=True):
        if len(panel) > 1:
            style.label_lines(axis, panel)


def boundary(
    x1,
    x2,
    values,
    *,
    level: float | int | None = None,
    title: str = "",
    name: str = "$y$",
    points=None,
    labels=None,
    class_names: Sequence[str] = (),
) -> Figure:
    """A function of two variables, called `name`, the line where it has a level, and points [number, 2] by class.

    labels, class_names: the class 0, 1, ... of each point, and what the classes are called.
    """
    figure, (axis,) = style.make_panels(1, height=4.8, width=6.4)
    image = axis.contourf(x1, x2, values, 20, cmap="coolwarm", alpha=0.6)
    figure.colorbar(image, ax=axis, label=name)
    if level is not None:
        axis.contour(x1, x2, values, [level], colors="black")
        axis.plot([], [], color="black", label=f"{name} = {level:g}")
    if points is not None:
        labels = np.asarray(labels).astype(int)
        for number, marker in zip(range(labels.max() + 1), itertools.cycle("oX^sDv*P"), strict=False):
            shade = matplotlib.colormaps["coolwarm"](number / max(1, labels.max()))
            class_name = class_names[number] if class_names else f"class {number}"
            own = np.asarray(points)[labels == number]
            axis.scatter(*own.T, color=shade, marker=marker, edgecolors="black", s=28, label=class_name)
    if axis.get_legend_handles_labels()[1]:
        figure.legend(loc="outside lower center", ncols=4)
    axis.set(title=title, xlabel="$x_1$", ylabel="$x_2$")
    return figure


def level_bend(x1, x2, values, *, level: float | int) -> float | None:
    """How far from straight the line is on which a function on a grid has that level: the largest distance of a point.

    Between grid points the function is interpolated linearly. None where no such line crosses the grid.
    """
    if not np.min(values) < level < np.max(values):
        return None
    line = np.concatenate(Figure().subplots().contour(x1, x2, values, [level]).allsegs[0])
    _, _, directions = np.linalg.svd(line - line.mean(axis=0), full_matrices=False)
    return float(np.abs((line - line.mean(axis=0)) @ directions[1]).max())


def spread(
    panels: Mapping[str, Mapping[str, Values]],
    *,
    ylabel: str | Sequence[str],
    scale: str = "linear",
    marks: Mapping[str, Mapping[str, Sequence]] | None = None,
) -> Figure:
    """A panel per title: of each label a column of values, the median as a bar.

    `marks` adds, for each name, one value per column (or None) in each panel; `scale` is that of the values, `ylabel`
    what they are, in all panels or in each.
    """
    figure, axes = style.make_panels(len(panels), height=3.8)
    ylabels = [ylabel] * len(axes) if isinstance(ylabel, str) else ylabel
    for axis, (title, columns), name_of_values in zip(axes, panels.items(), ylabels, strict=True):
        for number, values in enumerate(columns.values()):
            spots = number + np.linspace(-0.2, 0.2, len(values))
            axis.plot(spots, values, ".", color=style.SKY, label="" if number else "one net")
            bar = [number - 0.3, number + 0.3], [np.median(values)] * 2
            axis.plot(*bar, color="black", linewidth=2, label="" if number else "median")
        colours = itertools.cycle([style.RED, style.GREEN, style.PURPLE])
        for colour, (name, heights) in zip(colours, (marks or {}).items(), strict=False):
            axis.plot(range(len(columns)), heights[title], "D", color=colour, label=name)
        axis.set_xticks(range(len(columns)), columns, **({"rotation": 30, "ha": "right"} if len(columns) > 4 else {}))
        axis.set(title=title, yscale=scale, ylabel=name_of_values)
        axis.grid(axis="y")
    named, names = axes[-1].get_legend_handles_labels()
    figure.legend(named, names, loc="outside lower center", ncols=5)
    return figure
