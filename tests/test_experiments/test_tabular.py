import jax
import jax.numpy as jnp
import pytest

from experiments import tabular
from jaxnn.types import Batch


@pytest.fixture(scope="module")
def toy(toy_run):
    return toy_run("tabular")


def test_keeps_the_contract(toy):
    assert toy.summary["iris_sklearn_accuracy"] > 0.9
    assert toy.summary["iris_accuracy"] > 0.7  # after so few steps
    assert len(toy.rows) == 6


@pytest.mark.full
def test_resumes_bit_for_bit(toy, resumes_bit_for_bit):
    resumes_bit_for_bit("tabular", toy)


def test_takes_no_number_from_a_net_that_has_diverged():
    task, config = tabular.TASKS["diabetes"], tabular.Config(num_steps=40)
    examples = Batch(*(jnp.asarray(array, jnp.float32) for array in task.load()))
    mask = jnp.ones(len(examples.inputs), bool)
    for rate, diverges in ((0.01, False), (1e4, True)):
        outputs = tabular.train_net(jax.random.key(0), examples, mask, task, config, learning_rate=rate, l2=0.0)
        assert jnp.isnan(outputs).all() == diverges
