import functools
import json
import os
import socket
import subprocess
import sys
import types
import typing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from jaxnn import layers, linear_models, losses, models, training
from jaxnn.data import batch_indices
from jaxnn.types import Batch

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
DATA = Batch(RNG.normal(size=(24, 3)).astype(np.float32), RNG.integers(0, 4, 24))  # train_steps takes NumPy's too
MODEL = models.mlp([8], 4)


def loss_fn(params, state, batch, key):
    logits, state = MODEL.apply(params, state, batch.inputs)
    return losses.softmax_cross_entropy(logits, batch.targets), state


def noisy_loss_fn(params, state, batch, key):
    inputs = layers.dropout(batch.inputs, key, rate=0.3)
    return loss_fn(params, state, batch._replace(inputs=inputs), key)


def compiled(loss_fn, optimizer, data=DATA, batch_size=5, **settings):
    """A function of a train state and a number of steps."""
    train = functools.partial(training.train_steps, batch_size=batch_size, **settings)
    return jax.jit(
        lambda start, num_steps: train(start, data, loss_fn, optimizer, num_steps=num_steps), static_argnums=1
    )


@functools.partial(jax.jit, static_argnums=(1, 2))
def start_at(key, optimizer, model=MODEL, inputs=DATA.inputs):
    return training.init_train_state(key, model, optimizer, inputs)


def bitwise_equal(first, second):
    def raw(leaf):
        return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf

    return jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(raw(a), raw(b)), first, second))


ADAM, SGD = optax.adam(0.01), optax.sgd(0.1)
train_noisily = compiled(noisy_loss_fn, ADAM)


def in_float64(data):
    return Batch(jnp.asarray(data.inputs, jnp.float64), jnp.asarray(data.targets))


def test_two_chunks_are_one_bit_for_bit():
    start = start_at(KEY, ADAM)
    whole, metrics = train_noisily(start, 12)
    half, first = train_noisily(start, 6)
    again, second = train_noisily(half, 6)
    assert bitwise_equal(whole, again)
    np.testing.assert_array_equal(metrics["loss"], np.concatenate([first["loss"], second["loss"]]))
    assert whole.step == 12


def test_snapshots_are_the_states_after_so_many_steps():
    start, steps = start_at(KEY, ADAM), (0, 3, 3, 12)
    take = functools.partial(training.snapshots, batch_size=5, steps=steps)
    states = jax.jit(lambda start: take(start, DATA, noisy_loss_fn, ADAM))(start)
    np.testing.assert_array_equal(states.step, steps)
    for place, num_steps in enumerate(steps):
        expected = train_noisily(start, num_steps)[0] if num_steps else start
        state = jax.tree.map(lambda leaf, place=place: leaf[place], states)
        assert bitwise_equal(state.key, expected.key)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), state.params, expected.params)


@pytest.mark.parametrize("steps", [[-1, 2], [0, 3, 2]])
def test_snapshots_come_one_after_the_other(steps):
    with pytest.raises(ValueError, match="snapshots: steps must be 0 or more, and none less than the one before"):
        training.snapshots(start_at(KEY, ADAM), DATA, loss_fn, ADAM, batch_size=5, steps=steps)


def test_bit_for_bit_with_all_optimizations_too():
    """The other tests compile without most of XLA's optimizations; users do not."""
    train = compiled(noisy_loss_fn, ADAM)
    keys = training.seed_keys(0, 2)
    starts = jax.vmap(lambda key: training.init_train_state(key, MODEL, ADAM, DATA.inputs))(keys)
    second = jax.tree.map(lambda leaf: leaf[1], starts)
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        six_steps = jax.jit(lambda starts: lax.map(lambda start: train(start, 6)[0], starts)).lower(starts).compile()
        alone, _ = train(second, 12)
    finally:
        jax.config.update("jax_disable_most_optimizations", True)
    assert "fusion" in six_steps.as_text()  # which is an optimization
    assert bitwise_equal(jax.tree.map(lambda leaf: leaf[1], six_steps(six_steps(starts))), alone)


def test_a_whole_batch_is_gradient_descent(x64):
    optimizer, data = optax.sgd(0.1), in_float64(DATA)
    start = start_at(KEY, optimizer, inputs=data.inputs)
    trained, metrics = compiled(loss_fn, optimizer, data, batch_size=24)(start, 3)
    params = start.params
    loss_and_gradient = jax.jit(jax.value_and_grad(lambda params: loss_fn(params, {}, data, KEY)[0].mean()))
    for step in range(3):
        loss, gradient = loss_and_gradient(params)
        np.testing.assert_allclose(metrics["loss"][step], loss, atol=1e-12)
        params = jax.tree.map(lambda weight, slope: weight - 0.1 * slope, params, gradient)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-12), trained.params, params)


