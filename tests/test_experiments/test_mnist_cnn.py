import contextlib
import dataclasses
import functools
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import load, load_net, mnist_cnn
from jaxnn import training
from jaxnn.lab import datasets, devices
from jaxnn.lab.config import BadUsageError
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
    config, model, _, _, nets, names = load(three_nets.folder)
    assert names == tuple("0123456789")
    assert nets.step.tolist() == [config.num_steps] * 3
    validation = datasets.mnist().validation
    for net, row in enumerate(three_nets.rows[-3:]):
        params, state = jax.tree.map(lambda leaf, net=net: leaf[net], (nets.params, nets.state))
        logits, _ = jax.jit(model.apply)(params, state, validation.inputs[:400])
        accuracy = np.mean(np.argmax(logits, axis=1) == validation.targets[:400])
        assert accuracy == pytest.approx(row["validation_accuracy"], abs=0.002)


def test_a_loaded_net_is_trained_on_as_resume_does_it(three_nets, tmp_path):
    earlier = tmp_path / "earlier"
    shutil.copytree(three_nets.folder, earlier)
    (earlier / "checkpoints" / "nets-00000080.safetensors").unlink()
    config, _, loss_fn, optimizer, nets, _ = load(earlier)
    data = datasets.mnist(num_train=config.num_train).train
    train = functools.partial(training.train_steps, batch_size=config.batch_size, num_steps=40)
    train = jax.jit(train, static_argnums=(2, 3))
    ends, _ = devices.map_nets(lambda net, data: train(net, data, loss_fn, optimizer), nets, data)
    expected = load(three_nets.folder).nets
    assert ends.step.tolist() == [80] * 3
    jax.tree.map(np.testing.assert_array_equal, (ends.params, ends.state), (expected.params, expected.state))
    end, _ = train(load(earlier, seed=4).nets, data, loss_fn, optimizer)
    jax.tree.map(lambda alone, all: np.testing.assert_array_equal(alone, all[1]), end.params, ends.params)


def test_what_cannot_be_loaded_is_said(three_nets, tmp_path):
    for settings, message in (
        ({"training": "relu"}, "has no checkpoint of relu: name one of its trainings: nets"),
        ({"seed": 6}, r"has nets of the seeds 3 \.\.\. 5, not 6"),
    ):
        with pytest.raises(BadUsageError, match=message):
            load(three_nets.folder, **settings)
    edited = shutil.copytree(three_nets.folder, tmp_path / "edited")
    (edited / "environment.json").write_text('{"class_names": ["a", "b"]}')
    with pytest.raises(BadUsageError, match=r"environment.json has been edited: put it back"):
        load(edited)
    shutil.copy(three_nets.folder / "config.json", tmp_path)
    with pytest.raises(BadUsageError, match="no checkpoint of nets: it has no checkpoint yet"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.replace('"seed": 3', '"seed": 4'), r"edited: seed 4 \(was 3\); put it back"),
        (lambda text: re.sub(r'"seed": 3,?', "", text), r"edited: seed None \(was 3\); put it back"),
        (lambda text: text.replace('"data_dir": null', '"data_dir": "/elsewhere"'), None),
    ],
)
def test_settings_that_are_not_those_of_the_checkpoint_are_refused(three_nets, tmp_path, edit, message):
    edited = shutil.copytree(three_nets.folder, tmp_path / "edited")
    path = edited / "config.json"
    content = edit(path.read_text())
    assert content != path.read_text()
    path.write_text(re.sub(r",\s*}", "}", content))
    with pytest.raises(BadUsageError, match=message) if message else contextlib.nullcontext():
        load(edited)


def test_one_net_is_loaded_from_a_run_of_the_experiment_that_trained_it_to_the_end(three_nets, write_run, tmp_path):
    for seed, same in ((None, 3), (5, 5)):
        nets = (load_net(three_nets.folder, "mnist_cnn", seed=seed).nets, load(three_nets.folder, seed=same).nets)
        jax.tree.map(np.testing.assert_array_equal, *(net.params for net in nets))
    with pytest.raises(BadUsageError, match="run is no run of mnist_mlp"):
        load_net(three_nets.folder, "mnist_mlp")
    diverged = load(three_nets.folder).nets._replace(step=np.array([80, 7, 80], np.int32))
    write_run(tmp_path, diverged, three_nets.config)
    assert load_net(tmp_path, "mnist_cnn").nets.step == 80
    with pytest.raises(BadUsageError, match="the net of seed 4 has taken 7 of 80 steps: it has diverged"):
        load_net(tmp_path, "mnist_cnn", seed=4)


