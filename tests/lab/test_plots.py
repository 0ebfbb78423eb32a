import io

import numpy as np
import pytest
from matplotlib.colors import to_hex

from jaxnn.lab import plots, style

RNG = np.random.default_rng(0)


def draws(figure):
    """The figure can be drawn: its axes."""
    figure.savefig(io.BytesIO(), format="png")
    return figure.axes


def test_image_grid_shows_every_image_with_its_title():
    images = RNG.uniform(size=(7, 4, 4, 1))
    wrong = [index == 2 for index in range(7)]
    (axis,) = draws(plots.image_grid(images, list("abcdefg"), num_columns=3, wrong=wrong, heading="letters"))
    *titles, heading = axis.texts
    assert [text.get_text() for text in titles] == list("abcdefg")
    assert [text.get_color() for text in titles[:4]] == ["black", "black", style.RED, "black"]
    for shown, image, text in zip(axis.images, images, titles, strict=True):
        np.testing.assert_array_equal(shown.get_array(), image[..., 0])
        left, right, bottom, top = shown.get_extent()
        x, y = text.get_position()
        assert left < x < right
        assert bottom < top < y
    lefts, _, bottoms, _ = np.transpose([shown.get_extent() for shown in axis.images])
    np.testing.assert_allclose(np.diff(lefts[:3]), 1)
    np.testing.assert_allclose(lefts[3:6], lefts[:3])
    assert heading.get_text() == "letters"
    assert all(heading.get_position()[1] > title.get_position()[1] + 0.2 for title in titles)
    assert (np.diff(bottoms) <= 0).all()
    assert len(set(bottoms)) == 3


def test_image_grid_of_any_sizes_with_0_in_the_middle_of_the_colours():
    (axis,) = draws(plots.image_grid([np.array([[-3.0, 1.0]]), np.ones((5, 5, 1))], ["a", "b"], signed=True))
    assert [shown.get_clim() for shown in axis.images] == [(-3, 3), (-1, 1)]
    extents = [np.diff(shown.get_extent())[[0, 2]] for shown in axis.images]  # width and height
    np.testing.assert_allclose(extents, [[0.94, 0.47], [0.94, 0.94]])


def test_image_grid_has_words_among_its_images_and_a_frame_round_each():
    images = ["row", RNG.uniform(size=(3, 3)), "", RNG.normal(size=(3, 3))]
    figure = plots.image_grid(
        images, ["", "a"], num_columns=2, signed=[False, False, False, True], heading="two", size=9.0
    )
    (axis,) = draws(figure)
    assert figure.get_figwidth() == 9
    assert [text.get_text() for text in axis.texts if text.get_text()] == ["row", "a", "two"]
    assert [image.get_cmap().name for image in axis.images] == ["gray_r", "RdBu_r"]
    for image, frame in zip(axis.images, axis.patches, strict=True):
        np.testing.assert_allclose(np.reshape(image.get_extent(), (2, 2)).T, frame.get_bbox().get_points())
    lows = [image.get_extent()[2] for image in axis.images]
    assert lows[0] - lows[1] == pytest.approx(4.55)  # the second row has no titles


def test_lines_of_several_runs_show_their_mean_and_standard_deviation():
    runs = np.array([[1.0, 2.0, np.nan], [3.0, 6.0, 5.0]])
    (axis,) = draws(plots.lines({"loss": {"net": (np.arange(3), runs), "other": (np.arange(3), runs[1])}}))
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), [2, 4, 5])
    (band,) = axis.collections
    assert np.isclose(band.get_paths()[0].vertices[:, 1].max(), 4 + np.sqrt(8))


def test_lines_have_gaps_where_runs_have_ended():
    runs = np.array([[1.0, 2.0, np.nan, np.nan], [3.0, 4.0, 5.0, np.nan]])
    for all_runs, expected in ((False, [2, 3, 5, np.nan]), (True, [2, 3, np.nan, np.nan])):
        (axis,) = draws(plots.lines({"loss": {"": (np.arange(4), runs)}}, all_runs=all_runs))
        np.testing.assert_array_equal(np.ma.filled(axis.lines[0].get_ydata(), np.nan), expected)


def test_rows_of_a_log_become_curves():
    rows = [
        {"seed": 4, "step": 10, "loss": 1.0, "kind": "b"},
        {"seed": 3, "step": 20, "loss": None, "kind": "b"},
        {"seed": 3, "step": 10, "loss": 2.0, "kind": "b"},
        {"seed": 3, "step": 5, "loss": 0.5, "kind": "a"},
    ]
    steps, losses = plots.by_seed(rows[:3], "step", "loss")
    np.testing.assert_array_equal(steps, [10, 20])
    np.testing.assert_array_equal(losses, [[2, np.nan], [1, np.nan]])
    curves = plots.by_kind(rows, "kind", "step", "loss")
    assert list(curves) == ["b", "a"]
    np.testing.assert_array_equal(curves["b"][1], losses)
    assert [array.tolist() for array in curves["a"]] == [[5], [[0.5]]]