def test_mini_batch_gradients_of_an_epoch_average_to_the_full_one(x64):
    """Nothing moves, so that a sum over steps is the sum of the gradients."""
    data = in_float64(DATA)

    def add(gradient, total, params):
        return jax.tree.map(jnp.zeros_like, gradient), jax.tree.map(jnp.add, total, gradient)

    recorder = optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params), add)
    start = start_at(KEY, recorder, inputs=data.inputs)
    end, _ = compiled(loss_fn, recorder, data, batch_size=4, shuffle=False)(start, 6)
    full = jax.jit(jax.grad(lambda params: loss_fn(params, {}, data, KEY)[0].mean()))(start.params)
    jax.tree.map(lambda total, full: np.testing.assert_allclose(total / 6, full, atol=1e-12), end.opt_state, full)


def test_micro_batches_give_the_gradient_of_the_batch(x64):
    optimizer, data = optax.sgd(0.05, momentum=0.9), in_float64(DATA)
    start = start_at(KEY, optimizer, inputs=data.inputs)
    whole, *parts = (
        compiled(loss_fn, optimizer, data, batch_size=8, micro_batch=size, shuffle=False)(start, 20)
        for size in (None, 4, 1)
    )
    for part in parts:
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-12), part[0].params, whole[0].params)
        np.testing.assert_allclose(part[1]["loss"], whole[1]["loss"], atol=1e-12)


def test_a_step_has_a_key_of_its_own_and_so_has_each_micro_batch():
    """The gradient of noise times weight is the noise."""

    def loss_fn(params, state, batch, key):
        return params * jax.random.uniform(key, batch.targets.shape), state

    model = models.Model(lambda key, inputs: (jnp.array(0.0), {}), None)
    start = start_at(KEY, optax.sgd(1.0), model)
    _, noise_key = jax.random.split(start.key)
    noise = jax.jit(lambda keys, size: jax.vmap(lambda key: jax.random.uniform(key, (size,)))(keys), static_argnums=1)
    fold_in = jax.vmap(jax.random.fold_in, (None, 0))
    steps = fold_in(noise_key, jnp.arange(3))
    end, _ = compiled(loss_fn, optax.sgd(1.0), batch_size=6, shuffle=False)(start, 3)
    np.testing.assert_allclose(end.params, -noise(steps, 6).mean(axis=1).sum(), rtol=1e-6)
    end, _ = compiled(loss_fn, optax.sgd(1.0), batch_size=6, micro_batch=2, shuffle=False)(start, 3)
    parts = [noise(fold_in(key, jnp.arange(3)), 2).mean() for key in steps]
    np.testing.assert_allclose(end.params, -np.sum(parts), rtol=1e-6)


def test_overfits_one_batch():
    data, optimizer = Batch(DATA.inputs[:8], DATA.targets[:8]), optax.adam(0.05)
    _, metrics = compiled(loss_fn, optimizer, data, batch_size=8)(start_at(KEY, optimizer), 300)
    assert metrics["loss"][-1] < 0.01 < metrics["loss"][0]


@pytest.mark.parametrize("seed", [0, 5, 2**30 - 3])
def test_seed_i_has_the_key_of_i(x64, seed):
    for wide in (False, True):
        with jax.enable_x64(wide):
            keys = jax.random.key_data(training.seed_keys(seed, 3))
            alone = [jax.random.key_data(jax.random.key(number)) for number in range(seed, seed + 3)]
            np.testing.assert_array_equal(keys, alone)


def test_a_net_among_others_is_the_net_alone():
    @jax.jit
    def train_all(keys):
        starts = lax.map(lambda key: training.init_train_state(key, MODEL, ADAM, DATA.inputs), keys)
        return lax.map(lambda start: train_noisily(start, 6), starts)

    together = train_all(training.seed_keys(3, 3))
    for net in range(3):
        alone = train_noisily(start_at(jax.random.key(3 + net), ADAM), 6)
        assert bitwise_equal(jax.tree.map(lambda leaf, net=net: leaf[net], together), alone)


