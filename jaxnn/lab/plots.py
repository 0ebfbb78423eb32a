"""Pictures that several experiments draw: each function returns a matplotlib Figure; nothing is saved here."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from jaxnn.lab import style

Values: TypeAlias = np.ndarray | jax.Array


def make_panels(number: int, *, size: tuple[float, float], num_columns: int | None = None, **options):
    """A figure, and so many axes, `size` inches wide and high each, in rows of `num_columns` or all in one row."""
    num_columns = min(num_columns or number, number)
    num_rows = -(-number // num_columns)
    figure = Figure(figsize=(size[0] * num_columns, size[1] * num_rows), layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False, **options).ravel()
    for axis in axes[number:]:
        axis.set_visible(False)
    return figure, axes[:number]


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
    axis.set_xticks(ticks, class_names, rotation=90 if max(map(len, class_names)) > 3 else 0, parse_math=False)
    axis.set_yticks(ticks, class_names, parse_math=False)
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
    figure, axes = make_panels(len(panels), num_columns=num_columns, size=(4.6, 4.3), subplot_kw={"projection": "3d"})
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
            line = np.array([tail, tip, tip + barbs[0], tip, tip + barbs[1]])
            axis.plot(*line.T, floor, color="black", linewidth=2)
        axis.set(title=panel.title, xlabel="$x_1$", ylabel="$x_2$", zlabel="$y$")
        axis.set_zlim(floor, high)
    return figure


def over_grid(f: Callable, x1_range, x2_range, *, resolution: int = 121) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The coordinates of a grid, and the values there of a function that makes one number of a vector [2]."""
    x1, x2 = np.meshgrid(*(np.linspace(low, high, resolution) for low, high in (x1_range, x2_range)))
    values = np.asarray(jax.vmap(jax.vmap(f))(np.stack([x1, x2], axis=-1)))
    if values.shape != x1.shape:
        raise ValueError(f"over_grid: f must make one number of a vector [2], not an array {[*values.shape[2:]]}")
    return x1, x2, values


def fits(x1, x2, functions: Mapping[str, Values], nets: Mapping[str, tuple[Values, Values]]) -> Figure:
    """A row per function: its values over the grid, then what each net computes that was fitted to points of it.

    Of each kind of net, values [functions, rows, columns] and points [functions, number, 3].
    """
    panels = []
    for row, (name, values) in enumerate(functions.items()):
        panels.append(Surface(name, x1, x2, values))
        for title, (fit, points) in nets.items():
            heights = np.append(fit[row], points[row][:, 2])
            limits = heights.min().item(), heights.max().item()
            panels.append(Surface(title, x1, x2, fit[row], points=points[row], limits=limits))
    return surfaces(panels, num_columns=1 + len(nets))


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
    xlabel: str = "",
    ylabel: str = "",
    log: str = "",
    share_y: bool = False,
    all_runs: bool = False,
) -> Figure:
    """A panel per title, in it a line (x, y) per label; `log` names the axes, of "xy", that are logarithmic.

    Of y [runs, len(x)], the mean is drawn, ± one standard deviation shaded; with `all_runs`, only where each has a
    finite value. With `share_y`, all panels have one scale.
    """
    figure, axes = make_panels(len(panels), num_columns=num_columns, size=(5.0, 3.4))
    for axis, (title, content) in zip(axes, panels.items(), strict=True):
        if share_y and axis is not axes[0]:
            axis.sharey(axes[0])
        for label, (x, y) in content.items():
            y = np.ma.masked_invalid(np.atleast_2d(np.asarray(y)))
            if all_runs:
                y = np.ma.mask_cols(y)
            mean = y.mean(axis=0)
            (line,) = axis.plot(x, mean, label=label, marker="o" if mean.count() == 1 else None)
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
    x1,
    x2,
    values,
    *,
    level: float | int | None = None,
    title: str = "",
    points=None,
    labels=None,
    point_cmap="coolwarm",
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
    ylabel: str,
    scale: str = "linear",
    marks: Mapping[str, Mapping[str, Sequence]] | None = None,
) -> Figure:
    """A panel per title: of each label a column of values, the median as a bar.

    `marks` adds, for each name, one value per column (or None) in each panel; `scale` is that of the values.
    """
    figure, axes = make_panels(len(panels), size=(4.2, 3.8))
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
