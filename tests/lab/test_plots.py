import io

import numpy as np
import pytest

from jaxnn.lab import plots, style

RNG = np.random.default_rng(0)


def draws(figure):
    """The figure can be drawn: its axes."""
    figure.savefig(io.BytesIO(), format="png")
    return figure.axes


def test_image_grid_shows_every_image_with_its_title():
    images = RNG.uniform(size=(7, 4, 4, 1))
    wrong = [index == 2 for index in range(7)]
    (axis,) = draws(plots.image_grid(images, list("abcdefg"), num_columns=3, wrong=wrong))
    assert [text.get_text() for text in axis.texts] == list("abcdefg")
    assert [text.get_color() for text in axis.texts[:4]] == ["black", "black", style.RED, "black"]
    for shown, image, text in zip(axis.images, images, axis.texts, strict=True):
        np.testing.assert_array_equal(shown.get_array(), image[..., 0])
        left, right, bottom, top = shown.get_extent()
        x, y = text.get_position()
        assert left < x < right
        assert bottom < top < y
    lefts, _, bottoms, _ = np.transpose([shown.get_extent() for shown in axis.images])
    np.testing.assert_allclose(np.diff(lefts[:3]), 1)
    np.testing.assert_allclose(lefts[3:6], lefts[:3])
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


def test_a_surface_stands_over_its_path():
    x1, x2 = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9))
    flat = plots.Surface("plane", x1, x2, 0 * x1)
    path = np.array([[1.0, 1.0], [0.0, 0.0]])
    panel = plots.Surface("bowl", x1, x2, x1**2, path, path, flat, np.array([[0.5, 0.5, 4.0]]), limits=(0.0, 2.0))
    bowl, plane = draws(plots.surfaces([panel, flat]))
    assert [axis.get_title() for axis in (bowl, plane)] == ["bowl", "plane"]
    np.testing.assert_allclose(bowl.get_zlim(), [-1, 2], atol=0.1)
    assert len(bowl.lines) == 2
    assert not plane.lines


def test_over_grid_needs_one_number_for_each_place():
    with pytest.raises(ValueError, match=r"f must make one number of a vector \[2\], not an array \[2\]"):
        plots.over_grid(lambda x: 2 * x, (0, 1), (0, 1), resolution=3)


def test_a_boundary_is_drawn_at_its_level():
    x1, x2 = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9))
    axis = draws(plots.boundary(x1, x2, x1, level=0.5, points=np.array([[0.0, 1.0]]), labels=[1]))[0]
    (line,) = [one for one in axis.collections if list(getattr(one, "levels", [])) == [0.5]]
    np.testing.assert_allclose(line.get_paths()[0].vertices[:, 0], 0.5)
    np.testing.assert_array_equal(axis.collections[-1].get_offsets(), [[0, 1]])


def test_spread_shows_each_value_and_the_median():
    columns = {"a": np.array([1.0, 2.0, 9.0]), "b": np.array([4.0, 5.0, 6.0])}
    (axis,) = draws(plots.spread({"errors": columns}, ylabel="error", marks={"other": {"errors": [3.0, None]}}))
    assert [line.get_ydata().tolist() for line in axis.lines[1:4:2]] == [[2, 2], [5, 5]]
    assert axis.get_legend_handles_labels()[1] == ["median", "other"]


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
