import io

import numpy as np

from jaxnn.lab import contours

X1, X2 = np.meshgrid(np.linspace(-1, 1, 11), np.linspace(-2, 2, 11))


def draws(figure):
    """The figure can be drawn: its axes."""
    figure.savefig(io.BytesIO(), format="png")
    return figure.axes


def test_paths_lie_over_their_function_and_the_note_beside_them():
    line = np.array([[1.0, 2.0], [0.5, 1.0], [0.0, 0.0]])
    lines = {"sgd": line, "none": np.zeros((0, 2))}
    first, second, note = draws(contours.paths(X1, X2, X1**2 + X2**2, lines, minimum=(0, 0), note="so it is."))
    assert [axis.get_title() for axis in (first, second)] == ["sgd", "none"]
    path, start, minimum = (one.get_xydata() for one in first.lines)
    np.testing.assert_array_equal(path, line)
    np.testing.assert_array_equal([start, minimum], [line[:1], [[0, 0]]])
    assert (first.get_xlim(), first.get_ylim()) == ((-1, 1), (-2, 2))
    assert [text.get_text() for text in note.texts] == ["so it is.\n\nRing: start. Cross: minimum."]


def test_basins_are_the_regions_that_lead_to_each_minimum():
    minima = np.array([[-0.5, 0.0], [0.5, 0.0]])
    ends = np.where(X1.reshape(-1, 1) < 0, *minima) + 1e-6
    line = np.array([[1.0, 1.0], [0.5, 0.0]])
    (axis,) = draws(contours.basins(X1, X2, X1**2, ends, minima, np.array([-2.0, -1.0]), line[None]))
    np.testing.assert_array_equal(axis.collections[0].get_array(), X1 >= 0)
    assert [text.get_text() for text in axis.texts] == ["$f = -2.0$\nthe deepest", "$f = -1.0$"]
    assert axis.lines[0].get_xydata().tolist() == line.tolist()
