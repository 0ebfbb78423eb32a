import pytest


def test_by_hand_and_by_jax_grad_are_the_same(toy_run):
    toy = toy_run("backpropagation")
    assert toy.summary["gradient_difference"] == pytest.approx(0, abs=1e-10)
    assert toy.summary["training_difference"] == pytest.approx(0, abs=1e-10)
    assert toy.summary["loss_at_end"] < toy.summary["loss_at_start"]
    assert len(toy.rows) == 4 * 2 * 2  # activation functions, depths, losses
    assert toy.summary["gradient_difference"] == max(row["largest_difference"] for row in toy.rows)
