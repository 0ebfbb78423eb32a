import io
import re

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Annotation

from jaxnn.lab import net_diagrams, style

RNG = np.random.default_rng(0)


def draws(figure):
    """The figure can be drawn: its axes."""
    figure.savefig(io.BytesIO(), format="png")
    return figure.axes


def texts_of(axis):
    return [text.get_text() for text in axis.texts]


def test_a_net_shows_its_neurons_connections_and_shapes():
    (axis,) = draws(net_diagrams.mlp([2, 3, 1]))
    assert axis.get_title().endswith("2-3-1: 13 weights and biases")
    assert [len(circles.get_offsets()) for circles in (axis.collections[number] for number in range(3))] == [2, 3, 1]
    assert [len(lines.get_segments()) for lines in axis.collections[3:]] == [6, 3]
    shapes = [text for text in texts_of(axis) if text.startswith("$W")]
    assert shapes == ["$W^{(1)}$: 3 × 2\n$b^{(1)}$: 3", "$W^{(2)}$: 1 × 3\n$b^{(2)}$: 1"]


def test_of_a_large_layer_the_first_neurons_dots_and_the_last_are_shown():
    (axis,) = draws(net_diagrams.mlp([784, 10]))
    assert [len(circles.get_offsets()) for circles in axis.collections[:2]] == [9, 10]
    inputs = [text for text in texts_of(axis) if re.match(r"\$x_|⋮", text)]
    assert inputs == [*(f"$x_{{{number}}}$" for number in (*range(1, 9), 784)), "⋮"]
    heights = axis.collections[0].get_offsets()[:, 1]
    assert (heights[0], heights[-2], heights[-1]) == (4.5, -2.5, -4.5)  # of the dots -3.5
    assert axis.get_title().endswith("7,850 weights and biases")


def test_back_propagation_shows_values_forwards_and_deltas_backwards():
    params = [{"weight": np.array([[1.0, -2.0], [0.5, 0.0], [3.0, 1.0]])}, {"weight": np.array([[1.0], [-1.0]])}]
    gradients = [{"weight": RNG.normal(size=(3, 2))}, {"weight": RNG.normal(size=(2, 1))}]
    activities, deltas = [[1.0, 2.0, 3.0], [0.25, -0.5], [0.75]], [[0.125, 2.5], [-1.25]]
    forward, backward = draws(net_diagrams.back_propagation(activities, params, [2.0], deltas, gradients))
    assert texts_of(forward)[:6] == ["1.00", "2.00", "3.00", "0.25", "-0.50", "0.75"]
    assert texts_of(backward)[:6] == ["$x_{1}$", "$x_{2}$", "$x_{3}$", "0.12", "2.50", "-1.25"]
    assert "target 2.00" in texts_of(forward)
    assert "= 0.75 - 2.00\noutput - target" in texts_of(backward)
    assert any("thickest line is a weight of ±3.00" in text for text in texts_of(forward))
    lines = forward.collections[3]
    assert lines.get_linewidths()[4] == max(lines.get_linewidths())  # of the weight 3
    colours = [matplotlib.colors.to_hex(colour).upper() for colour in lines.get_colors()]
    assert colours == [style.RED, style.BLUE, style.RED, style.GREY, style.RED, style.RED]
    arrows = [next(text for text in axis.texts if isinstance(text, Annotation)) for axis in (forward, backward)]
    assert [np.sign(arrow.xy[0] - arrow.xyann[0]) for arrow in arrows] == [1, -1]


def test_learned_weights_are_those_that_changed_most():
    start = RNG.normal(size=(6, 12))
    added = np.zeros((6, 12))
    added[:, 1:11] = RNG.uniform(1, 2, size=(6, 10))
    (axis,) = draws(net_diagrams.learned_weights(start, start + added, (2, 3)))
    assert [text for text in texts_of(axis) if "neuron" in text] == [f"neuron {number}" for number in range(2, 12)]
    assert len(axis.images) == 30
    np.testing.assert_allclose(axis.images[0].get_array().ravel(), start[:, 1])
    np.testing.assert_allclose(axis.images[20].get_array().ravel(), added[:, 1])


@pytest.mark.parametrize(("number", "num_shown"), [(5, 5), (24, 24), (40, 36)])
def test_a_filter_stands_above_all_that_belongs_to_it(number, num_shown):
    kernels, maps, digit = RNG.normal(size=(number, 3, 3)), RNG.normal(size=(number, 6, 6)), RNG.uniform(size=(8, 8, 1))
    figure = net_diagrams.by_filter([("kernel", kernels, True), (digit, maps, True)], title="filters")
    (axis,) = draws(figure)
    images = {image.get_array().tobytes(): image for image in axis.images}
    for kernel, map_ in list(zip(kernels, maps, strict=True))[:num_shown]:
        above, below = images[kernel.tobytes()].get_extent(), images[map_.tobytes()].get_extent()
        assert above[:2] == below[:2]
        assert above[2] > below[3]
    assert len([text for text in texts_of(axis) if re.match("filter ", text)]) == num_shown
    assert ("first 36 of 40" in texts_of(axis)[-1]) == (number > 36)


def test_reasons_stand_below_their_image():
    images, falls, slopes = RNG.uniform(size=(3, 2, 5, 5))
    (axis,) = draws(net_diagrams.reasons(images, ["read as 1", "read as 2"], falls, slopes))
    shown = [image.get_array() for image in axis.images]
    np.testing.assert_array_equal(shown, [*images, *falls, *slopes])
    assert [image.get_cmap().name for image in axis.images] == ["gray_r"] * 2 + ["RdBu_r"] * 4
    assert [text for text in texts_of(axis) if text.startswith("read")] == ["read as 1", "read as 2"]


def test_a_cnn_shows_the_shape_of_each_layer():
    (axis,) = draws(
        net_diagrams.cnn(RNG.uniform(size=(28, 28, 1)), [(5, 5, 1, 24), (3, 3, 24, 32), (800, 256), (256, 10)])
    )
    shapes = [text for text in texts_of(axis) if re.fullmatch(r"\d+( × \d+)*", text)]
    assert shapes == ["28 × 28 × 1", "24 × 24 × 24", "12 × 12 × 24", "10 × 10 × 32", "5 × 5 × 32", "800", "256", "10"]
    assert "convolution\n3 × 3 × 24\n6,912\nweights" in texts_of(axis)
    assert "dense\n2,560\nweights\nsoftmax" in texts_of(axis)


def test_a_cnn_whose_layers_do_not_fit_is_refused():
    with pytest.raises(ValueError, match="cnn: a dense layer with 900 inputs cannot follow 800 outputs"):
        net_diagrams.cnn(np.zeros((28, 28, 1)), [(5, 5, 1, 24), (3, 3, 24, 32), (900, 256)])