def test_nets_side_by_side_are_nets_alone(x64):
    """Of several learning rates, too."""
    data = in_float64(DATA)

    def train(seed, learning_rate):
        optimizer = optax.sgd(learning_rate, momentum=0.9)
        start = training.init_train_state(jax.random.key(seed), MODEL, optimizer, data.inputs)
        end, metrics = training.train_steps(start, data, noisy_loss_fn, optimizer, batch_size=5, num_steps=10)
        return end.params, metrics["loss"]

    seeds, rates = np.arange(3), np.array([0.0, 0.01, 0.1])
    together = jax.jit(jax.vmap(train))(seeds, rates)
    alone = [jax.jit(train)(seed, rate) for seed, rate in zip(seeds, rates, strict=True)]
    alone = jax.tree.map(lambda *leaves: np.stack(leaves), *alone)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-10), together, alone)
    assert len(np.unique(together[1][:, -1])) == 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # two updates of a weight of 1 under a gradient of 1, with the learning rate 0.1, by hand
        ("sgd", [-0.1, -0.1]),
        ("momentum", [-0.1, -0.1 * 1.9]),
        ("nesterov", [-0.1 * 1.9, -0.1 * (1 + 0.9 * 1.9)]),
        ("adagrad", [-0.1 / np.sqrt(1.1), -0.1 / np.sqrt(2.1)]),
        ("rmsprop", [-0.1 / np.sqrt(0.1), -0.1 / np.sqrt(0.19)]),
        ("adam", [-0.1, -0.1]),
        ("adamw", [-0.1 - 0.001, -0.1 - 0.001 * 0.899]),
    ],
)
def test_optimizers_take_the_steps_of_their_formulas(name, expected):
    optimizer = training.OPTIMIZERS[name](0.1)

    @jax.jit
    def two_steps(params, gradient):
        first, state = optimizer.update(gradient, optimizer.init(params), params)
        second, _ = optimizer.update(gradient, state, optax.apply_updates(params, first))
        return first, second

    params = {"weight": jnp.ones((1, 1)), "bias": jnp.ones(1)}
    updates = two_steps(params, {"weight": jnp.ones((1, 1)), "bias": jnp.zeros(1)})
    np.testing.assert_allclose([update["weight"][0, 0] for update in updates], expected, rtol=1e-4)
    assert not any(update["bias"] for update in updates)  # no gradient, no decay


