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
    for axis, (name, values) in zip(
        draws(curves.race(np.array([10, 20]), losses, target=0.75)), losses.items(), strict=True
    ):
        assert axis.get_title() == name
        np.testing.assert_array_equal(axis.lines[2].get_ydata(), values[0])
        assert axis.lines[-1].get_ydata()[0] == 0.75


def test_early_stopping_marks_where_nets_stop():
    epochs, losses = np.array([5, 10, 15]), np.array([[3.0, 2.0, np.nan], [3.0, 4.0, 5.0]])
    free, stopped = draws(
        curves.early_stopping({"none": (epochs, losses[1:], losses[1:]), "stop": (epochs, losses, losses)})
    )
    assert free.lines[-1].get_xydata().tolist() == []
    assert stopped.lines[-1].get_xydata().tolist() == [[10, 2]]
