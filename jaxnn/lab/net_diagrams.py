"""Drawings of nets: their layers with all shapes, what goes through them and back, what they learn."""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxnn.lab import plots, style
from jaxnn.lab.style import Values

MOST = 10  # neurons of a layer that are drawn; of larger ones the first, dots, and the last


def mlp(sizes: Sequence[int]) -> Figure:
    """A fully connected net as on the deck's page 10: neurons, connections, the shapes of weights and biases.

    sizes: the inputs, the neurons of each hidden layer, the outputs.
    """
    figure, (axis,), top = _make_panels(sizes, slot=0.7 if max(sizes) <= 5 else 0.42, above=0.8, below=0.5)
    axis.set_xlim(-0.45, len(sizes) - 0.55)
    last = len(sizes) - 1
    for number, size in enumerate(sizes):
        letter, name = {0: ("x", "input"), last: ("y", "output")}.get(number, ("", f"hidden layer {number}"))
        labels = [f"${letter}_{{{index + 1}}}$" if letter else "$f$" for index in range(size)]
        _draw_neurons(axis, number, labels, ["white" if letter else "lightyellow"] * size, area=550)
        heading = f"{name}\n{_formula(number, last)}\n{size} numbers"
        axis.text(number, top, heading, ha="center", va="bottom", fontsize=11)
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes), 1):
        _draw_lines(axis, number, np.zeros((inputs, outputs)))
        shapes = f"$W^{{({number})}}$: {outputs} × {inputs}\n$b^{{({number})}}$: {outputs}"
        axis.text(number - 0.5, -top, shapes, ha="center", va="top", fontsize=11)
    count = sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(sizes))
    axis.set_title(f"The fully connected net {'-'.join(map(str, sizes))}: {count:,} weights and biases")
    return figure


def _formula(number, last):
    """What the layer computes, in the deck's symbols; our output layers are linear."""
    if number == 0:
        return "$x$"
    before = "x" if number == 1 else f"x^{{({number - 1})}}"
    activity = rf"W^{{({number})}} {before} + b^{{({number})}}"
    return f"$y = {activity}$" if number == last else rf"$x^{{({number})}} = f\,({activity})$"


def back_propagation(
    activities: Sequence,
    params: Sequence[Mapping],
    targets: Sequence | Values,
    deltas: Sequence,
    gradients: Sequence[Mapping],
) -> Figure:
    """One example's way forwards through a net, and below it the way of the Δ backwards (deck, page 15).

    activities: of inputs, hidden layers and outputs; deltas: of the same but the inputs; params and gradients: with a
    `weight` [from, to] for each layer. The loss is ½ ‖y - yᵗ‖², and the outputs have no activation function.
    """
    sizes = [len(values) for values in activities]
    figure, (forward, backward), top = _make_panels(sizes, slot=0.62, above=0.4, below=0.3, num_panels=2)
    _draw_values(forward, activities, [layer["weight"] for layer in params], top, "weight")
    _draw_values(backward, [None, *deltas], [layer["weight"] for layer in gradients], top, "gradient")
    last = len(sizes) - 1
    symbols = ["x", *(f"x^{{({number})}}" for number in range(1, last)), "y"]
    for number, symbol in enumerate(symbols):
        forward.text(number, top, f"${symbol}$", ha="center", va="bottom", fontsize=13)
        delta = rf"$\Delta^{{({number})}}$" if number else "inputs"
        backward.text(number, top, delta, ha="center", va="bottom", fontsize=13)
    for index, height in zip(*_place(sizes[-1]), strict=True):
        y, target = activities[-1][index], targets[index]
        forward.text(last + 0.2, height, f"target {target:.2f}", va="center")
        backward.text(
            last + 0.2, height, f"= {y:.2f} - {target:.2f}\noutput - target".replace("- -", "+ "), va="center"
        )
    arrow = {"arrowstyle": "-|>", "linewidth": 2, "color": style.GREY, "mutation_scale": 20}
    for axis, ends in ((forward, (0.15, last - 0.15)), (backward, (last - 0.15, 0.15))):
        axis.annotate("", (ends[1], -top), (ends[0], -top), arrowprops=arrow)
    forward.set_title(r"Forward: in the circles $x^{(k)} = f\,(W^{(k)} x^{(k-1)} + b^{(k)})$, on the lines the weights")
    backward.set_title(
        r"Backward: in the circles $\Delta^{(k)} = \Delta^{(k+1)} W^{(k+1)}$, times $f\,'$ of each neuron; "
        "\n"
        r"on the lines the gradient of each weight, $x^{(k-1)}$ where it begins times $\Delta^{(k)}$ where it ends"
    )
    return figure


