"""Pictures: each function returns a matplotlib Figure; nothing is shown or saved here."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure


def image_grid(images, titles: Sequence[str], *, num_columns: int = 10, wrong: Sequence[bool] | None = None) -> Figure:
    """Grey images [number, height, width] or [number, height, width, 1] with a title each; red where `wrong`."""
    images = np.asarray(images).reshape(len(titles), *np.shape(images)[1:3])
    num_rows = -(-len(images) // num_columns)
    row_height = 1.1 + 0.15 * max(title.count("\n") + 1 for title in titles)
    figure = Figure(figsize=(num_columns, row_height * num_rows), layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for index, (axis, image, title) in enumerate(zip(axes, images, titles, strict=False)):
        axis.imshow(image, cmap="gray_r")
        axis.set_title(title, fontsize=9, color="crimson" if wrong is not None and wrong[index] else "black")
    return figure


def curves(steps, quantities: Mapping[str, np.ndarray], *, xlabel: str = "step") -> Figure:
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
        axis.set(xlabel=xlabel, title=name)
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
    image = axis.imshow(errors, cmap="Reds", vmin=0)
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