def test_trains_on_pictures_in_folders(net_of_pictures, pictures, resumes_bit_for_bit):
    assert net_of_pictures.config["dataset"] == str(pictures)
    assert net_of_pictures.summary["test_accuracy"] > 0.9
    assert net_of_pictures.summary["num_steps"] == 20 * (96 // 16)

    config, _, _, _, nets, names = load(net_of_pictures.folder)
    assert (config.num_train, config.num_steps, names) == (96, 120, ("bar", "cross", "ring"))
    assert nets.params["Dense_1"]["bias"].shape == (1, 3)
    resumes_bit_for_bit("mnist_cnn", net_of_pictures)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mnits", {}, "{folder}/mnits is no folder of pictures, and neither mnist nor fashion_mnist"),
        ("pictures/bar", {}, "{folder}/pictures/bar must hold a folder for each class"),
        ("pictures", {"batch_size": 97}, "--batch-size 97: there are only 96 images to train on"),
    ],
)
def test_refuses_pictures_that_cannot_be_trained_on(pictures, tmp_path, name, settings, message):
    config = mnist_cnn.Config(dataset=pictures.parent / name, **settings)
    with pytest.raises(BadUsageError, match=message.format(folder=pictures.parent)):
        mnist_cnn.main(config, Run(tmp_path))


CONFIG = mnist_cnn.Config(
    channels=(2, 2), hidden_size=4, batch_norm=False, num_train=1000, batch_size=250, epochs=1, eval_every=2, seed=3
)
DIGITS = datasets.Splits(random_digits(1000), random_digits(40), random_digits(40))


@pytest.fixture
def diverge(monkeypatch):
    """A function: from now on, the net of this seed has the loss NaN."""
    make_loss = mnist_cnn.make_loss

    def diverge(seed):
        initial = mnist_cnn.make_nets(dataclasses.replace(CONFIG, seed=seed))[3].params["Conv_0"]["kernel"][0]

        def make(config, model):
            loss_fn = make_loss(config, model)

            def diverging(params, state, batch, key):
                losses, state, others = loss_fn(params, state, batch, key)
                return jnp.where((params["Conv_0"]["kernel"] == initial).all(), jnp.nan, losses), state, others

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
    initial = mnist_cnn.make_nets(config)[3].params
    jax.tree.map(lambda end, begin: np.testing.assert_array_equal(end[1], begin[1]), nets.params, initial)
    rows = run.read_log()
    assert [(row["step"], row["seed"]) for row in rows] == [(step, seed) for step in (2, 4) for seed in (3, 4, 5)]
    for name in ("train_loss", "train_accuracy", "validation_accuracy"):
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
    plain, seen, others = values()
    np.testing.assert_allclose(plain, expected, rtol=1e-5)
    np.testing.assert_array_equal(seen, batch.inputs)
    np.testing.assert_array_equal(others["accuracy"], log_probs.argmax(axis=1) == np.arange(4))
    np.testing.assert_allclose(values(l2=0.5)[0], expected + 0.5 * 4, rtol=1e-5)
    smooth = 0.8 * expected - 0.2 * log_probs.mean(axis=1)
    np.testing.assert_allclose(values(label_smoothing=0.2)[0], smooth, rtol=1e-5)
    assert not np.array_equal(values(max_shift=3)[1], batch.inputs)


def test_the_loss_uses_no_key_twice():
    config = dataclasses.replace(CONFIG, dropout=0.5, max_shift=2)
    model, _, _, nets = mnist_cnn.make_nets(config)
    params, state = jax.tree.map(lambda leaf: leaf[0], (nets.params, nets.state))
    batch = Batch(jnp.asarray(random_digits(4).inputs), jnp.arange(4))
    with jax.debug_key_reuse(True):
        losses, *_ = jax.jit(mnist_cnn.make_loss(config, model))(params, state, batch, jax.random.key(1))
    assert jnp.isfinite(losses).all()