def _draw_values(axis, columns, matrices, top, name):
    """Neurons with their values, None for the inputs' names, and lines: red positive, blue negative, by size."""
    limit = max(np.abs(values).max() for values in columns if values is not None) or 1
    coolwarm = matplotlib.colormaps["coolwarm"]
    largest = max(np.abs(matrix).max() for matrix in matrices)
    for number, values in enumerate(columns):
        if values is None:
            names = [f"$x_{{{index + 1}}}$" for index in range(len(matrices[0]))]
            colours = ["lightgrey"] * len(names)
        else:
            names = [f"{value:.2f}" for value in np.asarray(values)]
            colours = coolwarm(0.5 + 0.35 * np.asarray(values) / limit)  # pale, so that one can read what is on it
        _draw_neurons(axis, number, names, colours, area=1300)
    for number, matrix in enumerate(matrices, 1):
        _draw_lines(axis, number, matrix, largest)
    key = f"Red is positive, blue negative; the thickest line is a {name} of ±{largest:.2f}"
    middle = (len(columns) - 1) / 2
    axis.text(middle, -top - 0.15, key, ha="center", va="top", fontsize=9)


def _make_panels(sizes, *, slot, above, below, num_panels=1):
    """A figure, its axes, each of which has a unit for each layer and each neuron, and where the neurons end on top.

    slot, above, below: inches for a neuron, above all of them and below.
    """
    rows = min(max(sizes), MOST)
    width = max(style.WIDTH, 1.8 * len(sizes))
    height = slot * rows + above + below + 0.4
    figure, axes = style.make_panels(num_panels, height=height, num_columns=1, width=width)
    for axis in axes:
        axis.set(xlim=(-0.45, len(sizes) - 0.3), ylim=(-rows / 2 - below / slot, rows / 2 + above / slot))
        axis.axis("off")
    return figure, axes, rows / 2


def _place(size):
    """The neurons of a layer that are drawn, and their heights, the first on top."""
    if size <= MOST:
        return np.arange(size), (size - 1) / 2 - np.arange(size)
    first = np.arange(MOST - 2)
    return np.append(first, size - 1), (MOST - 1) / 2 - np.append(first, MOST - 1)


def _draw_neurons(axis, number, names, colours, *, area):
    indices, heights = _place(len(names))
    chosen = [colours[index] for index in indices]
    axis.scatter([number] * len(indices), heights, s=area, c=chosen, edgecolors="black", zorder=2)
    for index, height in zip(indices, heights, strict=True):
        axis.text(number, height, names[index], ha="center", va="center", fontsize=9, zorder=3)
    if len(names) > MOST:
        axis.text(number, 1.5 - MOST / 2, "⋮", ha="center", va="center", fontsize=16)


def _draw_lines(axis, number, matrix, largest=1.0):
    """The connections from layer number - 1 to layer number; those of value 0 grey."""
    (left, starts), (right, ends) = map(_place, np.shape(matrix))
    values = np.asarray(matrix)[np.ix_(left, right)].ravel()
    lines = [[(number - 1, start), (number, end)] for start, end in itertools.product(starts, ends)]
    colours = np.select([values > 0, values < 0], [style.RED, style.BLUE], style.GREY)
    widths = 0.4 + 4.5 * np.abs(values) / (largest or 1)
    axis.add_collection(LineCollection(lines, colors=colours, linewidths=widths, zorder=1))


def learned_weights(start: Values, end: Values, shape: tuple[int, int]) -> Figure:
    """Weights [pixels, neurons] before and after a training, and what it added: the ten neurons that changed most."""
    added = end - start
    neurons = np.sort(np.argsort(-np.abs(added).sum(axis=0), kind="stable")[:10])
    rows = {"before": start, "after": end, "after\n- before": added}
    pictures, titles = [], ["", *(f"neuron {number + 1}" for number in neurons)]
    for label, weights in rows.items():
        pictures += [label, *weights[:, neurons].T.reshape(-1, *shape)]
    title = (
        "Weights begin as noise, which hides what training adds: strokes, red where ink excites, blue where it inhibits"
    )
    return plots.image_grid(pictures, titles, num_columns=1 + len(neurons), heading=title, signed=True)


def by_filter(rows: Sequence[tuple[Values | str, Values | Sequence, bool]], *, title: str, most: int = 36) -> Figure:
    """A column of images for each filter of a layer, but of `most` at most, in blocks of twelve.

    rows: what stands on the left, an image or words; an image for each filter; whether those have 0 white, negative
        values blue and positive ones red.
    """
    num_filters = len(rows[0][1])
    if num_filters > most:
        title = f"{title} (the first {most} of {num_filters} filters)"
    images, titles, signs = [], [], []
    for start in range(0, min(num_filters, most), 12):
        numbers = range(start, min(start + 12, num_filters, most))
        rest = [""] * (12 - len(numbers))
        for left, pictures, signed in rows:
            named = pictures is rows[0][1]
            images += [left, *(pictures[number] for number in numbers), *rest]
            titles += ["", *(f"filter {number + 1}" if named else "" for number in numbers), *rest]
            signs += [False, *[signed] * 12]
    return plots.image_grid(images, titles, num_columns=13, heading=title, signed=signs)


