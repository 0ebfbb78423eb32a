import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import load, mnist_cnn
from jaxnn.lab import datasets
from jaxnn.lab.run import Run, RunFailedError
from jaxnn.models import Model
from jaxnn.types import Batch

RNG = np.random.default_rng(0)


def random_digits(number):
    return Batch(RNG.integers(0, 256, (number, 28, 28, 1)).astype(np.uint8), np.arange(number) % 10)


def test_keeps_the_contract(three_nets):
    assert three_nets.summary["test_accuracy"] > 0.9
    assert three_nets.summary["test_accuracy_sd"] > 0
    assert (three_nets.summary["num_seeds"], three_nets.summary["num_diverged"]) == (3, 0)
    assert three_nets.environment["data_sha256"] == datasets.SHA256["mnist"]
    assert [row["seed"] for row in three_nets.rows[:4]] == [3, 4, 5, 3]


def test_resumes_bit_for_bit(three_nets, resumes_bit_for_bit):
    resumes_bit_for_bit("mnist_cnn", three_nets)


def test_a_finished_run_can_be_loaded(three_nets):
    config, model, _, nets = load(three_nets.folder)
    assert nets.step.tolist() == [config.num_steps] * 3
    validation = datasets.mnist().validation
    for net, row in enumerate(three_nets.rows[-3:]):
        params, state = jax.tree.map(lambda leaf, net=net: leaf[net], (nets.params, nets.state))
        logits, _ = jax.jit(model.apply)(params, state, validation.inputs[:1000])
        accuracy = np.mean(np.argmax(logits, axis=1) == validation.targets[:1000])
        assert accuracy == pytest.approx(row["validation_accuracy"], abs=0.002)


CONFIG = mnist_cnn.Config(
    channels=(2, 2), hidden_size=4, batch_norm=False, num_train=1000, batch_size=250, epochs=1, eval_every=2, seed=3
)
DIGITS = datasets.Splits(random_digits(1000), random_digits(40), random_digits(40))


@pytest.fixture
def diverge(monkeypatch):
    """A function: from now on, the net of this seed has the loss NaN."""
    make_loss = mnist_cnn.make_loss

    def diverge(seed):
        initial = mnist_cnn.make_nets(dataclasses.replace(CONFIG, seed=seed))[2].params["Conv_0"]["kernel"][0]

        def make(config, model):
            loss_fn = make_loss(config, model)

            def diverging(params, state, batch, key):
                losses, state = loss_fn(params, state, batch, key)
                return jnp.where((params["Conv_0"]["kernel"] == initial).all(), jnp.nan, losses), state

            return diverging

        monkeypatch.setattr(mnist_cnn, "make_loss", make)

    return diverge


def test_goes_on_without_the_net_that_diverged_and_each_is_as_if_alone(tmp_path, diverge):
    diverge(4)
    run = Run(tmp_path / "three")
    run.directory.mkdir()
    config = dataclasses.replace(CONFIG, num_seeds=3)
    _, nets = mnist_cnn.train(config, run, DIGITS)
    assert nets.step.tolist() == [4, 0, 4]
    initial = mnist_cnn.make_nets(config)[2].params
    jax.tree.map(lambda end, begin: np.testing.assert_array_equal(end[1], begin[1]), nets.params, initial)
    rows = run.read_log()
    assert [(row["step"], row["seed"]) for row in rows] == [(step, seed) for step in (2, 4) for seed in (3, 4, 5)]
    for name in ("train_loss", "validation_accuracy"):
        assert all((row[name] is None) == (row["seed"] == 4) for row in rows)

    run = Run(tmp_path / "last")
    run.directory.mkdir()
    _, last = mnist_cnn.train(dataclasses.replace(CONFIG, seed=5), run, DIGITS)
    assert run.read_log() == rows[2::3]
    jax.tree.map(lambda among, alone: np.testing.assert_array_equal(among[2], alone[0]), nets.params, last.params)


def test_a_run_without_a_net_left_says_what_may_help(tmp_path, diverge):
    diverge(3)
    with pytest.raises(RunFailedError, match="all nets diverged before step 2: give a lower --learning-rate"):
        mnist_cnn.train(CONFIG, Run(tmp_path), DIGITS)


def test_the_loss_is_what_the_settings_say():
    batch = Batch(jnp.asarray(random_digits(4).inputs), jnp.arange(4))
    params = {"weight": jnp.full((1, 1), 2.0)}

    def apply(params, state, inputs, key):
        return inputs.reshape(4, -1)[:, 300:310] / 255, inputs

    def values(**settings):
        config = mnist_cnn.Config(**{"label_smoothing": 0.0, "max_shift": 0, "l2": 0.0} | settings)
        return mnist_cnn.make_loss(config, Model(None, apply))(params, {}, batch, jax.random.key(1))

    log_probs = np.asarray(jax.nn.log_softmax(apply(params, {}, batch.inputs, None)[0]))
    expected = -log_probs[np.arange(4), np.arange(4)]
    plain, seen = values()
    np.testing.assert_allclose(plain, expected, rtol=1e-5)
    np.testing.assert_array_equal(seen, batch.inputs)
    np.testing.assert_allclose(values(l2=0.5)[0], expected + 0.5 * 4, rtol=1e-5)
    smooth = 0.8 * expected - 0.2 * log_probs.mean(axis=1)
    np.testing.assert_allclose(values(label_smoothing=0.2)[0], smooth, rtol=1e-5)
    assert not np.array_equal(values(max_shift=3)[1], batch.inputs)


def test_the_loss_uses_no_key_twice():
    config = dataclasses.replace(CONFIG, dropout=0.5, max_shift=2)
    model, _, nets = mnist_cnn.make_nets(config)
    params, state = jax.tree.map(lambda leaf: leaf[0], (nets.params, nets.state))
    batch = Batch(jnp.asarray(random_digits(4).inputs), jnp.arange(4))
    with jax.debug_key_reuse(True):
        losses, _ = jax.jit(mnist_cnn.make_loss(config, model))(params, state, batch, jax.random.key(1))
    assert jnp.isfinite(losses).all()
