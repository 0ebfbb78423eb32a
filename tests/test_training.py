import functools
import json
import os
import socket
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from jaxnn import cnn, layers, losses, models, training
from jaxnn.data import batch_indices
from jaxnn.lab import datasets
from jaxnn.types import Batch

KEY = jax.random.key(0)


def make_data(num_examples=24, num_features=3, num_classes=4):
    inputs = jax.random.normal(KEY, (num_examples, num_features))
    return Batch(inputs, jax.random.randint(KEY, (num_examples,), 0, num_classes))


def make_mlp(dropout=0.0):
    model = models.mlp([8], 4)

    def loss_fn(params, state, batch, keys):
        inputs = layers.dropout(batch.inputs, keys, rate=dropout)
        logits, state = model.apply(params, state, inputs, keys)
        return losses.softmax_cross_entropy(logits, batch.targets), state

    return model, loss_fn


def bitwise_equal(first, second):
    def raw(leaf):
        return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf

    return jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(raw(a), raw(b)), first, second))


def take(leaf, index):
    return jax.tree.map(lambda leaf: leaf[index], leaf)


def stretch(loss_fn, optimizer, batch_size=5):
    return jax.jit(
        functools.partial(training.train_steps, loss_fn=loss_fn, optimizer=optimizer, batch_size=batch_size),
        static_argnames="num_steps",
    )


def test_two_stretches_are_one_bit_for_bit():
    data, (model, loss_fn), optimizer = make_data(), make_mlp(dropout=0.3), optax.adam(0.01)
    train = stretch(loss_fn, optimizer)
    start = training.init_train_state(KEY, model, optimizer, data.inputs)
    whole, metrics = train(start, data, num_steps=12)
    half, first = train(start, data, num_steps=6)
    again, second = train(half, data, num_steps=6)
    assert bitwise_equal(whole, again)
    np.testing.assert_array_equal(metrics["loss"], jnp.concatenate([first["loss"], second["loss"]]))
    assert whole.step == 12


def test_data_may_be_numpy():
    data, model, optimizer = datasets.iris(), models.linear(3), optax.sgd(0.1)

    def loss_fn(params, state, batch, keys):
        logits, state = model.apply(params, state, batch.inputs, keys)
        return losses.softmax_cross_entropy(logits, batch.targets), state

    start = training.init_train_state(KEY, model, optimizer, data.inputs)
    _, metrics = training.train_steps(start, data, loss_fn=loss_fn, optimizer=optimizer, batch_size=30, num_steps=20)
    assert metrics["loss"][-1] < metrics["loss"][0]


def test_a_whole_batch_is_gradient_descent(x64):
    data, (model, loss_fn) = make_data(), make_mlp()
    data = data._replace(inputs=data.inputs.astype(jnp.float64))
    optimizer = optax.sgd(0.1)
    start = training.init_train_state(KEY, model, optimizer, data.inputs)
    keys = jax.random.split(KEY, 24)
    trained, metrics = stretch(loss_fn, optimizer, batch_size=24)(start, data, num_steps=3)
    params = start.params
    for step in range(3):
        loss, gradient = jax.value_and_grad(lambda params: loss_fn(params, {}, data, keys)[0].mean())(params)
        np.testing.assert_allclose(metrics["loss"][step], loss, atol=1e-12)
        params = jax.tree.map(lambda weight, slope: weight - 0.1 * slope, params, gradient)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-12), trained.params, params)


def test_mini_batch_gradients_of_an_epoch_average_to_the_full_one(x64):
    """With a learning rate so small that nothing moves, a sum of SGD steps is the sum of the gradients."""
    data, (model, loss_fn) = make_data(), make_mlp()
    data = data._replace(inputs=data.inputs.astype(jnp.float64))
    recorder = optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda gradient, total, params: (
            jax.tree.map(jnp.zeros_like, gradient),
            jax.tree.map(jnp.add, total, gradient),
        ),
    )
    start = training.init_train_state(KEY, model, recorder, data.inputs)
    end, _ = stretch(loss_fn, recorder, batch_size=4)(start, data, num_steps=6)
    full = jax.grad(lambda params: loss_fn(params, {}, data, KEY)[0].mean())(start.params)
    jax.tree.map(lambda total, full: np.testing.assert_allclose(total / 6, full, atol=1e-12), end.opt_state, full)


