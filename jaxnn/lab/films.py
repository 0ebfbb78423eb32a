"""Films: each function draws on one figure again and again and yields it for each frame; `gif.encode` takes them.

Axes and colours are the same in all frames of a film; its title says what is seen. `steps` is the step of each frame.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxnn.lab import style, surfaces
from jaxnn.lab.style import Values

WIDTH = 7.0  # inches, which are 700 pixels
SMOOTH: dict[str, Any] = {"interpolation": "bilinear", "interpolation_stage": "data"}  # bands without steps
COLOURS = style.BLUE, style.RED, style.GREEN, style.ORANGE


def _play(figure: Figure, titles: Sequence[str], draw: Callable[[int], None]) -> Iterator[Figure]:
    """The figure once for each title, after `draw(frame)` has changed what moves."""
    title = figure.suptitle(titles[-1], fontsize=12)
    draw(0)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the axes stay where they are now
    for frame, text in enumerate(titles):
        title.set_text(text)
        draw(frame)
        yield figure


def _frame(axis):
    """All four sides, and no numbers."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(True)


def _positive_ends(curves: Mapping[str, Values]) -> tuple[float, float]:
    """The lowest and the highest value above 0, which are all that a logarithmic axis has."""
    values = np.concatenate([np.ravel(values) for values in curves.values()])
    positive = values[values > 0]
    return positive.min().item(), positive.max().item()


def descents(f: Callable, paths: Mapping[str, Values], *, formula: str, closing: str) -> Iterator[Figure]:
    """Paths [steps, 2] over the contours of a function whose minimum is 0 at 0, and beside them its values there.

    f: makes one number of a vector [2].
    formula: how it is called; closing: the title of the last frame.
    """
    x1, x2, values = surfaces.over_grid(f, (-4, 4), (-4, 4))
    heights = {name: np.asarray(jax.vmap(f)(path)) for name, path in paths.items()}
    figure, (left, right) = style.make_panels(2, height=3.6, width=WIDTH)
    levels = np.max(values) * np.linspace(0, 1, 12) ** 2  # of a bowl, as far from each other everywhere
    left.contourf(x1, x2, values, levels, cmap="Greys", alpha=0.5)
    lowest = np.array(list(heights))[np.argmin(list(heights.values()), axis=0)]
    titles = [f"Step {step}: {name.splitlines()[0]} is lowest" for step, name in enumerate(lowest[:-1])] + [closing]
    num_steps, moving = len(titles), []
    colours = dict(zip(paths, itertools.cycle(COLOURS), strict=False))
    for (name, path), height in zip(paths.items(), heights.values(), strict=True):
        colour = colours[name]
        (trail,) = left.plot([], [], color=colour, linewidth=1.5, marker=".", markersize=4)
        (dot,) = left.plot([], [], "o", color=colour, markeredgecolor="black", markersize=9)
        (curve,) = right.plot([], [], color=colour, linewidth=2)
        moving.append((trail, dot, curve, np.asarray(path), np.asarray(height)))
    left.plot(0, 0, "x", color="black")
    left.set(xlabel="$x_1$", ylabel="$x_2$", title=f"the paths over {formula}", aspect="equal")
    low, high = _positive_ends(heights)
    right.set(xlabel="step", title="how far above the minimum", yscale="log", xlim=(0, num_steps - 1))
    right.set_ylim(low / 2, 2 * high)
    right.minorticks_off()
    right.grid(alpha=0.3)
    ends = [(name, num_steps - 1.0, float(height[-1]), colours[name]) for name, height in heights.items()]
    style.label_lines(right, ends, gap=0.33)

    def draw(frame):
        for trail, dot, curve, path, height in moving:
            trail.set_data(*path[: frame + 1].T)
            dot.set_data(*path[frame : frame + 1].T)
            curve.set_data(np.arange(frame + 1), height[: frame + 1])

    return _play(figure, titles, draw)


