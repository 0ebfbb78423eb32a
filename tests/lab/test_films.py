import io

import numpy as np

from jaxnn.lab import films

RNG = np.random.default_rng(0)
X1, X2 = np.meshgrid(np.linspace(-2, 2, 9), np.linspace(-2, 2, 9))
STEPS = (0, 5, 1000)


def watch(figures, see):
    """The titles of the frames, and what `see(axes)` sees in each; no axes move."""
    titles, seen, places = [], [], []
    for figure in figures:
        figure.savefig(io.BytesIO(), format="png")
        titles.append(figure.get_suptitle())
        places.append([axis.get_position().bounds for axis in figure.axes])
        seen.append(see(figure.axes))
    assert all(place == places[0] for place in places)
    return titles, seen


def test_descents_grow_step_by_step():
    paths = {"a": np.array([[2.0, 2.0], [1.0, 1.0], [0.0, 0.5]]), "b": np.array([[2.0, 2.0], [1.5, 1.0], [0.0, 0.0]])}
    figures = films.descents(lambda x: x[0] ** 2 + x[1] ** 2 + 0.25, paths, formula="f", closing="The end")
    titles, seen = watch(figures, lambda axes: [line.get_xydata().tolist() for axis in axes for line in axis.lines])
    assert titles == ["Step 0: a is lowest", "Step 1: a is lowest", "The end"]
    assert seen[1][0] == [[2, 2], [1, 1]]  # the trail of a
    assert seen[1][1] == [[1, 1]]  # where it is
    assert seen[2][-1] == [[0, 8.25], [1, 3.5], [2, 0.25]]  # how high b is


def test_a_kernel_makes_one_pixel_after_the_other():
    image, kernel = RNG.uniform(size=(4, 5)), RNG.normal(size=(2, 2))
    result = np.array([[(image[i : i + 2, j : j + 2] * kernel).sum() for j in range(4)] for i in range(3)])
    figures = films.sliding_kernel(image, kernel, result)
    titles, seen = watch(figures, lambda axes: [np.ma.copy(axis.images[0].get_array()) for axis in axes])
    assert len(titles) == 12
    assert titles[6] == f"The 4 products add up to {result[1, 2]:.1f}"
    covered, made = ([frame[place] for frame in seen] for place in (1, 2))
    np.testing.assert_array_equal(covered[6], image[1:3, 2:4])
    assert made[6].count() == 7
    np.testing.assert_allclose(made[-1], result)


def test_fits_say_how_far_they_are_off():
    functions = {"f": X1, "g": X2}
    nets = {3: {"f": np.stack([X1 + 1, X1 + 0.1, X1]), "g": np.stack([X2, X2, X2 + 2])}}
    titles, seen = watch(
        films.growing_fits(functions, nets, STEPS),
        lambda axes: [(axis.get_title(), axis.get_xlabel(), axis.images[0].get_array().max()) for axis in axes],
    )
    assert titles[2].endswith("update 1,000")
    assert seen[1][:2] == [("the function", "f", 2), ("3 neurons", "error 0.01", 2.1)]
    assert seen[2][3] == ("", "error 4", 4)


def test_a_boundary_lies_where_the_net_is_undecided():
    probs = np.stack([1 / (1 + np.exp(-X1 + place)) for place in (-1, 0, 1)])
    figures = films.growing_boundary(X1[0], probs, np.eye(2), [0, 1], [0.5, 0.75, 1], STEPS)
    titles, seen = watch(figures, lambda axes: axes[0].collections[-1].get_paths()[0].vertices[:, 0])
    assert titles[1] == "Step 5: 75% of the points are on their side"
    for place, line in zip((-1, 0, 1), seen, strict=True):
        np.testing.assert_allclose(line, place, atol=0.01)


def test_kernels_and_maps_stand_side_by_side():
    kernels, maps = RNG.normal(size=(3, 2, 2, 12)), RNG.normal(size=(3, 16, 16, 12))
    figures = films.learning_kernels(kernels, np.zeros((17, 17)), maps, [0.1, 0.5, 0.75], STEPS)
    titles, seen = watch(figures, lambda axes: [np.ma.filled(axis.images[0].get_array(), 7) for axis in axes])
    assert titles[1] == "Step 5: the net reads 50% of other digits"
    np.testing.assert_array_equal(seen[1][1][3:5, 6:8], kernels[1, :, :, 8])  # the third of the second row
    np.testing.assert_array_equal(seen[2][2][18:34, 36:52], maps[2, :, :, 8])
    assert (seen[1][1][2] == 7).all()  # the gap


def test_layers_whose_gradient_vanishes_are_marked():
    norms = {"a": np.array([[1e-9, 1e-4, 1.0], [1e-2, 1e-2, 1.0], [1.0, 1.0, 1.0]]), "b": np.ones((3, 3))}
    accuracies = {"a": np.array([0.1, 0.2, 0.3]), "b": np.array([0.9, 0.9, 0.95])}
    titles, seen = watch(
        films.layer_gradients(norms, accuracies, STEPS),
        lambda axes: [
            (axis.get_title(), axis.texts[0].get_text(), [bar.get_facecolor() for bar in axis.patches]) for axis in axes
        ],
    )
    assert titles[2].startswith("Step 1,000: ")
    assert seen[0][0][:2] == ("a: reads 10%", "vanished in 2 of 3 layers")
    assert seen[0][0][2][0] == seen[0][0][2][1] != seen[0][0][2][2] == seen[0][1][2][0]
    assert seen[1][0][:2] == ("a: reads 20%", "")
