"""Functions of two variables as half-transparent surfaces over their contours, and what lies on and around them."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import jax
import matplotlib
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from scipy.interpolate import RegularGridInterpolator

from jaxnn.lab import formula, style
from jaxnn.lab.style import Values

Grid: TypeAlias = tuple[Values, Values, Values]  # x1, x2 and values, [rows, columns] each
BOX = np.array([4.0, 4.0, 3.2])  # proportions of the axes
EYE = np.radians([30, -60])  # elevation and azimuth of who looks at them
TITLE = 0.25  # inches above the axes
FLOOR, BEHIND, FACES, IN_FRONT = range(4)  # what is drawn first lies behind; the floor is under all the rest


class Surface(NamedTuple):
    """Values [rows, columns] over a grid of x1 and x2, [rows, columns] each, and what is drawn with them.

    On the floor: a contour of the values, a path [steps, 2] from "start" to "end", and an arrow: its label, and [2, 2]
    from tail to head. In space: a plane, and points [number, 3]. `spot` [2] is marked on the floor and on the
    surface above it. `limits` are the lowest and the highest value that height and colours have to show, where several
    pictures are to be compared; else those of this one.
    """

    title: str
    x1: Values
    x2: Values
    values: Values
    path: Values | None = None
    arrow: tuple[str, Values] | None = None
    plane: Grid | None = None
    points: Values | None = None
    spot: Values | None = None
    limits: tuple[float, float] | None = None


def over_grid(f: Callable, x1_range, x2_range, *, resolution: int = 121) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The coordinates of a grid, and the values there of a function that makes one number of a vector [2]."""
    x1, x2 = np.meshgrid(*(np.linspace(low, high, resolution) for low, high in (x1_range, x2_range)))
    values = np.asarray(jax.vmap(jax.vmap(f))(np.stack([x1, x2], axis=-1)))
    if values.shape != x1.shape:
        raise ValueError(f"over_grid: f must make one number of a vector [2], not an array {[*values.shape[2:]]}")
    return x1, x2, values


def tangent_plane(f: Callable, point, *, half_width: float) -> Grid:
    """The first-order Taylor approximation of f at a point [2], over a square around it."""
    value, gradient = jax.value_and_grad(f)(point)
    ranges = [(at - half_width, at + half_width) for at in point]
    return over_grid(lambda x: value + gradient @ (x - point), *ranges, resolution=61)


