import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxnn.lab import style


def heights(axis):
    """Where the texts beside the axes stand, as shares of their height."""
    return [text.xy[1] for text in axis.texts]


def drawn(axis):
    axis.figure.savefig(io.BytesIO(), format="png")
    return axis


def test_panels_are_as_wide_as_a_page_together():
    figure, axes = style.make_panels(3, height=2.0, num_columns=2)
    assert figure.get_size_inches().tolist() == [style.WIDTH, 4]
    assert [axis.get_visible() for axis in figure.axes] == [True, True, True, False]
    assert len(axes) == 3


def ends(**heights):
    return [(name, 1.0, height, "red") for name, height in heights.items()]


def test_labels_stand_at_the_ends_of_their_lines_but_never_on_each_other():
    axis = Figure(dpi=100).add_axes((0, 0, 1, 1))
    axis.set(ylim=(0, 10))
    inches = axis.bbox.height / 100
    style.label_lines(axis, ends(a=5.0, b=5.1, c=2.0, d=99.0, e=9.9), gap=0.1 * inches)
    assert [text.get_text() for text in axis.texts] == ["c", "a", "b", "e", "d"]
    np.testing.assert_allclose(heights(axis), [0.2, 0.5, 0.6, 0.9, 1])  # those above move down


@pytest.mark.parametrize(
    ("limits", "ticks"), [((0.2, 30), ["0.2", "0.5", "1", "2", "5", "10", "20"]), ((2, 9), ["2", "4", "6", "8"])]
)
def test_short_logarithmic_axes_have_plain_numbers(limits, ticks):
    axis = Figure().subplots()
    axis.set(yscale="log", ylim=limits)
    style.plain_ticks(axis.yaxis)
    drawn(axis)
    shown = zip(axis.get_yticks(), axis.get_yticklabels(), strict=True)
    assert [label.get_text() for value, label in shown if limits[0] <= value <= limits[1]] == ticks


def test_shares_are_shown_in_percent():
    axis = Figure().subplots()
    axis.set(xlim=(0, 1), xticks=[0, 0.5, 1])
    style.percent(axis.xaxis)
    assert [label.get_text() for label in drawn(axis).get_xticklabels()] == ["0%", "50%", "100%"]


def test_marks_go_through_the_axes():
    axis = Figure().subplots()
    style.mark(axis, "here", x=0.25)
    style.mark(axis, "there", y=0.75)
    assert axis.lines[0].get_xdata() == [0.25, 0.25]
    assert axis.lines[1].get_ydata() == [0.75, 0.75]
    assert [text.get_text() for text in axis.texts] == ["here", "there"]
