import jax.numpy as jnp
import pytest

from experiments import load
from jaxnn import metrics
from jaxnn.lab import datasets


@pytest.fixture(scope="module")
def toy(toy_run):
    return toy_run("mnist_mlp")


def test_the_decks_net_and_a_modern_one_learn(toy):
    assert toy.summary["num_parameters"] == 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10
    assert toy.summary["modern_test_accuracy"] == pytest.approx(0.9, abs=0.05)  # of so few steps
    gain = toy.summary["modern_test_accuracy"] - toy.summary["relu_test_accuracy"]
    assert toy.summary["modern_minus_relu_test_accuracy"] == pytest.approx(gain)


@pytest.mark.full
def test_resumes_bit_for_bit(toy, resumes_bit_for_bit):
    resumes_bit_for_bit("mnist_mlp", toy)


@pytest.mark.parametrize("recipe", ["tanh", "modern"])
def test_the_nets_of_a_recipe_can_be_loaded(toy, recipe):
    _, model, _, _, net, _ = load(toy.folder, recipe, seed=4)
    validation = datasets.mnist().validation
    logits, _ = model.apply(net.params, net.state, jnp.asarray(validation.inputs[:400]))
    last = [row for row in toy.rows if (row["recipe"], row["seed"]) == (recipe, 4)][-1]
    assert metrics.accuracy(logits, validation.targets[:400]) == pytest.approx(last["validation_accuracy"], abs=2e-3)