def test_overfits_one_batch():
    data, (model, loss_fn), optimizer = make_data(num_examples=8), make_mlp(), optax.adam(0.05)
    start = training.init_train_state(KEY, model, optimizer, data.inputs)
    _, metrics = stretch(loss_fn, optimizer, batch_size=8)(start, data, num_steps=300)
    assert metrics["loss"][-1] < 0.01 < metrics["loss"][0]


def test_a_net_among_others_is_the_net_alone():
    data, (model, loss_fn), optimizer = make_data(), make_mlp(dropout=0.3), optax.adam(0.01)
    train = functools.partial(training.train_steps, loss_fn=loss_fn, optimizer=optimizer, batch_size=5, num_steps=10)
    keys = jnp.stack([jax.random.key(seed) for seed in range(3)])
    starts = jax.vmap(lambda key: training.init_train_state(key, model, optimizer, data.inputs))(keys)
    mapped, _ = jax.jit(lambda states: lax.map(lambda state: train(state, data), states))(starts)
    for index in range(3):
        alone, _ = jax.jit(train)(take(starts, index), data)
        assert bitwise_equal(take(mapped, index), alone)


def test_nets_side_by_side_are_nets_alone(x64):
    data, (model, loss_fn), optimizer = make_data(), make_mlp(dropout=0.3), optax.adam(0.01)
    data = data._replace(inputs=data.inputs.astype(jnp.float64))
    train = functools.partial(training.train_steps, loss_fn=loss_fn, optimizer=optimizer, batch_size=5, num_steps=10)
    keys = jnp.stack([jax.random.key(seed) for seed in range(3)])
    starts = jax.vmap(lambda key: training.init_train_state(key, model, optimizer, data.inputs))(keys)
    together, _ = jax.jit(jax.vmap(train, (0, None)))(starts, data)
    for index in range(3):
        alone, _ = jax.jit(train)(take(starts, index), data)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, atol=1e-10), take(together.params, index), alone.params
        )


def test_hyper_parameters_can_be_arrays():
    data, (model, loss_fn) = make_data(), make_mlp()

    def final_loss(learning_rate):
        optimizer = optax.sgd(learning_rate)
        start = training.init_train_state(KEY, model, optimizer, data.inputs)
        _, metrics = training.train_steps(
            start, data, loss_fn=loss_fn, optimizer=optimizer, batch_size=24, num_steps=20
        )
        return metrics["loss"][-1]

    rates = jnp.array([0.0, 0.01, 0.1, 0.5])
    grid = jax.jit(jax.vmap(final_loss))(rates)
    assert (jnp.diff(grid) < 0).all()
    np.testing.assert_allclose(grid[2], final_loss(0.1), rtol=1e-5)


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_not_taken(poison):
    """From step 3 on, the loss is infinite, or finite with an infinite gradient (√w at 0)."""
    data, optimizer = Batch(jnp.ones((5, 1)), jnp.ones(5)), optax.adam(0.1)

    def loss_fn(params, state, batch, keys):
        count = state["count"] + 1
        if poison == "loss":
            extra = jnp.where(count > 3, jnp.inf, 0.0)
        else:
            extra = jnp.sqrt(jnp.where(count > 3, params["weight"] * 0.0, 1.0))
        return batch.targets * params["weight"] + extra, {"count": count}

    model = models.Model(lambda key, inputs: ({"weight": jnp.array(1.0)}, {"count": jnp.array(0)}), None)
    start = training.init_train_state(KEY, model, optimizer, data.inputs)
    train = stretch(loss_fn, optimizer)
    last_finite, _ = train(start, data, num_steps=3)
    end, metrics = train(start, data, num_steps=6)
    assert end.step == 3
    assert bitwise_equal(end, last_finite)
    assert np.isfinite(metrics["loss"][:3]).all()
    assert np.isfinite(metrics["loss"][3:]).all() == (poison == "gradient")