def sliding_kernel(image, kernel, result) -> Iterator[Figure]:
    """A kernel slides over an image, row by row: what it covers, times the kernel, adds up to a pixel of the result."""
    image, kernel, result = np.asarray(image), np.asarray(kernel), np.asarray(result)
    figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
    mosaic = figure.subplot_mosaic("ICR;IKR", width_ratios=[2, 1, 2])
    axes = {name: mosaic[name[0].upper()] for name in ("image", "covered", "kernel", "result")}
    size, (height, width) = kernel.shape[0], result.shape
    limit = np.abs(result).max()
    grey, signed = {"cmap": "gray_r", "vmin": 0, "vmax": np.max(image)}, {"cmap": "RdBu_r"}
    axes["image"].imshow(image, **grey)
    covered = axes["covered"].imshow(image[:size, :size], **grey)
    axes["kernel"].imshow(kernel, **signed, vmin=-2 * np.abs(kernel).max(), vmax=2 * np.abs(kernel).max())
    made = axes["result"].imshow(result, **signed, vmin=-limit, vmax=limit)
    axes["result"].set_facecolor("gainsboro")  # what is still to come
    frames = [Rectangle((0, 0), side, side, fill=False, linewidth=3, edgecolor=style.ORANGE) for side in (size, 1)]
    for name, frame in zip(("image", "result"), frames, strict=True):
        axes[name].add_patch(frame)
    numbers = [
        axes["covered"].text(column, row, "", ha="center", va="center") for row, column in np.ndindex(size, size)
    ]
    for (row, column), value in np.ndenumerate(kernel):
        axes["kernel"].text(column, row, f"{value:g}", ha="center", va="center")
    named = {"image": "the image", "covered": "covered", "kernel": "times the kernel", "result": "the sums"}
    for name, title in named.items():
        _frame(axes[name])
        axes[name].set_title(title)

    def draw(index):
        row, column = divmod(index, width)
        window = image[row : row + size, column : column + size]
        covered.set_data(window)
        for number, value in zip(numbers, window.ravel(), strict=True):
            number.set(text=f"{value:.1f}", color="white" if value > np.max(image) / 2 else "black")
        frames[0].set_xy((column - 0.5, row - 0.5))
        frames[1].set_xy((column - 0.5, row - 0.5))
        order = np.arange(height * width).reshape(height, width)
        made.set_data(np.ma.masked_where(order > index, result))

    titles = [f"The {kernel.size} products add up to {value:.1f}" for value in result.ravel()]
    titles[-1] = "Red where ink begins on the way to the right, blue where it ends"
    return _play(figure, titles, draw)


def growing_fits(
    functions: Mapping[str, Values], nets: Mapping[int, Mapping[str, Values]], steps: Sequence[int]
) -> Iterator[Figure]:
    """A row for each function on [-2, 2]²: the function, then what a net of each size makes of it, and its error.

    functions: by its formula, each one's values [rows, columns].
    nets: by its number of neurons and by the formula, values [frames, rows, columns].
    """
    num_columns = 1 + len(nets)
    figure, axes = style.make_panels(len(functions) * num_columns, height=1.7, num_columns=num_columns, width=6.0)
    axes, moving = axes.reshape(-1, num_columns), []
    for row, (name, values) in zip(axes, functions.items(), strict=True):
        norm = BoundaryNorm(np.linspace(np.min(values), np.max(values), 12), 256, extend="both")
        images = [axis.imshow(values, cmap="coolwarm", norm=norm, origin="lower", **SMOOTH) for axis in row]
        row[0].set_xlabel(name)
        for axis, image, fits in zip(row[1:], images[1:], nets.values(), strict=True):
            moving.append((axis, image, np.asarray(fits[name]), np.mean((fits[name] - values) ** 2, axis=(1, 2))))
    for axis, title in zip(axes[0], ["the function", *(f"{size} neurons" for size in nets)], strict=True):
        axis.set_title(title)
    for axis in axes.ravel():
        _frame(axis)

    def draw(frame):
        for axis, image, fits, errors in moving:
            image.set_data(fits[frame])
            axis.set_xlabel(f"error {errors[frame]:.2g}")

    return _play(figure, [f"Nine nets learn three functions: update {step:,}" for step in steps], draw)


def growing_boundary(x, probs, points, labels, accuracies, steps: Sequence[int]) -> Iterator[Figure]:
    """Where a net says class 1 (red) with which probability, probs [frames, rows, columns], and where it is undecided.

    points [number, 2] are what it learns from, in the colours of their labels, 0 or 1; accuracies [frames].
    """
    figure = Figure(figsize=(5.6, 4.9), layout="constrained")
    axis = figure.subplots()
    norm, extent = BoundaryNorm(np.linspace(0, 1, 11), 256), 2 * (x[0], x[-1])
    image = axis.imshow(probs[0], cmap="coolwarm", norm=norm, alpha=0.8, origin="lower", extent=extent, **SMOOTH)
    figure.colorbar(image, ax=axis, label="probability of red", ticks=[0, 0.5, 1], shrink=0.7)
    colours = np.where(np.ravel(labels) == 1, style.RED, style.BLUE)
    axis.scatter(*np.transpose(points), c=colours, edgecolors="white", linewidths=0.7, s=26, zorder=3)
    axis.set(xlabel="$x_1$", ylabel="$x_2$")
    lines = []

    def draw(frame):
        image.set_data(probs[frame])
        while lines:
            lines.pop().remove()
        lines.append(axis.contour(x, x, probs[frame], [0.5], colors="black", linewidths=1.5))

    pairs = zip(steps, accuracies, strict=True)
    titles = [f"Step {step:,}: {accuracy:.0%} of the points are on their side" for step, accuracy in pairs]
    return _play(figure, titles, draw)


