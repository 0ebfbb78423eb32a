import io

import matplotlib.colors
import numpy as np
import pytest
from mpl_toolkits.mplot3d.art3d import Path3DCollection, Poly3DCollection

from jaxnn.lab import surfaces

X1, X2 = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9))
BOWL = surfaces.Surface("bowl", X1, X2, X1**2 + X2**2)


def draws(figure):
    """The figure can be drawn: its axes."""
    figure.savefig(io.BytesIO(), format="png")
    return figure.axes


def test_a_surface_is_in_front_of_its_floor_and_has_ticks_at_its_own_heights():
    path = np.array([[1.0, 1.0], [0.0, 0.0]])
    panel = BOWL._replace(path=path, arrow=("w", path), limits=(0.0, 4.0))
    (axis,) = draws(surfaces.surfaces([panel]))
    assert axis.get_title() == "bowl"
    assert axis.get_zlim() == pytest.approx((-2.4, 4))
    assert min(axis.get_zticks()) == 0
    assert [text.get_text().strip() for text in axis.texts] == ["$y$", "start", "end", "w"]
    contour, head, *faces = axis.collections
    assert sum(len(one.get_facecolor()) for one in faces) == 8 * 8
    on_floor = [one for one in axis.lines if np.all(one.get_data_3d()[2] == axis.get_zlim()[0])]
    assert len(on_floor) == 4  # path, start, end, shaft
    assert max(one.zorder for one in [contour, head, *on_floor]) < min(one.zorder for one in faces)


def test_points_behind_the_surface_are_drawn_before_it():
    points = np.array([[0.0, 0.9, -0.5], [0.0, -0.9, 1.5], [0.0, 0.5, 0.25]])  # under, before and on it
    np.testing.assert_array_equal(surfaces.is_hidden(BOWL, points, (-1.0, 2.0)), [True, False, False])
    (axis,) = draws(surfaces.surfaces([BOWL._replace(points=points)]))
    behind, in_front = (one for one in axis.collections if isinstance(one, Path3DCollection))
    assert [len(one.get_offsets()) for one in (behind, in_front)] == [1, 2]
    seen = max(one.zorder for one in axis.collections if isinstance(one, Poly3DCollection))
    assert behind.zorder < seen < in_front.zorder


def test_a_spot_under_the_surface_is_linked_to_it():
    (axis,) = draws(surfaces.surfaces([BOWL._replace(spot=np.array([0.0, 0.5]))]))
    (x1, x2, heights) = axis.lines[-1].get_data_3d()
    np.testing.assert_allclose([x1[0], x2[0], heights[0]], [0, 0.5, 0.25])


def test_a_tangent_plane_touches_its_function():
    plane = surfaces.tangent_plane(lambda x: 4 * x[0] ** 2 + x[1] ** 2, np.array([-1.0, 2.0]), half_width=1.0)
    np.testing.assert_allclose(plane[2], 8 - 8 * (plane[0] + 1) + 4 * (plane[1] - 2), atol=1e-5)
    (axis,) = draws(surfaces.surfaces([BOWL._replace(plane=plane)]))
    assert axis.get_zlim()[1] == pytest.approx(20, abs=1e-5)
    faces = [len(one.get_facecolor()) for one in axis.collections if isinstance(one, Poly3DCollection)]
    assert sum(faces) == 8 * 8 + 60 * 60


def test_fits_share_the_scale_of_their_function_and_show_their_errors():
    values, points = np.stack([X1, X1 * 3]), np.zeros((2, 5, 3))
    nets = {"3 neurons": (values.reshape(2, -1, 1), points, np.array([0.5, 2e-5]))}
    axes = draws(surfaces.fits(X1, X2, {"x1**2": X1, "x1": 2 * X1}, nets))
    titles = [axis.get_title() for axis in axes]
    assert titles == ["$x_{1}^{2}$", "3 neurons, error $0.5$", "$x_{1}$", r"3 neurons, error $2 \cdot 10^{-5}$"]
    heights = [(-2.2, 1)] * 2 + [(-6.6, 3)] * 2
    np.testing.assert_allclose([axis.get_zlim() for axis in axes], heights)


def test_units_and_sum_show_the_net_with_its_weights():
    params = [{"weight": np.array([[1.0, -2.0], [3.0, 0.5]]), "bias": np.array([0.25, -1.0])}]
    params.append({"weight": np.array([[4.0], [-5.0]]), "bias": np.zeros(1)})
    figure = surfaces.units_and_sum(BOWL, [BOWL, BOWL], params)
    total, net, *units = draws(figure)
    assert len(units) == 2
    assert (figure.get_suptitle(), total.get_title()) == ("bowl", "")
    colours = {text.get_text(): text.get_color() for text in net.texts}
    blue, red = (matplotlib.colors.to_hex(colours[weight]).upper() for weight in ("−5", "+3"))
    assert (blue, red) == (surfaces.style.BLUE, surfaces.style.RED)
    assert {"+1", "−2", "+3", "+0.5", "+4", "−5", "+0.25", "−1", "$x_1$", "$x_2$", "$y$"} <= set(colours)


def test_over_grid_needs_one_number_for_each_place():
    with pytest.raises(ValueError, match=r"f must make one number of a vector \[2\], not an array \[2\]"):
        surfaces.over_grid(lambda x: 2 * x, (0, 1), (0, 1), resolution=3)