def test_muon_takes_the_step_of_its_formula():
    """The singular values of the gradient, at length 1, go five times through the polynomial of Newton and Schulz."""
    optimizer = training.OPTIMIZERS["muon"](0.1)
    singular_values = np.array([1.0, 10.0])
    gradient = {"weight": jnp.diag(jnp.asarray(singular_values, jnp.float32))}
    update, _ = jax.jit(lambda gradient: optimizer.update(gradient, optimizer.init(gradient), gradient))(gradient)
    expected = singular_values / np.linalg.norm(singular_values)
    for _ in range(5):
        expected = 3.4445 * expected - 4.775 * expected**3 + 2.0315 * expected**5
    np.testing.assert_allclose(update["weight"], -0.1 * np.diag(expected), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(expected, 1, atol=0.35)


def test_every_optimizer_has_its_name():
    assert typing.get_args(training.OptimizerName) == tuple(training.OPTIMIZERS)


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_not_taken(poison):
    """From step 3 on, the loss is infinite, or finite with an infinite gradient (√w at 0)."""
    data = Batch(np.ones((5, 1), np.float32), np.ones(5, np.float32))
    optimizer = optax.chain(optax.zero_nans(), optax.adam(0.1))  # whose outcome is finite

    def loss_fn(params, state, batch, key):
        count = state["count"] + 1
        if poison == "loss":
            extra = jnp.where(count > 3, jnp.inf, 0.0)
        else:
            extra = jnp.sqrt(jnp.where(count > 3, params["weight"] * 0.0, 1.0))
        return batch.targets * params["weight"] + extra, {"count": count}

    model = models.Model(lambda key, inputs: ({"weight": jnp.array(1.0)}, {"count": jnp.array(0)}), None)
    train = compiled(loss_fn, optimizer, data)
    last_finite, finite = train(start_at(KEY, optimizer, model), 3)
    end, metrics = train(last_finite, 3)
    assert end.step == 3
    assert bitwise_equal(end, last_finite)
    assert np.isfinite(finite["loss"]).all()
    assert np.isfinite(metrics["loss"]).all() == (poison == "gradient")


@pytest.mark.parametrize(
    ("optimizer", "slope", "growth", "dtype"),
    [
        (optax.adam(1e-3, eps=0.0), 1, 1, np.float32),  # an update of 0/0, where a feature is always 0
        (optax.adam(1e-3), 1, 1, np.float16),  # in which Adam's ε is 0
        (optax.sgd(np.inf), 1, 1, np.float32),
        (optax.adam(1e-3), 1e20, 1, np.float32),  # the square of the gradient overflows
        (optax.sgd(1e-3), 1, 1e20, np.float32),  # the state of the model does
    ],
)
def test_a_step_to_what_is_not_finite_is_not_taken(optimizer, slope, growth, dtype):
    """Though its loss and its gradient are finite."""
    data = Batch(np.array([[0, 1]] * 4, dtype), np.arange(4))

    def loss_fn(params, state, batch, key):
        return slope * (batch.inputs @ params), growth * state

    model = models.Model(lambda key, inputs: (jnp.zeros(2, dtype), jnp.ones((512, 8), dtype)), None)
    end, metrics = compiled(loss_fn, optimizer, data, batch_size=4)(start_at(KEY, optimizer, model), 5)
    assert end.step == (growth > 1)  # 1e20 is finite, 1e40 is not
    assert np.isfinite(metrics["loss"]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(end[1:4]))


def test_a_training_stays_where_it_diverged_though_other_batches_are_fine():
    """One example of 24 is not a number: its batch stops the epoch, and is met again at the next attempt."""
    inputs, optimizer = DATA.inputs.copy(), optax.sgd(0.1)
    inputs[7] = np.nan
    start = start_at(KEY, optimizer)
    order_key, _ = jax.random.split(start.key)
    batches = batch_indices(order_key, 0, num_steps=6, num_examples=24, batch_size=4)
    (place,) = np.flatnonzero((np.asarray(batches) == 7).any(axis=1))
    train = compiled(loss_fn, optimizer, DATA._replace(inputs=inputs), batch_size=4)
    end, _ = train(start, 12)
    assert end.step == place
    again, metrics = train(end, 12)
    assert np.isnan(metrics["loss"][0])
    assert bitwise_equal(again, end)


def test_is_traced_once():
    traces, optimizer = [], optax.sgd(0.1)

    def counting_loss(*arguments):
        traces.append(1)
        return loss_fn(*arguments)

    train, train_state = compiled(counting_loss, optimizer, shuffle=False), start_at(KEY, optimizer)
    for _ in range(3):
        train_state, _ = train(train_state, 4)
    assert len(traces) == 1


def test_batch_statistics_are_carried_from_step_to_step():
    model, optimizer = models.mlp([4], 4, batch_norm=True), optax.sgd(0.0)

    def loss_fn(params, state, batch, key):
        logits, state = model.apply(params, state, batch.inputs, key)
        return losses.softmax_cross_entropy(logits, batch.targets), state

    start = start_at(KEY, optimizer, model)
    end, _ = compiled(loss_fn, optimizer, batch_size=24)(start, 200)
    mean = (DATA.inputs @ np.asarray(start.params[0]["weight"])).mean(axis=0)
    np.testing.assert_allclose(end.state[0]["mean"], mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10, 64])
def test_every_example_counts_whatever_the_batch_size(batch_size):
    data = Batch(jnp.arange(10.0)[:, None], jnp.arange(10))

    def fn(batch):
        return {"square": batch.inputs[:, 0] ** 2, "target": batch.targets}

    values = jax.jit(lambda data: training.map_batches(fn, data, batch_size=batch_size))(data)
    np.testing.assert_array_equal(values["square"], np.arange(10.0) ** 2)
    np.testing.assert_array_equal(values["target"], np.arange(10))


def evaluate_all(scores, *, patience, **settings):
    """Evaluates, with these scores, a training whose only weight is the number of the evaluation, 1, 2, ..."""

    def net(number):
        return training.TrainState(number, number.astype(float), {}, (), KEY)

    def update(stopping, number_and_score):
        number, score = number_and_score
        return training.update_early_stopping(stopping, net(number), score, patience=patience, **settings), None

    start = training.init_early_stopping(net(jnp.array(0)))
    return lax.scan(update, start, (jnp.arange(1, len(scores) + 1), jnp.asarray(scores)))[0]


