import pytest


@pytest.fixture(scope="module")
def toy(toy_run):
    return toy_run("mnist_mlp")


def test_the_decks_net_and_a_modern_one_learn(toy):
    assert toy.summary["num_parameters"] == 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10
    assert toy.summary["modern_test_accuracy"] == pytest.approx(0.9, abs=0.05)  # of so few steps
    gain = toy.summary["modern_test_accuracy"] - toy.summary["relu_test_accuracy"]
    assert toy.summary["modern_minus_relu_test_accuracy"] == pytest.approx(gain)


def test_resumes_bit_for_bit(toy, resumes_bit_for_bit):
    resumes_bit_for_bit("mnist_mlp", toy)