def learning_kernels(kernels, image, maps, accuracies, steps: Sequence[int]) -> Iterator[Figure]:
    """Kernels [frames, height, width, number], and the maps [frames, ..., number] that they make of an image.

    Their number is a multiple of 6.
    Red is positive, blue negative; accuracies [frames] are those of the whole net.
    """
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=[1, 3, 3])
    axes[0].imshow(image, cmap="gray_r")
    tiles = [_tile(pictures, num_columns=6) for pictures in (kernels, maps)]
    shown = []
    for axis, pictures in zip(axes[1:], tiles, strict=True):
        limit = np.nanquantile(np.abs(pictures[-1]), 0.995)
        norm = BoundaryNorm(np.linspace(-limit, limit, 16), 256, extend="both")  # few colours: a small file
        shown.append(axis.imshow(pictures[0], cmap="RdBu_r", norm=norm))
    for axis, title in zip(
        axes, ["a digit", f"{kernels.shape[-1]} kernels, red is positive", "what each makes of the digit"], strict=True
    ):
        axis.set(title=title)
        axis.axis("off")

    def draw(frame):
        for picture, pictures in zip(shown, tiles, strict=True):
            picture.set_data(pictures[frame])

    pairs = zip(steps, accuracies, strict=True)
    titles = [f"Step {step:,}: the net reads {accuracy:.0%} of other digits" for step, accuracy in pairs]
    return _play(figure, titles, draw)


def _tile(images, *, num_columns: int) -> np.ndarray:
    """Images [frames, height, width, number], number a multiple of the columns, as one per frame, with gaps of NaN."""
    images = np.moveaxis(images, -1, 1)
    gap = max(1, images.shape[-1] // 8)
    padded = np.pad(images, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    frames, number, height, width = padded.shape
    rows = padded.reshape(frames, number // num_columns, num_columns, height, width)
    return rows.swapaxes(2, 3).reshape(frames, -1, num_columns * width)


def layer_gradients(
    norms: Mapping[str, Values], accuracies: Mapping[str, Values], steps: Sequence[int]
) -> Iterator[Figure]:
    """A panel per net: the gradient's norm in each of its layers, [frames, layers], and its accuracy [frames].

    Red are layers that get less than a thousandth of what the last one gets.
    """
    figure, axes = style.make_panels(len(norms), height=3.6, width=WIDTH, sharey=True)
    low, high = np.log10(_positive_ends(norms))
    low, high = 10.0 ** np.floor(low), 10.0 ** np.ceil(high)
    moving = []
    for axis, (name, values) in zip(axes, norms.items(), strict=True):
        bars = axis.bar(np.arange(1, values.shape[1] + 1), 1, bottom=low, width=0.8)
        text = axis.text(0.04, 0.96, "", transform=axis.transAxes, color=style.RED, va="top")
        axis.set(
            xlabel="hidden layer, from the image to the output",
            yscale="log",
            ylim=(low, high),
            xlim=(0.3, values.shape[1] + 0.7),
        )
        axis.grid(alpha=0.3, axis="y")
        moving.append((axis, name, bars, text, np.asarray(values)))
    axes[0].set_ylabel("norm of the gradient")

    def draw(frame):
        for axis, name, bars, text, values in moving:
            vanished = values[frame] < values[frame, -1] / 1000
            for bar, value, gone in zip(bars, values[frame], vanished, strict=True):
                bar.set(height=value - low, color=style.RED if gone else style.BLUE)
            text.set_text(f"vanished in {vanished.sum()} of {len(bars)} layers" if vanished.any() else "")
            axis.set_title(f"{name}: reads {accuracies[name][frame]:.0%}")

    return _play(figure, [f"Step {step:,}: what each hidden layer has to learn from" for step in steps], draw)