def test_a_training_stays_where_it_diverged_though_other_batches_are_fine():
    """One example of 24 is not a number: its batch stops the epoch, and is met again at the next attempt."""
    data, (model, loss_fn), optimizer = make_data(), make_mlp(), optax.sgd(0.1)
    data = data._replace(inputs=data.inputs.at[7].set(jnp.nan))
    start = training.init_train_state(KEY, model, optimizer, data.inputs)
    order_key, _ = jax.random.split(start.key)
    batches = batch_indices(order_key, 0, num_steps=6, num_examples=24, batch_size=4)
    (place,) = np.flatnonzero((batches == 7).any(axis=1))
    train = stretch(loss_fn, optimizer, batch_size=4)
    end, _ = train(start, data, num_steps=12)
    assert end.step == place
    again, metrics = train(end, data, num_steps=12)
    assert np.isnan(metrics["loss"][0])
    assert bitwise_equal(again, end)


def test_is_traced_once():
    data, (model, loss_fn), optimizer = make_data(), make_mlp(), optax.sgd(0.1)
    traces = []

    def counting_loss(*arguments):
        traces.append(1)
        return loss_fn(*arguments)

    train = stretch(counting_loss, optimizer)
    train_state = training.init_train_state(KEY, model, optimizer, data.inputs)
    for _ in range(3):
        train_state, _ = train(train_state, data, num_steps=4)
    assert len(traces) == 1


def test_batch_statistics_are_carried_from_step_to_step():
    images = jax.random.uniform(KEY, (12, 8, 8, 1))
    data = Batch(images, jnp.arange(12) % 4)
    model = cnn.from_flax(cnn.CNN((2,), (3,), hidden_size=4, num_classes=4))

    def loss_fn(params, state, batch, keys):
        logits, state = model.apply(params, state, batch.inputs, keys)
        return losses.softmax_cross_entropy(logits, batch.targets), state

    start = training.init_train_state(KEY, model, optax.sgd(0.0), images)
    end, _ = stretch(loss_fn, optax.sgd(0.0), batch_size=12)(start, data, num_steps=200)
    mean = np.asarray(end.state["batch_stats"]["BatchNorm_0"]["mean"])
    _, once = model.apply(start.params, start.state, images, KEY)
    np.testing.assert_allclose(mean, np.asarray(once["batch_stats"]["BatchNorm_0"]["mean"]) / 0.1, rtol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10, 64])
def test_every_example_counts_whatever_the_batch_size(batch_size):
    data = Batch(jnp.arange(10.0)[:, None], jnp.arange(10))
    values = training.map_batches(
        lambda batch: {"square": batch.inputs[:, 0] ** 2, "target": batch.targets}, data, batch_size=batch_size
    )
    np.testing.assert_array_equal(values["square"], np.arange(10.0) ** 2)
    np.testing.assert_array_equal(values["target"], np.arange(10))


def test_refuses_a_batch_larger_than_the_data():
    data, (model, loss_fn), optimizer = make_data(), make_mlp(), optax.sgd(0.1)
    start = training.init_train_state(KEY, model, optimizer, data.inputs)
    with pytest.raises(ValueError, match=r"1 \.\.\. 24 .*not 25"):
        stretch(loss_fn, optimizer, batch_size=25)(start, data, num_steps=1)


def test_refuses_losses_that_are_not_one_per_example():
    data, (model, loss_fn), optimizer = make_data(), make_mlp(), optax.sgd(0.1)
    start = training.init_train_state(KEY, model, optimizer, data.inputs)

    def mean_loss(*arguments):
        values, state = loss_fn(*arguments)
        return values.mean(), state

    with pytest.raises(ValueError, match=r"one loss per example, \[5\], not \(\)"):
        stretch(mean_loss, optimizer)(start, data, num_steps=1)


def test_map_batches_refuses_no_batch_and_no_examples():
    with pytest.raises(ValueError, match="batch_size must be 1 or more, not 0"):
        training.map_batches(lambda batch: batch, jnp.ones(3), batch_size=0)
    with pytest.raises(ValueError, match="there are no examples"):
        training.map_batches(lambda batch: batch, jnp.ones((0, 3)), batch_size=2)


def test_map_batches_refuses_a_batch_that_the_devices_cannot_share(as_users_see_it):
    mesh = types.SimpleNamespace(size=2)
    with pytest.raises(ValueError, match="2 devices cannot share 3 examples"):
        training.map_batches(lambda batch: batch, jnp.ones(6), batch_size=3, mesh=mesh)


