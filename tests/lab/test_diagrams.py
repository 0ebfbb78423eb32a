import io

import numpy as np
import pytest
import scipy.signal

from jaxnn.lab import diagrams, style

RNG = np.random.default_rng(0)
NAMES = ["a", "b", "c"]


def draws(figure):
    """The figure can be drawn: its axes."""
    figure.savefig(io.BytesIO(), format="png")
    return figure.axes


def test_predictions_marks_the_most_probable_class():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.0, 1.0, 0.0]])
    pictures = [np.zeros((20, 30)), np.zeros((9, 9)), np.ones((5, 5))]
    figure = diagrams.predictions(pictures, np.zeros((3, 28, 28, 1)), probabilities, ["a.png", "$^$.png"], NAMES)
    shown = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in shown] == ["a.png", "a: 70.0%", "$^$.png", "c: 80.0%"]
    assert [bar.get_height() for bar in shown[3].patches] == [0.1, 0.1, 0.8]
    draws(figure)


def test_paths_lie_over_their_function():
    x1, x2 = np.meshgrid(np.linspace(-1, 1, 11), np.linspace(-2, 2, 11))
    line = np.array([[1.0, 2.0], [0.5, 1.0], [0.0, 0.0]])
    (axis,) = draws(diagrams.paths(x1, x2, x1**2 + x2**2 + 0.1, {"sgd": line}, minimum=(0, 0)))
    np.testing.assert_array_equal(axis.lines[0].get_xydata(), line)
    assert axis.get_legend_handles_labels()[1] == ["sgd", "minimum"]
    assert (axis.get_xlim(), axis.get_ylim()) == ((-1, 1), (-2, 2))


def test_sure_outcomes_are_the_corners_of_the_simplex():
    probs = np.concatenate([np.eye(3), RNG.dirichlet(np.ones(3), 20)])
    figure = diagrams.simplex(probs, {"entropy": probs[:, 0]}, unit="bits", mark=np.array([0.0, 1.0, 0.0]))
    axis = draws(figure)[0]
    np.testing.assert_allclose(axis.lines[0].get_xydata(), [[1, 0]])
    assert [text.get_position() for text in axis.texts] == [(0, 0), (1, 0), (0.5, pytest.approx(3**0.5 / 2))]


def test_points_lie_beside_a_line_of_a_slope():
    (axis,) = draws(diagrams.points({"shrinkage": (np.array([-1.0, 3.0]), np.array([0.0, 1.0]), 0.5)}))
    np.testing.assert_array_equal(axis.lines[0].get_xydata(), [[-1, -0.5], [3, 1.5]])
    np.testing.assert_array_equal(axis.collections[0].get_offsets(), [[-1, 0], [3, 1]])


def test_classes_stand_at_their_medians():
    spots = np.array([[0.0, 0.0], [2.0, 2.0], [5.0, 1.0]])
    (axis,) = draws(diagrams.classes({"plane": spots}, [0, 0, 2], NAMES))
    np.testing.assert_array_equal(axis.lines[0].get_xydata(), spots[:2])
    assert [line.get_marker() for line in axis.lines] == ["$a$", "$c$"]
    assert [(text.get_text(), text.get_position()) for text in axis.texts] == [("a", (1, 1)), ("c", (5, 1))]


def test_heatmaps_mark_the_lowest_finite_value():
    values = np.array([[1.0, np.nan], [np.inf, 0.5], [2.0, 100.0]])
    figure = diagrams.heatmaps(
        {"loss": values}, rows=("size", np.array([1, 2, 3])), columns=("rate", np.array([0.1, 0.01]))
    )
    axis = draws(figure)[0]
    assert axis.lines[0].get_xydata().tolist() == [[1, 1]]
    assert axis.images[0].get_clim() == (0.5, 5)
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1e-01", "1e-02"]


def test_tables_write_mean_and_standard_deviation():
    panels = {"a": np.array([[[0.25, 0.75]], [[1.0, 1.0]]])}
    axis = draws(diagrams.tables(panels, rows=["x", "y"], columns=["1"]))[0]
    assert [text.get_text() for text in axis.texts] == ["0.50\n± 0.35", "1.00\n± 0.00"]
    (axis, _) = draws(diagrams.tables({"a": np.array([[[0.25]]])}, rows=["x"], columns=["1"]))
    assert [text.get_text() for text in axis.texts] == ["0.25"]


def test_the_shaded_area_is_the_convolution_at_its_place():
    t = np.linspace(-3, 3, 1201)
    box, ramp = (np.abs(t) < 0.5).astype(float), np.where((t > 0) & (t < 1), t, 0)
    triangle = np.maximum(1 - np.abs(t), 0)
    figure = diagrams.sliding(t, {"boxes": (box, box, triangle), "ramp": (box, ramp, t)}, places=(-0.75, 0.0))
    axes = np.reshape(draws(figure), (3, 2))
    assert [axis.get_title() for axis in axes[:2, 0]] == [
        "boxes\n\nt = -0.75: shaded area 0.25",
        "t = 0: shaded area 1.00",
    ]
    np.testing.assert_allclose(axes[2, 0].lines[1].get_xydata(), [[-0.75, 0.25], [0, 1]], atol=0.006)
    turned = axes[0, 1].lines[1].get_ydata()
    np.testing.assert_allclose(turned, np.interp(-0.75 - t, t, ramp), atol=1e-12)


def test_frames_are_what_each_mode_keeps():
    picture, kernel = RNG.normal(size=(6, 7)), RNG.normal(size=(3, 5))
    full = scipy.signal.convolve2d(picture, kernel)
    axis = draws(diagrams.modes(picture, kernel, {"convolution": full}))[2]
    for frame, mode in zip(axis.patches, ("full", "same", "valid"), strict=True):
        (x, y), width, height = frame.get_xy(), frame.get_width(), frame.get_height()
        np.testing.assert_array_equal(
            full[y : y + height, x : x + width], scipy.signal.convolve2d(picture, kernel, mode)
        )
        assert frame.get_label().startswith(f"{mode}, {height} × {width}: ")


def test_classified_says_what_a_mistake_was_taken_for():
    probs = np.array([[0.75, 0.25, 0.0], [0.5, 0.125, 0.375], [0.0, 0.0, 1.0]])
    labels = np.array([0, 2, 2])
    (axis,) = draws(diagrams.classified(RNG.uniform(size=(3, 4, 4, 1)), labels, probs, NAMES, worst=False))
    assert [text.get_text() for text in axis.texts] == ["a", "c\nas a\n37.5%", "c"]
    assert [text.get_color() for text in axis.texts] == ["black", style.RED, "black"]


def test_classified_shows_the_worst_mistakes_first():
    labels = np.arange(70) % 3
    probs = np.eye(3)[labels] * 0.9 + 0.03
    probs[20:40] = np.roll(probs[20:40], 1, axis=1)  # mistakes
    probs[33] = np.roll([0.98, 0.01, 0.01], labels[33] + 1)
    for worst, number, wrong in ((True, 30, 20), (False, 60, 10)):
        (axis,) = draws(diagrams.classified(RNG.uniform(size=(70, 4, 4, 1)), labels, probs, NAMES, worst=worst))
        colours = [text.get_color() for text in axis.texts]
        assert (len(colours), colours.count(style.RED)) == (number, wrong)
        assert axis.texts[0].get_text().endswith("1.0%") == worst