def test_lines_without_a_value_above_0_are_drawn_without_a_logarithm():
    (axis,) = draws(plots.lines({"loss": {"net": (np.arange(1.0, 3.0), np.full(2, np.nan))}}, log="xy"))
    assert axis.get_yscale() == "linear"


def test_labels_stand_beside_their_lines_or_once_below_where_all_panels_have_the_same():
    lines = {"low": (np.arange(3), np.zeros(3)), "high": (np.arange(3), np.ones(3))}
    (axis,) = draws(plots.lines({"one": lines}))
    assert [(text.get_text(), text.get_color()) for text in axis.texts] == [
        ("low", to_hex(axis.lines[0].get_color())),
        ("high", to_hex(axis.lines[1].get_color())),
    ]
    figure = plots.lines({"one": lines, "two": lines}, ylabel=("loss", "error"))
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss", "error"]
    assert not figure.axes[0].texts
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["low", "high"]


def test_the_lines_of_the_other_panels_lie_behind_in_grey():
    panels = {name: {name: (np.arange(3), np.full(3, value))} for value, name in enumerate("abc")}
    axis = draws(plots.lines(panels, behind=True))[1]
    assert [line.get_ydata()[0] for line in axis.lines] == [0, 1, 2, 1]
    assert [line.get_color() == style.GREY for line in axis.lines] == [True, True, True, False]


def test_an_x_that_falls_is_drawn_from_high_to_low():
    x = np.array([100.0, 10.0, 1.0])
    (axis,) = draws(plots.lines({"": {"a": (x, x), "b": (x, -x)}}, log="x"))
    assert axis.get_xlim()[0] > axis.get_xlim()[1]


def test_a_boundary_is_drawn_at_its_level():
    x1, x2 = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9))
    shown = {"name": "height", "points": np.array([[0.0, 1.0]]), "labels": [1], "class_names": ("no", "yes")}
    figure = plots.boundary(x1, x2, x1, level=0.5, **shown)
    axis, bar = draws(figure)
    (line,) = [one for one in axis.collections if list(getattr(one, "levels", [])) == [0.5]]
    np.testing.assert_allclose(line.get_paths()[0].vertices[:, 0], 0.5)
    np.testing.assert_array_equal(axis.collections[-1].get_offsets(), [[0, 1]])
    assert bar.get_ylabel() == "height"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["height = 0.5", "no", "yes"]


def test_points_have_classes_by_number_where_these_have_no_names():
    x1, x2 = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9))
    points, labels = np.linspace(-1, 1, 20).reshape(10, 2), np.arange(10)
    figure = plots.boundary(x1, x2, x1, points=points, labels=labels)
    drawn = [one.get_offsets() for one in draws(figure)[0].collections[-10:]]
    np.testing.assert_allclose(np.concatenate(drawn), points)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"class {label}" for label in labels]


def test_spread_shows_each_value_and_the_median():
    columns = {"a": np.array([1.0, 2.0, 9.0]), "b": np.array([4.0, 5.0, 6.0])}
    (axis,) = draws(plots.spread({"errors": columns}, ylabel="error", marks={"other": {"errors": [3.0, None]}}))
    assert [line.get_ydata().tolist() for line in axis.lines[1:4:2]] == [[2, 2], [5, 5]]
    assert axis.get_legend_handles_labels()[1] == ["one net", "median", "other"]


def test_confusion_writes_the_counts_and_colours_the_errors():
    matrix = np.array([[5, 1], [0, 6]])
    axis = draws(plots.confusion(matrix, ["no", "yes"]))[0]
    assert sorted(text.get_text() for text in axis.texts) == ["1", "5", "6"]
    assert np.isnan(axis.images[0].get_array().filled(np.nan)).tolist() == [[True, False], [False, True]]
    assert (axis.get_ylabel(), axis.get_xlabel()) == ("label", "prediction")


def test_confusion_without_errors():
    draws(plots.confusion(np.eye(3, dtype=int), ["a", "b", "c"]))


X1, X2 = np.meshgrid(np.linspace(-2, 2, 81), np.linspace(-2, 2, 81))


@pytest.mark.parametrize(
    ("values", "level", "bend"),
    [
        (X1**2 + X2**2, 1.0, 1.0),  # a circle is nowhere farther from a line through its centre than its radius
        (X1, 5.0, None),
    ],
)
def test_the_bend_of_a_level_line(values, level, bend):
    assert plots.level_bend(X1, X2, values, level=level) == (bend and pytest.approx(bend, abs=0.01))


def test_a_straight_line_has_no_bend():
    assert plots.level_bend(X1, X2, X1 + 2 * X2, level=0.5) < 1e-12