def surfaces(panels: Sequence[Surface], *, num_columns: int = 2) -> Figure:
    """Functions of two variables as half-transparent surfaces over their contours."""
    num_columns = min(num_columns, len(panels))
    num_rows = -(-len(panels) // num_columns)
    width = style.WIDTH / num_columns if len(panels) > 1 else 6.0
    figure = Figure(figsize=(width * num_columns, (0.87 * width + TITLE) * num_rows))
    for index, panel in enumerate(panels):
        row, column = divmod(index, num_columns)
        place = column / num_columns, 1 - (row + 1) / num_rows, 1 / num_columns, 1 / num_rows
        draw(add_axes(figure, place), panel)
    return figure


def add_axes(figure: Figure, place: tuple[float, float, float, float]):
    """Axes for a surface in a part of the figure: left, bottom, width, height as shares of it, the title's included."""
    left, bottom, width, height = place
    height -= TITLE / figure.get_figheight()
    place = left - 0.045 * width, bottom, width, height  # to the left: the numbers of the heights stand on the right
    elevation, azimuth = np.degrees(EYE)
    look = {"computed_zorder": False, "proj_type": "ortho", "box_aspect": BOX, "elev": elevation, "azim": azimuth}
    return figure.add_axes(place, projection="3d", facecolor="none", **look)


def draw(axis, panel: Surface, *, ticks: int = 5, labels: bool = True):
    """Draws a surface on axes of `add_axes`: about so many `ticks` on each, and their numbers, or no `labels`."""
    low, high = panel.limits or _ends(panel.values)
    highest = high if panel.plane is None else max(high, np.max(panel.plane[2]).item())
    axis.set(xlim=_ends(panel.x1), ylim=_ends(panel.x2), zlim=(low - 0.6 * (high - low or 1), highest))
    axis.set_title(panel.title, pad=2)
    axis.title.set_y(1.0)  # set_title of these axes lowers it
    _label(axis, (low, highest), ticks, labels)
    colours = {"cmap": "coolwarm", "vmin": low, "vmax": high}
    shown = panel.x1, panel.x2, panel.values
    axis.contourf(*shown, 12, zdir="z", offset=axis.get_zlim()[0], alpha=0.55, zorder=FLOOR, **colours)
    _draw_on_floor(axis, panel, axis.get_zlim()[0])
    faces = _faces(*shown)
    _draw_faces(axis, panel, faces, matplotlib.colormaps["coolwarm"](Normalize(low, high)(faces[..., 2].mean(axis=1))))
    _draw_mesh(axis, panel)
    if panel.plane is not None:
        _draw_plane(axis, panel, panel.plane)
    if panel.points is not None:
        _draw_points(axis, panel, np.asarray(panel.points), depthshade=False, **colours)
    if panel.spot is not None:
        _draw_spot(axis, panel)


def is_hidden(panel: Surface, points, heights: tuple[float, float]) -> np.ndarray:
    """Of points [number, 3], whether the surface lies between them and the eye; `heights`: the ends of the z axis."""
    elevation, azimuth = EYE
    eye = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    spans = np.ptp([_ends(panel.x1), _ends(panel.x2), heights], axis=1)
    distances = np.linspace(0.06, BOX[2] / eye[2], 120)[:, None]  # not from 0: a point on the surface is not behind it
    rays = np.asarray(points)[:, None] + distances * eye * spans / BOX  # [number, distances, 3]
    x1, x2 = np.asarray(panel.x1)[0], np.asarray(panel.x2)[:, 0]
    surface = RegularGridInterpolator((x2, x1), np.asarray(panel.values), bounds_error=False)  # NaN outside
    above = rays[..., 2] - surface(rays[..., [1, 0]])
    return (above * above[:, :1] < 0).any(axis=1)


def _ends(values) -> tuple[float, float]:
    return np.min(values).item(), np.max(values).item()


def _label(axis, heights: tuple[float, float], ticks: int, labels: bool):
    """Ticks, at `heights` that the surface has and not at those of the floor alone, and the names of the axes."""
    axis.set_xticks(_inside(axis.get_xlim(), ticks, margin=0.05))  # the numbers of two axes would meet in the corner
    axis.set_yticks(_inside(axis.get_ylim(), ticks, margin=0.05))
    axis.set_zticks(_inside(heights, ticks))
    axis.tick_params(pad=-2)
    axis.tick_params(axis="z", pad=2)
    for one in (axis.xaxis, axis.yaxis, axis.zaxis):
        one.pane.set(facecolor="white", edgecolor="lightgrey")
    axis.grid(visible=False)
    if not labels:
        axis.set(xticklabels=[], yticklabels=[], zticklabels=[])
        return
    axis.set_xlabel("$x_1$", labelpad=-4)
    axis.set_ylabel("$x_2$", labelpad=-4)
    top = heights[1] + 0.07 * np.ptp(axis.get_zlim())
    axis.text(axis.get_xlim()[1], axis.get_ylim()[1], top, "$y$", ha="center", va="center")


def _inside(ends: tuple[float, float], number: int, margin: float = 0.0) -> list[float]:
    low, high = ends[0] + margin * np.ptp(ends), ends[1] - margin * np.ptp(ends)
    return [tick for tick in MaxNLocator(number, steps=(1, 2, 5, 10)).tick_values(*ends) if low <= tick <= high]


def _draw_faces(axis, panel: Surface, faces: np.ndarray, colours, *, alpha: float = 0.75):
    """Small faces [number, corners, 3], first those that the surface hides; all half-transparent as a whole."""
    hidden = is_hidden(panel, faces.mean(axis=1), axis.get_zlim())
    for part, zorder in ((hidden, BEHIND), (~hidden, FACES)):
        look = {"facecolors": colours[part], "edgecolors": colours[part], "linewidths": 0.4, "zorder": zorder}
        collection = Poly3DCollection(faces[part], **look)
        # Not each face for itself, which would show twice where it meets the next.
        collection.set_agg_filter(lambda image, dpi: (np.asarray(image) * [1, 1, 1, alpha], 0, 0))
        axis.add_collection3d(collection)


def _faces(x1, x2, values) -> np.ndarray:
    """The quadrilaterals [faces, corners, 3] between the points of a grid, of which at most 61 by 61 are taken."""
    corners = np.stack([x1, x2, values], axis=-1)
    rows, columns = (np.unique(np.linspace(0, n - 1, min(n, 61)).round().astype(int)) for n in corners.shape[:2])
    corners = corners[rows][:, columns]
    around = corners[:-1, :-1], corners[1:, :-1], corners[1:, 1:], corners[:-1, 1:]
    return np.stack(around, axis=2).reshape(-1, 4, 3)


def _draw_mesh(axis, panel: Surface, number: int = 9):
    """So many lines of equal x1, and of equal x2, over the surface."""
    grid = np.stack([panel.x1, panel.x2, panel.values], axis=-1)
    for one in (grid, grid.swapaxes(0, 1)):
        for line in one[np.linspace(0, len(one) - 1, number).round().astype(int)]:
            _draw_line(axis, panel, line, color="white", linewidth=0.6, alpha=0.7)


def _draw_plane(axis, panel: Surface, plane: Grid):
    """A plane and its border."""
    faces = _faces(*plane)
    _draw_faces(axis, panel, faces, np.tile(matplotlib.colors.to_rgba(style.GREEN), (len(faces), 1)), alpha=0.4)
    grid = np.stack(plane, axis=-1)
    border = np.concatenate([grid[0], grid[:, -1], grid[-1, ::-1], grid[::-1, 0]])
    _draw_line(axis, panel, border, color=style.GREEN, linewidth=1.5)


def _draw_on_floor(axis, panel: Surface, floor: float):
    """The path and the arrow."""
    if panel.path is not None:
        path = np.asarray(panel.path)
        axis.plot(*path.T, floor, color="black", marker=".", markersize=3, linewidth=1, zorder=FLOOR)
        for (x1, x2), name, colour in ((path[0], "start", "white"), (path[-1], "end", "black")):
            axis.plot([x1], [x2], [floor], "o", color=colour, markeredgecolor="black", markersize=6, zorder=FLOOR)
            axis.text(x1, x2, floor, f"  {name}", fontsize=9, va="top", zorder=FLOOR)
    if panel.arrow is not None:
        label, (tail, tip) = panel.arrow[0], np.asarray(panel.arrow[1], float)
        forward = (tip - tail) / np.linalg.norm(tip - tail) * 0.06 * np.ptp(panel.x1)  # the length of the head
        aside = forward[::-1] * [-0.4, 0.4]
        triangle = [(*corner, floor) for corner in (tip, tip - forward + aside, tip - forward - aside)]
        axis.plot(*np.stack([tail, tip - forward], axis=1), floor, color="black", linewidth=2, zorder=FLOOR)
        axis.add_collection3d(Poly3DCollection([triangle], facecolors="black", zorder=FLOOR))
        axis.text(*(tip + 1.2 * forward), floor, label, ha="center", va="center", fontsize=11, zorder=IN_FRONT)


def _draw_points(axis, panel: Surface, points: np.ndarray, **options):
    """Points [number, 3] with black edges, of which the hidden ones are drawn before the surface."""
    hidden = is_hidden(panel, points, axis.get_zlim())
    for part, zorder in ((hidden, BEHIND), (~hidden, IN_FRONT)):
        look = {"c": points[part, 2], "s": 10, "edgecolors": "black", "linewidths": 0.7, "zorder": zorder}
        axis.scatter(*points[part].T, **look, **options)


def _draw_line(axis, panel: Surface, line: np.ndarray, look: str = "-", **options):
    """A line [points, 3] in space, whose hidden parts are drawn before the surface."""
    hidden = is_hidden(panel, line, axis.get_zlim())
    with_ends = hidden | np.roll(hidden, 1) | np.roll(hidden, -1)  # as far as the parts that are seen
    for part, zorder in ((with_ends, BEHIND), (~hidden, IN_FRONT)):
        axis.plot(*np.where(part[:, None], line, np.nan).T, look, zorder=zorder, **options)


def _draw_spot(axis, panel: Surface):
    """A place on the floor, the point of the surface above it, and a dotted line between the two."""
    x1, x2 = np.asarray(panel.spot)
    surface = RegularGridInterpolator((np.asarray(panel.x2)[:, 0], np.asarray(panel.x1)[0]), np.asarray(panel.values))
    heights = np.linspace(axis.get_zlim()[0], surface((x2, x1)).item(), 60)
    line = np.column_stack([*np.broadcast_arrays(x1, x2, heights)])
    _draw_line(axis, panel, line, ":", color="black", linewidth=1.2)
    for end, size in ((line[:1], 4), (line[-1:], 6)):
        _draw_line(axis, panel, end, "o", color="black", markersize=size)


def fits(x1, x2, functions: Mapping[str, Values], nets: Mapping[str, tuple[Values, Values, Values]]) -> Figure:
    """A row per function, all on one scale: its values over the grid, then what each kind of net fitted to points.

    The functions have their formulas. Of each kind of net: values at the grid's points [functions, ...], points
    [functions, number, 3] and median errors [functions].
    """
    num_rows, num_columns = len(functions), 1 + len(nets)
    size = style.WIDTH / max(3, num_columns)
    figure = Figure(figsize=(size * num_columns, (1.06 * size + TITLE) * num_rows))
    for row, (name, values) in enumerate(functions.items()):
        heights = [np.ravel(values), *(np.append(fit[row], points[row][:, 2]) for fit, points, _ in nets.values())]
        limits = _ends(np.concatenate(heights))
        panels = [Surface(formula.title(name), x1, x2, values, limits=limits)]
        for title, (fit, points, errors) in nets.items():
            title = f"{title}, error {formula.title(f'{errors[row]:.1g}')}"
            panels.append(Surface(title, x1, x2, np.reshape(fit[row], np.shape(x1)), points=points[row], limits=limits))
        for column, panel in enumerate(panels):
            place = column / num_columns, 1 - (row + 1) / num_rows, 1 / num_columns, 1 / num_rows
            draw(add_axes(figure, place), panel, ticks=4, labels=column == 0)
    return figure


def units_and_sum(total: Surface, units: Sequence[Surface], params: Sequence[Mapping[str, Values]]) -> Figure:
    """What a net with one hidden layer and one output computes, large; the net; and its hidden units, each weighted.

    `params` are those of its two layers.
    """
    figure = Figure(figsize=(style.WIDTH, 7.9))
    figure.suptitle(total.title, y=0.985, fontsize=12)
    draw(add_axes(figure, (0.0, 0.37, 0.58, 0.6)), total._replace(title=""))
    _draw_net(figure.add_axes((0.58, 0.44, 0.41, 0.47)), *params)
    for index, unit in enumerate(units):
        place = index / len(units), 0.0, 1 / len(units), 0.37
        draw(add_axes(figure, place), unit, ticks=4)
    return figure


def _draw_net(axis, hidden: Mapping[str, Values], output: Mapping[str, Values]):
    """Inputs, hidden neurons and the output as circles, from left to right, with the weights on their lines."""
    num_inputs, num_hidden = hidden["weight"].shape
    left, middle = ([(at, (n - 1) / 2 - i) for i in range(n)] for at, n in ((0.0, num_inputs), (1.6, num_hidden)))
    right = [(3.0, 0.0)]
    for (row, column), weight in np.ndenumerate(hidden["weight"]):
        _draw_edge(axis, left[row], middle[column], weight, at=0.28 if row == 0 else 0.6)
    for (row, _), weight in np.ndenumerate(output["weight"]):
        _draw_edge(axis, middle[row], right[0], weight, at=0.45)
    names = [f"$x_{number}$" for number in range(1, num_inputs + 1)], [r"$\sigma$"] * num_hidden, ["$y$"]
    for places, texts in zip((left, middle, right), names, strict=True):
        axis.scatter(*np.transpose(places), s=900, color="white", edgecolors="black", zorder=2)
        for place, text in zip(places, texts, strict=True):
            axis.text(*place, text, ha="center", va="center", fontsize=13, zorder=3)
    for (x, y), bias in zip(middle, hidden["bias"], strict=True):
        axis.text(x, y - 0.24, _signed(bias), ha="center", va="top", fontsize=9)
    explanation = "on the lines the weights, below the neurons\ntheir biases; $\\sigma$ is the logistic function"
    axis.text(1.5, -num_hidden / 2 - 0.05, explanation, ha="center", va="top", fontsize=9)
    axis.set(xlim=(-0.3, 3.3), ylim=(-num_hidden / 2 - 0.35, num_hidden / 2 - 0.2))
    axis.axis("off")


def _draw_edge(axis, start, end, weight: float, *, at: float):
    """A line between two places, red where its weight is positive, blue where negative; its number at a share of it."""
    colour = style.RED if weight > 0 else style.BLUE
    axis.plot(*np.transpose([start, end]), color=colour, linewidth=1 + abs(weight) / 4, zorder=1)
    place = (1 - at) * np.array(start) + at * np.array(end)
    background = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axis.text(*place, _signed(weight), ha="center", va="center", fontsize=9, color=colour, bbox=background)


def _signed(value: float) -> str:
    return f"{value:+g}".replace("-", "\N{MINUS SIGN}")
