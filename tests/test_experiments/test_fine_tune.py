import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import experiments
from experiments import fine_tune
from jaxnn import cnn, training
from jaxnn.lab.config import BadUsageError
from jaxnn.lab.run import Run
from jaxnn.types import Batch


@pytest.fixture(scope="module")
def toy(toy_run, three_nets):
    return toy_run("fine_tune", "--run", three_nets.folder, "--dataset", "mnist")


def test_compares_three_ways_seed_by_seed(toy):
    accuracies = {way: [row["test_accuracy"] for row in toy.rows if row["way"] == way] for way in fine_tune.WAYS}
    assert [len(values) for values in accuracies.values()] == [2, 2, 2]
    assert toy.summary["frozen_50_test_accuracy"] == pytest.approx(np.mean(accuracies["frozen"]))
    gains = np.subtract(accuracies["all weights"], accuracies["from scratch"])
    assert toy.summary["all_weights_50_gain"] == pytest.approx(gains.mean())
    assert toy.summary["all_weights_50_gain_sd"] == pytest.approx(gains.std(ddof=1))


def test_a_net_begins_with_what_was_learned_but_for_the_last_layer(three_nets):
    learned = experiments.load(three_nets.folder, seed=3).nets
    model = cnn.from_flax(cnn.CNN((8, 16), hidden_size=64, num_classes=3))
    begun = {way: fine_tune.begin(way, jax.random.key(0), model, optax.sgd(0.1), learned) for way in fine_tune.WAYS}
    kernels = {way: net.params["Conv_0"]["kernel"] for way, net in begun.items()}
    np.testing.assert_array_equal(kernels["frozen"], learned.params["Conv_0"]["kernel"])
    assert (kernels["from scratch"] != learned.params["Conv_0"]["kernel"]).any()
    assert jnp.shape(begun["all weights"].params["Dense_1"]["bias"]) == (3,)


def test_a_frozen_body_stays_as_it_was(three_nets):
    learned = experiments.load(three_nets.folder, seed=3).nets
    model = cnn.from_flax(cnn.CNN((8, 16), hidden_size=64, num_classes=10))
    optimizer, loss_fn = fine_tune.make_training(fine_tune.Config(num_steps=3), "frozen", model, learned.params)
    net = fine_tune.begin("frozen", jax.random.key(0), model, optimizer, learned)
    images = np.random.default_rng(0).integers(0, 256, (50, 28, 28, 1)).astype(np.uint8)
    data = Batch(images, np.arange(50) % 10)
    end, _ = training.train_steps(net, data, loss_fn, optimizer, batch_size=25, num_steps=3)
    for name in learned.params:
        same = jax.tree.map(lambda a, b: bool((a == b).all()), end.params[name], net.params[name])
        assert jax.tree.all(same) == (name != "Dense_1")
    jax.tree.map(np.testing.assert_array_equal, end.state, learned.state)


def test_refuses_a_run_of_another_experiment(tmp_path):
    (tmp_path / "config.json").write_text('{"experiment": "mnist_mlp"}')
    with pytest.raises(BadUsageError, match=f"{tmp_path} is no run of mnist_cnn"):
        fine_tune.main(fine_tune.Config(run=tmp_path), Run(tmp_path))