@pytest.mark.parametrize(
    ("scores", "patience", "best", "last", "num_worse"),
    [
        ([0.1, 0.3, 0.2], 2, 2, 3, 1),
        ([0.1, 0.3, 0.2, 0.3], 2, 2, 4, 2),  # a tie is not better
        ([0.1, 0.3, 0.2, 0.2, 0.9, 0.9], 2, 2, 4, 2),  # what comes after the stop does not count
        ([0.3, 0.2, 0.4, 0.2], 2, 3, 4, 1),  # a better one ends the count
        ([0.3, 0.2, np.nan, 0.4], 2, 1, 3, 1),  # what has failed stays as it is
        ([np.nan], 1, 0, 1, 0),
    ],
)
def test_early_stopping_keeps_the_best(scores, patience, best, last, num_worse):
    stopping = jax.jit(functools.partial(evaluate_all, patience=patience))(np.array(scores))
    assert (stopping.params, stopping.step) == (best, best)
    assert (stopping.train_state.step, stopping.num_worse) == (last, num_worse)
    assert stopping.failed == any(np.isnan(scores))
    assert training.is_training(stopping, patience=patience) == (num_worse < patience and not stopping.failed)


@pytest.mark.parametrize(("min_delta", "best"), [(0.0, 4), (0.125, 3), (0.25, 2), (0.5, 1)])
def test_early_stopping_takes_small_improvements_for_none(min_delta, best):
    stopping = evaluate_all(np.array([0.125, 0.375, 0.5, 0.5625]), patience=9, min_delta=min_delta)
    assert (stopping.params, stopping.num_worse) == (best, 4 - best)


def test_early_stopping_of_several_trainings_is_that_of_each():
    scores = np.array([[0.1, 0.3, 0.2, 0.1, 0.5], [0.5, 0.4, 0.6, 0.7, 0.1]])
    evaluate = functools.partial(evaluate_all, patience=2)
    both, each = jax.jit(jax.vmap(evaluate))(scores), jax.jit(evaluate)
    for index in (0, 1):
        assert bitwise_equal(jax.tree.map(lambda leaf, i=index: leaf[i], both), each(scores[index]))


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_two_devices_compute_as_one(x64, micro_batch):
    """With dropout; the full suite takes more devices, in two processes."""
    found, data = [], in_float64(DATA)
    settings = {"batch_size": 4, "num_steps": 20, "micro_batch": micro_batch}
    for mesh in (None, training.batch_mesh(4, num_devices=2)):
        given = start_at(KEY, ADAM, inputs=data.inputs), data
        train = jax.jit(functools.partial(training.train_steps, **settings, mesh=mesh), static_argnums=(2, 3))
        end, metrics = train(*(training.replicate(given, mesh) if mesh else given), noisy_loss_fn, ADAM)
        assert len(metrics["loss"].sharding.device_set) == (2 if mesh else 1)
        found.append(jax.device_get((end.params, metrics)))
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-10), *found)


