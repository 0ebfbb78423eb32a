import io

import numpy as np

from jaxnn.lab import curves


def draws(figure):
    """The figure can be drawn: its axes."""
    figure.savefig(io.BytesIO(), format="png")
    return figure.axes


def test_learning_curves_show_errors_in_percent_and_what_the_loss_cannot_go_below():
    rows = [
        {"seed": 0, "step": step, "train_loss": 1 / step, "train_accuracy": 0.9, "validation_accuracy": 1 - 0.01 * step}
        for step in (10, 20)
    ]
    errors, loss = draws(curves.learning_curves(rows, lowest_loss=0.04))
    np.testing.assert_allclose([line.get_ydata() for line in errors.lines], [[10, 10], [10, 20]])
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [0.1, 0.05])
    assert loss.lines[1].get_ydata()[0] == 0.04
    _, loss = draws(curves.learning_curves(rows, lowest_loss=0.0))
    assert len(loss.lines) == 1


def test_errors_of_each_kind_of_net():
    rows = [
        {"seed": 0, "epoch": 1, "recipe": recipe, "train_accuracy": 0.75, "validation_accuracy": accuracy}
        for recipe, accuracy in (("a", 0.5), ("b", 0.25))
    ]
    first, second = draws(curves.errors(rows, ["A", "B"], kind="recipe"))
    assert [axis.get_title() for axis in (first, second)] == ["A", "B"]
    assert [line.get_ydata().item() for line in first.lines[2:]] == [25, 50]
    assert [line.get_ydata().item() for line in second.lines] == [50, 75, 25, 75]  # two behind, then its own


def test_the_best_rates_are_marked():
    losses = {name: (np.array([0.1, 1.0]), np.array([[2.0, value]])) for name, value in (("sgd", 1.0), ("adam", 3.0))}
    axes = draws(curves.rates(losses, {"sgd": 1.0, "adam": 0.1}, heading="losses"))
    assert [axis.lines[-1].get_xdata()[0] for axis in axes] == [1, 0.1]
    assert [axis.texts[0].get_text() for axis in axes] == ["1", "0.1"]


def test_racers_run_to_the_target():
    losses = {"sgd": np.array([[2.0, 1.0]]), "adam": np.array([[1.0, 0.5]])}
    needed = {"sgd": np.nan, "adam": 15.0}
    axes = draws(curves.race(np.array([10, 20]), losses, needed, target=0.75))
    assert [axis.get_title() for axis in axes] == ["sgd", "adam: 15 steps"]
    for axis, values in zip(axes, losses.values(), strict=True):
        np.testing.assert_array_equal(axis.lines[2].get_ydata(), values[0])
        assert axis.lines[-1].get_ydata()[0] == 0.75


def test_early_stopping_marks_where_nets_stop():
    losses = {"no_limit": [[3.0, 4.0, 5.0]], "stop": [[3.0, 2.0, None], [3.0, 4.0, 5.0]]}
    rows = [
        {"kind": kind, "seed": seed, "epoch": epoch, "train_loss": loss, "validation_loss": loss}
        for kind, nets in losses.items()
        for seed, values in enumerate(nets)
        for epoch, loss in zip((5, 10, 15), values, strict=True)
    ]
    free, stopped = draws(curves.early_stopping(rows, kind="kind"))
    assert free.get_title() == "no limit"
    assert free.lines[-1].get_xydata().tolist() == []
    assert stopped.lines[-1].get_xydata().tolist() == [[10, 2]]


def test_gradients_lie_among_what_vanishes_and_what_explodes():
    layers = np.arange(1, 4)
    panels = {"net": {"small": (layers, np.full((2, 3), -9.0)), "large": (layers, np.full((2, 3), 5.0))}}
    (axis,) = draws(curves.gradients(panels))
    vanishing, exploding = (patch.get_bbox() for patch in axis.patches)
    assert vanishing.y0 < -9 < vanishing.y1 == -6
    assert exploding.y0 == 2 < 5 < exploding.y1
    assert {"vanishes", "explodes"} <= {text.get_text() for text in axis.texts}
    assert axis.yaxis.get_major_formatter()(10.0) == "$10^{10}$"


def test_what_layers_know_and_how_gradients_grow():
    layers = np.arange(1, 3)
    curve = {"tanh": (layers, np.array([[50.0, 40.0]])), "ReLU": (layers, np.array([[50.0, 10.0]]))}
    read, grown = draws(curves.batch_normalisation(curve, curve))
    assert read.lines[1].get_ydata().tolist() == [50, 10]
    assert read.get_ylim()[0] == 0
    assert grown.get_ylabel() == "largest weight gradient"