def reasons(images: Values, titles: Sequence[str], falls: Values, slopes: Values) -> Figure:
    """Images, and below each where the decision about it comes from: falls by occlusion, slopes as ink × gradient."""
    pictures = ["image", *images, "occlusion", *falls, "ink ×\ngradient", *slopes]
    title = (
        "Why the net reads what it reads: red speaks for what was read, blue against it\n"
        "Occlusion: how far its log-probability falls when the 7 × 7 pixels around are hidden\n"
        "Ink × gradient: what each pixel adds to the log-probability, by its slope"
    )
    signed, num_columns = np.arange(len(pictures)) > len(images), 1 + len(images)
    return plots.image_grid(pictures, ["", *titles], num_columns=num_columns, heading=title, signed=signed)


def cnn(image: Values, kernels: Sequence[Sequence[int]]) -> Figure:
    """A convolutional net as a row of layers (deck, page 19), with the shape of what each makes of an image.

    image: [height, width, channels]. kernels: the shape of each layer's weights, [height, width, channels in, out] of a
    convolution without padding, which a 2x2 max pool follows, or [inputs, outputs] of a dense layer.
    """
    layers = [("image", np.shape(image)), *_cnn_layers(np.shape(image), kernels)]
    layers[-1] = f"{layers[-1][0]}\nsoftmax", layers[-1][1]
    width = max(style.WIDTH / len(layers), 1.1)  # of a column, in inches like all here
    figure = Figure(figsize=(width * len(layers), 2.8))
    axis = figure.add_axes((0, 0, 1, 1), autoscale_on=False)
    scale = 0.7 * width / max(np.shape(image)[:2])
    for number, (name, shape) in enumerate(layers):
        middle = (number + 0.5) * width
        _draw_block(axis, middle, scale, shape, image if number == 0 else None)
        axis.text(middle, 2.36, name, ha="center", va="top", linespacing=1.3, fontsize=9)
        axis.text(middle, 0.2, " × ".join(map(str, shape)), ha="center", fontweight="bold", fontsize=9)
        if number:
            ends = (middle - 0.44 * width, 1.05), (middle - 0.56 * width, 1.05)
            axis.annotate("", *ends, arrowprops={"arrowstyle": "-|>", "color": style.GREY, "mutation_scale": 14})
    title = "From an image to the probabilities of its classes: layers, weights, shapes height × width × channels"
    axis.text(width * len(layers) / 2, 2.7, title, ha="center", va="top", fontsize=11)
    axis.set(xlim=(0, width * len(layers)), ylim=(0, 2.8))
    axis.axis("off")
    return figure


def _cnn_layers(shape, kernels):
    """Of each layer, what it is called, and the shape of its outputs."""
    height, width, channels = shape
    for rows, columns, before, channels in (kernel for kernel in kernels if len(kernel) == 4):
        height, width = height - rows + 1, width - columns + 1
        name = f"convolution\n{rows} × {columns} × {before}\n{rows * columns * before * channels:,}\nweights"
        yield name, (height, width, channels)
        height, width = height // 2, width // 2
        yield "max pool\n2 × 2", (height, width, channels)
    size = height * width * channels
    yield "flatten", (size,)
    for inputs, outputs in (kernel for kernel in kernels if len(kernel) == 2):
        if inputs != size:
            raise ValueError(f"cnn: a dense layer with {inputs} inputs cannot follow {size} outputs")
        size = outputs
        yield f"dense\n{inputs * outputs:,}\nweights", (size,)


def _draw_block(axis, middle, scale, shape, image):
    """A sheet for each channel, of many only six, the first in front; a bar for a vector, whose area is its length."""
    if len(shape) == 1:
        height = scale * np.sqrt(shape[0])
        axis.add_patch(Rectangle((middle - 0.06, 1.05 - height / 2), 0.12, height, facecolor=style.ORANGE, ec="black"))
        return
    height, width = scale * shape[0], scale * shape[1]
    sheets = min(shape[2], 6)
    for sheet in reversed(range(sheets)):
        shift = 0.04 * (sheet - (sheets - 1) / 2)
        corner = middle - width / 2 + shift, 1.05 - height / 2 + shift
        axis.add_patch(Rectangle(corner, width, height, facecolor=style.SKY if image is None else "none", ec="black"))
    if image is not None:
        extent = corner[0], corner[0] + width, corner[1], corner[1] + height
        axis.imshow(np.squeeze(image), cmap="gray_r", extent=extent)