@pytest.fixture(scope="module")
def differences(tmp_path_factory):
    """Between trainings on one and on several devices, in two processes with 4 virtual devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # of compilation, which takes longest
        "JAX_NUM_CPU_DEVICES": "4",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    pipe, program = subprocess.PIPE, Path(__file__).parent / "parallel_program.py"
    processes = [
        subprocess.Popen(
            [sys.executable, program, port, str(rank)], stdout=pipe, stderr=pipe, text=True, env=environment
        )
        for rank in (0, 1)
    ]
    outcomes = [process.communicate(timeout=300) for process in processes]
    for process, (_, errors) in zip(processes, outcomes, strict=True):
        assert process.returncode == 0, errors
    return [json.loads(out.splitlines()[-1]) for out, _ in outcomes]


@pytest.mark.full
def test_several_devices_compute_as_one(differences):
    """With batch norm, dropout and augmentation."""
    first, _ = differences
    assert first["100 steps"] < 1e-10
    assert first["micro-batches"] < 1e-10
    assert first["moved"] > 0.1
    assert first["evaluation"] < 1e-5


@pytest.mark.full
def test_two_processes_compute_as_one(differences):
    first, second = differences
    assert (first["devices"], first["processes"]) == (8, 2)
    assert first["20 steps, two processes"] < 1e-10
    assert first["trained"] == second["trained"]


def refuse_to_train(loss_fn=loss_fn, data=DATA, state=None, **settings):
    settings = {"batch_size": 6, "num_steps": 1} | settings
    start = training.TrainState(jnp.array(0), {}, {} if state is None else state, SGD.init({}), KEY)
    jax.eval_shape(lambda start: training.train_steps(start, data, loss_fn, SGD, **settings), start)


LOSSES = jnp.ones(6)
TWO_DEVICES = types.SimpleNamespace(size=2)
NUM_DEVICES = jax.device_count()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: refuse_to_train(batch_size=25), r"1 \.\.\. 24, not 25"),
        (lambda: refuse_to_train(batch_size=0), r"1 \.\.\. 24, not 0"),
        (lambda: refuse_to_train(num_steps=-1), "num_steps must be an integer of 0 or more, not -1"),
        (lambda: refuse_to_train(micro_batch=0), "micro_batch must be an integer of 1 or more, not 0"),
        (lambda: refuse_to_train(micro_batch=-2), "micro_batch must be an integer of 1 or more, not -2"),
        (lambda: refuse_to_train(micro_batch=4), "micro_batch 4 does not divide the batch size 6"),
        (lambda: refuse_to_train(micro_batch=3, mesh=TWO_DEVICES), "2 devices cannot share 3 examples evenly"),
        (lambda: refuse_to_train(data=DATA._replace(inputs=np.ones((24, 3)))), "train_steps: float64 would be rounded"),
        (lambda: refuse_to_train(lambda *_: (LOSSES, {}, {"loss": LOSSES})), "by names other than loss, gradient_norm"),
        (
            lambda: refuse_to_train(lambda *_: (LOSSES, {}, {"x": 1.0})),
            r"one number per example, \[6\], .*not {'x': 'float",
        ),
        (lambda: refuse_to_train(lambda *_: (LOSSES, {}, {"x": [1.0] * 6})), "must be arrays, one number per example"),
        (lambda: refuse_to_train(lambda *_: (LOSSES, {}, LOSSES)), r"one number per example, .*not float32\[6\]"),
        (lambda: refuse_to_train(lambda *_: LOSSES), r"return \(losses, state\): .* float\[6\], .*not float32\[6\]"),
        (lambda: refuse_to_train(lambda *_: jnp.ones((2, 6))), r"not float32\[2, 6\]"),  # two rows are no pair
        (lambda: refuse_to_train(lambda *_: (LOSSES.mean(), {})), r"not \('float32\[\]', {}\)"),
        (lambda: refuse_to_train(lambda *_: ([1.0] * 6, {})), "one loss per example"),
        (lambda: refuse_to_train(lambda *_: (jnp.ones(6, int), {})), r"not \('int32\[6\]', {}\)"),
        (
            lambda: refuse_to_train(lambda *_: (LOSSES, jnp.ones(())), state=jnp.ones(3)),
            r"a state like the one it was given, float32\[3\], not \('float32\[6\]', 'float32\[\]'\)",
        ),
        (
            lambda: training.map_batches(jnp.sin, jnp.ones(3), batch_size=0),
            "batch_size must be an integer of 1 or more, not 0",
        ),
        (lambda: training.map_batches(jnp.sin, jnp.ones((0, 3)), batch_size=2), "at least one"),
        (lambda: training.map_batches(jnp.sin, np.ones(3), batch_size=2), "map_batches: float64 would be rounded"),
        (
            lambda: training.map_batches(jnp.sin, np.array([1, 2**32]), batch_size=2),
            "4294967296 does not fit into int32",
        ),
        (lambda: training.map_batches(jnp.mean, jnp.ones(6), batch_size=3), r"values per example, \[3, .*shapes \(\)"),
        (
            lambda: training.map_batches(jnp.sin, jnp.ones(6), batch_size=3, mesh=TWO_DEVICES),
            "2 devices cannot share 3 examples",
        ),
        (lambda: evaluate_all([0.1], patience=0), "patience must be an integer of 1 or more, not 0"),
        (lambda: evaluate_all([0.1], patience=1, min_delta=-0.1), "min_delta must be 0 or more, not -0.1"),
        (lambda: evaluate_all([[0.1, 0.2]], patience=1), r"needs one score, not \(2,\)"),
        (lambda: training.seed_keys(0, 0), "num_seeds must be an integer of 1 or more, not 0"),
        (lambda: training.seed_keys(-1, 2), r"seed must be an integer in 0 \.\.\. 2147483646, not -1"),
        (lambda: training.seed_keys(2**31 - 1, 2), "not 2147483647"),
        (lambda: training.replicate(np.ones(3), training.batch_mesh(1)), "replicate: float64 would be rounded"),
        (lambda: training.batch_mesh(0), "batch_size must be an integer of 1 or more, not 0"),
        (lambda: training.batch_mesh(-6, num_devices=1), "batch_size must be an integer of 1 or more, not -6"),
        *(
            (
                lambda number=number: training.batch_mesh(6, num_devices=number),
                rf"num_devices must be an integer in 1 \.\.\. {NUM_DEVICES}, not {number}",
            )
            for number in (0, NUM_DEVICES + 1)
        ),
    ],
)
def test_refuses(as_users_see_it, call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_chunk_moves_nothing_between_host_and_device():
    optimizer = optax.adam(0.01)
    train, start = compiled(loss_fn, optimizer), start_at(KEY, optimizer)
    train(start, 2)
    with jax.transfer_guard("disallow"):
        end, _ = train(start, 2)
        with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device"):
            train(start._replace(step=np.int32(0)), 2)
    assert end.step == 2


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_metrics_are_those_of_each_batch(x64, micro_batch):
    data = in_float64(DATA)

    def loss_and_errors(params, state, batch, key):
        losses, state = loss_fn(params, state, batch, key)
        return losses, state, {"doubled": 2 * losses, "large": losses > 1}

    net = training.init_train_state(KEY, MODEL, SGD, data.inputs)
    train = compiled(loss_and_errors, SGD, data, batch_size=8, shuffle=False, micro_batch=micro_batch)
    _, metrics = train(net, 3)
    for step in range(3):
        batch = jax.tree.map(lambda leaf, step=step: leaf[8 * step : 8 * step + 8], data)
        losses, _ = loss_fn(net.params, net.state, batch, KEY)
        gradient = jax.grad(lambda params, batch=batch: loss_fn(params, {}, batch, KEY)[0].mean())(net.params)
        expected = {
            "loss": losses.mean(),
            "doubled": 2 * losses.mean(),
            "large": (losses > 1).mean(),
            "diverged": False,
        }
        expected["gradient_norm"] = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
        assert metrics.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(metrics[name][step], value, rtol=1e-6)
        net = net._replace(params=jax.tree.map(lambda p, g: p - 0.1 * g, net.params, gradient))


def test_a_training_that_diverged_says_so():
    wrong = DATA._replace(targets=np.where(np.arange(24) == 12, -1, DATA.targets))  # whose loss is NaN
    end, metrics = compiled(loss_fn, ADAM, wrong, batch_size=8, shuffle=False)(start_at(KEY, ADAM), 4)
    np.testing.assert_array_equal(metrics["diverged"], [False, True, True, True])
    assert end.step == 1


@pytest.mark.parametrize("micro_batch", [None, 12])
def test_lbfgs_finds_the_minimum_of_a_linear_model(x64, micro_batch):
    data, model, optimizer = Batch(RNG.normal(size=(24, 3)), RNG.normal(size=(24, 2))), models.linear(2), optax.lbfgs()

    def loss_fn(params, state, batch, key):
        outputs, state = model.apply(params, state, batch.inputs, key)
        return losses.squared_error(outputs, batch.targets), state

    start = training.init_train_state(KEY, model, optimizer, data.inputs)
    end, metrics = compiled(loss_fn, optimizer, data, batch_size=24, micro_batch=micro_batch)(start, 25)
    expected = linear_models.least_squares(*data).params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), end.params, expected)
    assert not metrics["diverged"].any()


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.polyak_sgd(),
        optax.chain(optax.adam(0.05), optax.contrib.reduce_on_plateau(patience=2, accumulation_size=3)),
        optax.chain(optax.clip_by_global_norm(1.0), optax.MultiSteps(optax.adam(0.05), 2)),
        optax.contrib.schedule_free_adamw(0.05),
    ],
)
def test_any_optimizer_of_optax_leads_down(optimizer):
    start = training.init_train_state(KEY, MODEL, optimizer, DATA.inputs)
    end, metrics = compiled(loss_fn, optimizer, batch_size=24)(start, 30)
    assert end.step == 30
    assert metrics["loss"][-1] < 0.9 * metrics["loss"][0]


def test_restart_is_a_new_training_of_the_same_net():
    trained, _ = train_noisily(start_at(KEY, ADAM), 3)
    expected = start_at(KEY, SGD)._replace(params=trained.params)
    assert bitwise_equal(training.restart(trained, SGD), expected)
    nets = jax.tree.map(lambda *leaves: jnp.stack(leaves), trained, trained)
    again = jax.vmap(lambda net: training.restart(net, SGD))(nets)
    assert bitwise_equal(jax.tree.map(lambda leaf: leaf[1], again), expected)


@pytest.mark.parametrize(
    ("given", "own"),
    [
        (SGD, ADAM),
        (training.OPTIMIZERS["momentum"](0.1), optax.adagrad(0.1)),  # the same shapes by other names
        (ADAM, optax.adabelief(0.01)),
        (optax.adam(0.01, mu_dtype=jnp.bfloat16), ADAM),  # of another dtype
    ],
)
def test_an_optimizer_refuses_the_state_of_another(given, own):
    with pytest.raises(ValueError, match=r"not one of this optimizer's.* restart\(train_state, optimizer\)"):
        compiled(loss_fn, own, batch_size=24)(start_at(KEY, given), 1)


def test_an_optimizer_takes_its_own_state_though_a_number_is_of_python_or_a_leaf_is_a_key():
    optimizer = optax.chain(optax.add_noise(0.1, 0.5, key=jax.random.key(1)), ADAM)
    start, train = start_at(KEY, optimizer), compiled(loss_fn, optimizer)
    noise, (adam, *others) = start.opt_state
    weak = start._replace(opt_state=(noise, (adam._replace(count=jnp.asarray(0)), *others)))
    assert weak.opt_state[1][0].count.weak_type
    assert bitwise_equal(train(weak, 2)[0], train(start, 2)[0])


@pytest.mark.parametrize("name", ["train_steps", "restart"])
def test_several_nets_want_vmap(name):
    nets = jax.vmap(lambda key: training.init_train_state(key, MODEL, SGD, DATA.inputs))(training.seed_keys(0, 3))
    call = {
        "train_steps": lambda net: compiled(loss_fn, SGD)(net, 1),
        "restart": lambda net: training.restart(net, ADAM),
    }[name]
    jax.vmap(call)(nets)
    with pytest.raises(ValueError, match=f"{name}: these are 3 nets: vmap it over them, or load one, by its seed"):
        call(nets)


def test_batches_are_spread_over_devices_where_that_pays():
    assert [training.batch_mesh(size).size for size in (50, 100, 128, 129)] == [1, 1, 2, 1]


def test_make_loss_is_the_loss_written_out():
    made = training.make_loss(MODEL, losses.softmax_cross_entropy)
    runs = [compiled(fn, ADAM, batch_size=24)(start_at(KEY, ADAM), 3) for fn in (made, loss_fn)]
    assert bitwise_equal(*runs)


def test_the_moving_average_by_hand(x64):
    net = start_at(KEY, ADAM)
    net = net._replace(params={"weight": jnp.array([0.0, 8.0])}, state={"mean": jnp.array(1.0), "count": jnp.array(0)})
    average = training.init_average(net)
    expected, state = np.array([0.0, 8.0]), 1.0
    for step in range(1, 40):
        net = net._replace(
            params={"weight": jnp.array([step, -step]) * 1.0}, state={"mean": jnp.array(2.0), "count": jnp.array(step)}
        )
        average = training.update_average(average, net, decay=0.7)
        decay = min(0.7, (1 + step) / (10 + step))
        expected, state = decay * expected + (1 - decay) * np.array([step, -step]), decay * state + (1 - decay) * 2
    np.testing.assert_allclose(average.params["weight"], expected, rtol=1e-6)
    np.testing.assert_allclose(average.state["mean"], state, rtol=1e-6)
    assert (average.state["count"], average.num_updates) == (39, 39)


def test_the_moving_average_of_narrow_floats_is_kept_in_float32():
    """In bfloat16, 0.999 of 1 and 0.001 of 2 make 1."""
    net = start_at(KEY, ADAM)._replace(params=jnp.ones(3, jnp.bfloat16), state=jnp.ones(3, jnp.float16))
    average = training.init_average(net)._replace(num_updates=jnp.array(10**6))
    net = net._replace(params=2 * net.params, state=2 * net.state)
    average = training.update_average(average, net, decay=0.999)
    for leaf in (average.params, average.state):
        assert leaf.dtype == jnp.float32
        np.testing.assert_allclose(leaf, 1.001, rtol=1e-5)
