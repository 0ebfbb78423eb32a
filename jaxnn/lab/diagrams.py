"""Pictures that one experiment draws each, as functions that return a matplotlib Figure."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from jaxnn.lab import plots, style
from jaxnn.lab.style import Values


def predictions(pictures, images, probabilities, titles: Sequence[str], class_names: Sequence[str]) -> Figure:
    """A row for two examples: each picture, what the net sees of it, and its probabilities [examples, classes].

    So many are drawn as there are titles.
    """
    num_rows = -(-len(titles) // 2)
    turned = sum(map(len, class_names)) > 14  # names that would not fit beside each other
    height = 1.5 + 0.07 * max(map(len, class_names)) * turned
    figure = Figure(figsize=(style.WIDTH, height * num_rows + 0.3), layout="constrained")
    figure.suptitle("the picture, what the net sees of it, how probable it finds each class", fontsize=11)
    axes = figure.subplots(num_rows, 6, squeeze=False, width_ratios=[1, 1, 2] * 2).reshape(-1, 3)
    for axis in axes[len(titles) :].ravel():
        axis.axis("off")
    for (left, middle, right), picture, image, probs, title in zip(
        axes, pictures, images, probabilities, titles, strict=False
    ):
        left.imshow(picture, cmap="gray", vmin=0, vmax=1)
        left.set_title(title if len(title) <= 16 else f"{title[:7]}...{title[-7:]}", fontsize=9, parse_math=False)
        middle.imshow(np.squeeze(image), cmap="gray_r")
        for axis in (left, middle):
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(visible=True, color="darkgrey")
        best = int(np.argmax(probs))
        right.bar(
            range(len(probs)), probs, color=[style.BLUE if index == best else "silver" for index in range(len(probs))]
        )
        right.set_title(f"{class_names[best]}: {probs[best]:.1%}", fontsize=10, parse_math=False)
        right.set(ylim=(0, 1), yticks=[0, 0.5, 1])
        style.percent(right.yaxis)
        right.set_xticks(range(len(probs)), class_names, rotation=90 if turned else 0, parse_math=False)
    return figure


def simplex(probs, panels: Mapping[str, Values], *, unit: str, mark: Values) -> Figure:
    """Values over distributions of three outcomes [number, 3], as a triangle whose corners are the sure outcomes.

    A cross marks the distribution `mark`, called p.
    """
    corners = np.array([[0, 0], [1, 0], [0.5, np.sqrt(0.75)]])
    x, y = (np.asarray(probs) @ corners).T
    figure, axes = style.make_panels(len(panels), height=3.1)
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        levels = MaxNLocator(10).tick_values(0, np.max(values) * 0.999)
        image = axis.tricontourf(x, y, values, levels, cmap="viridis", extend="max")
        bar = figure.colorbar(image, ax=axis, label=unit, location="bottom", shrink=0.8)
        bar.set_ticks(levels[::2])
        axis.tricontour(x, y, values, levels, colors="white", linewidths=0.4)
        axis.plot(*(mark @ corners), marker="x", color="white", markersize=8, markeredgewidth=2)
        axis.annotate("p", mark @ corners, xytext=(6, 2), textcoords="offset points", color="white")
        for number, (corner, side) in enumerate(zip(corners, ("left", "right", "center"), strict=True), 1):
            axis.text(*corner, f" $q_{number}=1$ ", ha=side, va="bottom" if side == "center" else "top")
        axis.set(title=title, aspect="equal", xlim=(-0.05, 1.05), ylim=(-0.12, 1.0))
        axis.axis("off")
    return figure


def points(panels: Mapping[str, tuple], *, xlabel: str, ylabel: Sequence[str]) -> Figure:
    """A panel per title: of (x, y, slope), the points and the line y = slope · x to hold them against.

    ylabel: what y is in each panel.
    """
    figure, axes = style.make_panels(len(panels), height=3.6)
    for axis, (title, (x, y, slope)), name in zip(axes, panels.items(), ylabel, strict=True):
        axis.scatter(x, y, s=14, alpha=0.5)
        ends = np.array([np.min(x), np.max(x)])
        axis.plot(ends, slope * ends, color="black", linewidth=1)
        axis.set(title=title, xlabel=xlabel, ylabel=name)
        axis.grid()
    return figure


def classes(panels: Mapping[str, Values], labels, class_names: Sequence[str], *, title: str = "") -> Figure:
    """A panel per title: points [number, 2], drawn as their short class names, which stand large at the medians."""
    figure, axes = style.make_panels(len(panels), height=4.6)
    labels = np.asarray(labels)
    for axis, (panel, spots) in zip(axes, panels.items(), strict=True):
        for label, name in enumerate(class_names):
            chosen = spots[labels == label]
            if len(chosen):
                colour = matplotlib.colormaps["tab10"](label % 10)
                axis.plot(*chosen.T, linestyle="none", marker=f"${name}$", markersize=5, color=colour, mew=0.2)
                box = {"boxstyle": "round", "fc": "white", "ec": colour, "alpha": 0.85}
                axis.text(*np.median(chosen, axis=0), name, ha="center", va="center", fontsize=13, bbox=box)
        axis.set(title=panel, xticks=[], yticks=[])
        axis.spines[:].set_visible(True)
    figure.suptitle(title, fontsize=11)
    return figure


def heatmaps(
    panels: Mapping[str, Values], *, rows: tuple[str, Values], columns: tuple[str, Values], labels: Sequence[str]
) -> Figure:
    """A panel per title: values [rows, columns] in colour on a logarithmic scale, a cross on the lowest.

    `rows` and `columns` have the name and the values of each axis, `labels` says what is in each panel.
    """
    figure, axes = style.make_panels(len(panels), height=3.9, sharey=True)
    for axis, (title, values), label in zip(axes, panels.items(), labels, strict=True):
        finite = np.ma.masked_invalid(values)
        norm = LogNorm(finite.min(), min(finite.max(), 10 * finite.min()))  # what diverged says nothing about the rest
        image = axis.imshow(finite, cmap="viridis", norm=norm, aspect="auto", origin="lower")
        bar = figure.colorbar(image, ax=axis, extend="max", location="bottom", label=label)
        style.plain_ticks(bar.ax.xaxis)
        row, column = np.unravel_index(finite.argmin(), finite.shape)
        axis.plot(column, row, marker="x", color="white", markersize=10, markeredgewidth=2)
        axis.set(title=title.replace("_", " "), xlabel=columns[0], ylabel="" if axis is not axes[0] else rows[0])
        axis.set_yticks(range(len(rows[1])), [f"{value:.2g}" for value in rows[1]])
        axis.set_xticks(range(len(columns[1])), [f"{value:.0e}" for value in columns[1]], rotation=45)
    return figure


def tables(
    panels: Mapping[str, Values], *, rows: Sequence[str], columns: Sequence, xlabel: str = "", label: str = ""
) -> Figure:
    """A panel per title: of shares [rows, columns, runs], mean ± sd in percent on the colour of the mean.

    label: what the shares are of.
    """
    means = {title: np.mean(values, axis=-1) for title, values in panels.items()}
    figure, axes = style.make_panels(len(panels), height=1.1 + 0.33 * len(rows), sharey=True)
    for axis, (title, values) in zip(axes, means.items(), strict=True):
        image = axis.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            runs = 100 * np.asarray(panels[title][row][column])
            text = f"{100 * value:.0f}" + (f" ± {runs.std(ddof=1):.0f}" if len(runs) > 1 else "")
            colour = "black" if value > 0.5 else "white"
            axis.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
        axis.set(title=title, xlabel=xlabel)
        axis.set_xticks(range(len(columns)), columns)
        axis.set_yticks(range(len(rows)), rows)
    bar = figure.colorbar(image, ax=axes, label=label, location="bottom", aspect=50)
    style.percent(bar.ax.xaxis)
    return figure


def sliding(t, pairs: Mapping[str, tuple[Values, Values, Values]], places: Sequence[float]) -> Figure:
    """A column per title, of f, g and their convolution over t: a row for each place of g turned round, then f * g.

    The area under the product of f and the turned g, shaded, is the convolution at that place, a dot in the last row.
    """
    figure, axes = style.make_panels((len(places) + 1) * len(pairs), height=1.75, num_columns=len(pairs), sharex=True)
    for column, (title, (f, g, result)) in zip(axes.reshape(-1, len(pairs)).T, pairs.items(), strict=True):
        areas = []
        for axis, place in zip(column, places, strict=False):
            turned = np.interp(place - t, t, g, left=0, right=0)
            areas.append(np.trapezoid(f * turned, t))
            axis.plot(t, f, color=style.BLUE)
            axis.plot(t, turned, color=style.RED)
            axis.fill_between(t, f * turned, color=style.GREY, alpha=0.5, linewidth=0)
            axis.set_title(f"t = {place:g}: shaded area {areas[-1]:.2f}", fontsize=10)
        column[-1].plot(t, result, color=style.GREEN)
        column[-1].plot(places, areas, "o", color="black")
        column[0].set_title(f"{title}\n\n{column[0].get_title()}", fontsize=10)
        column[-1].set_title("f * g at every t", fontsize=10)
        column[-2].set_xlabel("τ")
        column[-1].set_xlabel("t")
    for axis in axes[:: len(pairs)]:
        axis.set_ylabel("value")
    key = {"f(τ)": style.BLUE, "g(t - τ): turned round, moved by t": style.RED, "their product": style.GREY}
    lines = [Line2D([], [], color=colour, linewidth=3) for colour in key.values()]
    figure.legend(lines, key, loc="outside upper center", ncols=len(key), fontsize=10)
    return figure


def modes(picture: Values, kernel: Values, results: Mapping[str, Values], *, title: str = "") -> Figure:
    """A picture, a kernel, and full results of moving one over the other, with frames: which part each mode keeps."""
    full = np.add(np.shape(picture), np.shape(kernel)) - 1
    sizes = {"full": full, "same": np.array(np.shape(picture)), "valid": full - 2 * (np.array(np.shape(kernel)) - 1)}
    meanings = "kernel and picture touch", "the kernel's middle is on the picture", "the whole kernel is on it"
    lines = (style.BLUE, "-"), (style.RED, "--"), (style.GREEN, ":")
    panels = {"picture": picture, "kernel": kernel, **results}
    figure = Figure(figsize=(style.WIDTH, 5.0), layout="constrained")
    axes = figure.subplots(1, len(panels), width_ratios=[np.shape(image)[1] for image in panels.values()])
    for axis, (name, image) in zip(axes, panels.items(), strict=True):
        height, width = np.shape(image)
        axis.pcolormesh(np.asarray(image), cmap="gray_r", edgecolors="lightgrey", linewidth=0.4)
        axis.set(
            title=f"{name}\n{height} × {width}", aspect="equal", xlim=(-0.2, width + 0.2), ylim=(height + 0.2, -0.2)
        )
        axis.axis("off")
    for (mode, size), meaning, (colour, line) in zip(sizes.items(), meanings, lines, strict=True):
        label = f"{mode}, {size[0]} × {size[1]}: {meaning}"
        options: dict = {"edgecolor": colour, "linestyle": line, "linewidth": 2.5, "fill": False, "label": label}
        for axis in axes[2:]:
            axis.add_patch(Rectangle(tuple((full - size)[::-1] // 2), *size[::-1], **options))
    figure.suptitle(title, fontsize=11)
    figure.legend(handles=axes[-1].patches, loc="outside lower center", fontsize=10)
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
        f"{class_names[labels[i]]}\nread as {class_names[predictions[i]]}\np = {probs[i, labels[i]]:.1%}"
        if predictions[i] != labels[i]
        else class_names[labels[i]]
        for i in shown
    ]
    heading = (
        f"{mistaken.sum():,} mistakes in {len(labels):,} images: the label, what was read, and the label's probability"
    )
    return plots.image_grid(images[shown], titles, wrong=mistaken[shown], heading=heading)