def look_all(scores, *, patience):
    """Looks with these scores at a training whose only weight is the number of the look, 1, 2, ..."""
    update = jax.jit(functools.partial(training.update_early_stopping, patience=patience))
    stopping = training.init_early_stopping(
        training.TrainState(jnp.array(0), jnp.array(0.0), {}, (), jax.random.key(0))
    )
    for number, score in enumerate(scores, start=1):
        look = training.TrainState(jnp.array(number), jnp.array(float(number)), {}, (), jax.random.key(0))
        stopping = update(stopping, look, score)
    return stopping


@pytest.mark.parametrize(
    ("scores", "patience", "best", "last", "num_worse"),
    [
        ([0.1, 0.3, 0.2], 2, 2, 3, 1),
        ([0.1, 0.3, 0.2, 0.3], 2, 2, 4, 2),  # a tie is not better
        ([0.1, 0.3, 0.2, 0.2, 0.9, 0.9], 2, 2, 4, 2),  # what comes after the stop is not looked at
        ([0.3, 0.2, 0.4, 0.2], 2, 3, 4, 1),  # a better one ends the count
        ([0.3, 0.2, jnp.nan, 0.4], 2, 1, 3, 1),  # what has failed stays as it is
        ([jnp.nan], 1, 0, 1, 0),
    ],
)
def test_early_stopping_keeps_the_best(scores, patience, best, last, num_worse):
    stopping = look_all(scores, patience=patience)
    assert (stopping.params, stopping.step) == (best, best)
    assert (stopping.train_state.step, stopping.num_worse) == (last, num_worse)
    assert stopping.failed == any(np.isnan(scores))
    assert training.is_training(stopping, patience=patience) == (num_worse < patience and not stopping.failed)


def test_early_stopping_of_several_trainings_is_that_of_each():
    scores = jnp.array([[0.1, 0.3, 0.2, 0.1, 0.5], [0.5, 0.4, 0.6, 0.7, 0.1]])
    both = jax.vmap(lambda scores: look_all(list(scores), patience=2))(scores)
    for index in (0, 1):
        alone = look_all(scores[index], patience=2)
        assert jax.tree.all(jax.tree.map(lambda a, b, i=index: jnp.all(a[i] == b), both, alone))


def test_early_stopping_refuses_no_patience():
    with pytest.raises(ValueError, match="patience must be 1 or more, not 0"):
        look_all([0.1], patience=0)


@pytest.fixture(scope="module")
def differences():
    """Between trainings on 1, 2 and 8 devices, with and without micro-batches, in a process with 8 virtual devices."""
    program = Path(__file__).parent / "parallel_program.py"
    command = [sys.executable, program, str(jax.config.jax_compilation_cache_dir)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_several_devices_compute_as_one(differences):
    """With batch norm, dropout and augmentation."""
    assert differences["one step, float32"] < 1e-5
    assert differences["100 steps, float64"] < 1e-10
    assert differences["moved"] > 0.1
    assert differences["evaluation"] < 1e-5


def test_two_processes_compute_as_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, Path(__file__).parent / "distributed_program.py", port]
    processes = [
        subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    for process in processes:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        num_devices, num_processes, difference = out.splitlines()[-1].split()
        assert (num_devices, num_processes) == ("2", "2")
        assert float(difference) < 1e-6


def test_micro_batches_give_the_gradient_of_the_batch(differences):
    assert differences["micro-batches"] < 1e-12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"micro_batch": 4}, "micro_batch 4 does not divide the batch size 6"),
        ({"micro_batch": 3, "mesh": types.SimpleNamespace(size=2)}, "2 devices cannot share 3 examples evenly"),
    ],
)
def test_train_steps_refuses_parts_that_do_not_fit(as_users_see_it, settings, message):
    data, (model, loss_fn), optimizer = make_data(), make_mlp(), optax.sgd(0.1)
    start = training.init_train_state(KEY, model, optimizer, data.inputs)
    options = {"loss_fn": loss_fn, "optimizer": optimizer, "batch_size": 6, "num_steps": 1}
    with pytest.raises(ValueError, match=message):
        training.train_steps(start, data, **options, **settings)


@pytest.mark.parametrize("number", [0, jax.device_count() + 1])
def test_batch_mesh_refuses_devices_that_are_not_there(number):
    with pytest.raises(ValueError, match=rf"num_devices must be in 1 \.\.\. {jax.device_count()}.*, not {number}"):
        training.batch_mesh(6, num_devices=number)
