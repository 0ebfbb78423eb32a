import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import batch_normalisation
from experiments.batch_normalisation import KINDS, Config, Kind, apply_net, init_net


def test_every_kind_of_net_is_looked_into(toy_run):
    toy = toy_run("batch_normalisation")
    assert {row["net"] for row in toy.rows} == {*KINDS}
    shares = [row["readable"][-1] for row in toy.rows if row["net"] == "ReLU"]
    assert toy.summary["relu_readable_5"] == pytest.approx(np.mean(shares))


def test_gradients_of_wide_relu_nets_grow_as_the_theory_says():
    config = Config(num_layers=20, hidden_size=400)
    params, inputs = init_net(config, jax.random.key(0), 50), jax.random.normal(jax.random.key(1), (200, 50))
    gradient = jax.grad(lambda params: jnp.sum(apply_net(KINDS["ReLU"], params, inputs)[0][:, 0] ** 2))(params)
    norms = jnp.linalg.norm(gradient["hidden"], axis=(1, 2))
    assert (norms[0] / norms[-1]) ** (1 / 18) == pytest.approx((np.pi / (np.pi - 1)) ** 0.5, abs=0.02)


def test_without_bends_nothing_is_forgotten():
    config = Config(num_layers=3, hidden_size=4)
    params, inputs = init_net(config, jax.random.key(0), 4), jax.random.normal(jax.random.key(1), (50, 4))
    _, outputs = apply_net(Kind(lambda v: v), params, inputs)
    by_hand = inputs
    for weight in (params["first"], *params["hidden"]):
        by_hand = by_hand @ weight
        by_hand = (by_hand - by_hand.mean(axis=0)) / by_hand.std(axis=0)
    np.testing.assert_allclose(outputs[-1], by_hand, atol=1e-4)
    labels = jnp.asarray(inputs[:, 0] > 0, int)
    assert batch_normalisation.readable(outputs[-1], labels) == batch_normalisation.readable(inputs, labels)
