"""Every experiment at toy size, as a user runs it, and the contract that all of them keep."""

import functools
import json
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from processes import COMMAND, experiment, kill_and_resume, left_by

from experiments import (
    feature_maps,
    mnist_cnn,
    mnist_mlp,
    optimizers,
    overfitting,
    predict,
    tabular,
    vanishing_gradients,
    weight_sharing,
)
from jaxnn import cnn, metrics, training
from jaxnn.lab import checkpoint, datasets, images, run
from jaxnn.lab.config import BadUsageError
from jaxnn.lab.run import RunFailedError
from jaxnn.models import Model, mlp
from jaxnn.types import Batch

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "experiments").glob("[!_]*.py"))


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


EXPECTED = {  # numbers that the deck's formulas and pictures must have, also at toy size
    "neuron_surfaces": {
        "three_units_max": pytest.approx(6.714, abs=0.01),
        "three_units_min": pytest.approx(-6.799, abs=0.01),
        "three_units_boundary_bend": pytest.approx(4.4, abs=0.3),
        "neuron_change_across": pytest.approx(0, abs=1e-15),
        "sigmoid_slope_max": 0.25,
        "sigmoid_slope_at_10": pytest.approx(4.54e-5, abs=1e-7),
        "relu_slope_at_0": 0,
        "collapse_error": pytest.approx(0, abs=1e-12),
    },
    "gradient_descent": {
        "num_steps": 5497,
        "tangent_error_ratio": pytest.approx(4, abs=1e-9),
        "num_minima": 4,
        "num_saddles": 4,
        "num_maxima": 1,
        "largest_distance_to_a_minimum": pytest.approx(0, abs=1e-6),
        "value_deepest": pytest.approx(-78.33233, abs=1e-4),
    },
    "information": {
        "identity_error": pytest.approx(0, abs=1e-12),
        "entropy_sure": 0,
        "entropy_fair": 1,
        "divergence_sure_from_fair": 1,
        "divergence_fair_from_sure": "inf",
        "divergence_sure_from_sure": 0,
    },
    "backpropagation": {
        "gradient_difference": pytest.approx(0, abs=1e-10),
        "training_difference": pytest.approx(0, abs=1e-10),
    },
    "linear_regression": {
        "descent_distance": pytest.approx(0, abs=1e-2),  # after 100 steps
        "plane_change_across": pytest.approx(0, abs=1e-12),
        "plane_boundary_bend": pytest.approx(0, abs=1e-6),
        "table_rank": 10,
        "table_r2": pytest.approx(0.51774842, abs=1e-8),
    },
    "logistic_regression": {
        "boundary_bend": pytest.approx(0, abs=1e-6),
        "made_up_separated": True,
        "breast_cancer_difference_to_sklearn": pytest.approx(0, abs=1e-6),
        "iris_difference_to_sklearn": pytest.approx(0, abs=1e-6),
    },
    "convolution": {
        "triangle_error": pytest.approx(0, abs=0.006),  # the step of the grid is 0.005
        "gaussian_error": pytest.approx(0, abs=1e-12),
        "convolution_difference": pytest.approx(0, abs=1e-12),
        "correlation_difference": pytest.approx(0, abs=1e-12),
        "layer_difference": pytest.approx(0, abs=1e-12),
        "commutation_error": pytest.approx(0, abs=1e-12),
        "association_error": pytest.approx(0, abs=1e-12),
        "identity_error": 0,
        "turned_kernel_error": pytest.approx(0, abs=1e-12),
    },
    "feature_maps": {"first_maps_error": pytest.approx(0, abs=1e-5)},
    "mnist_mlp": {
        "num_parameters": 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10,
        "modern_test_accuracy": pytest.approx(0.9, abs=0.05),  # of so few steps, as below
    },
    "optimizers": {
        "sgd_test_accuracy": pytest.approx(0.82, abs=0.05),
        "adam_test_accuracy": pytest.approx(0.88, abs=0.05),
    },
    "overfitting": {"nothing_gap": pytest.approx(0.25, abs=0.1)},
    "vanishing_gradients": {
        "he_signal_ratio": pytest.approx(1, abs=0.1),
        "glorot_signal_ratio": pytest.approx(1, abs=0.1),
    },
    "weight_sharing": {
        "dense_num_weights": 785 * 12 * 12 * 8,
        "local_num_weights": 26 * 12 * 12 * 8,
        "convolution_num_weights": 26 * 8,
        "local_num_connections": 25 * 12 * 12 * 8,
        "convolution_num_connections": 25 * 12 * 12 * 8,
        "convolution_num_distinct": 25 * 8,
        "convolution_num_parameters": 26 * 8 + (6 * 6 * 8 + 1) * 10,
        "small_dense_num_parameters": 785 * 4 + 5 * 10,
        "convolution_matrix_error": pytest.approx(0, abs=1e-5),
        "local_matrix_error": pytest.approx(0, abs=1e-5),
        "convolution_shift_error": pytest.approx(0, abs=1e-6),
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_keeps_the_contract_and_repeats_bit_for_bit(name, runs):
    folders, processes = zip(*runs[name].result(), strict=True)
    for folder, done in zip(folders, processes, strict=True):
        assert done.returncode == 0, done.stderr
        assert str(folder) in done.stderr
    summary, again = (read(folder, "summary") for folder in folders)
    assert all(value is None or isinstance(value, int | float | str) for value in summary.values())
    assert [line.split()[0] for line in processes[0].stdout.splitlines()] == list(summary)
    measured, repeated = ({k: v for k, v in s.items() if not k.endswith("_seconds")} for s in (summary, again))
    assert measured == repeated
    assert {key: summary[key] for key in EXPECTED.get(name, {})} == EXPECTED.get(name, {})
    assert folders[0].joinpath("metrics.jsonl").read_text() == folders[1].joinpath("metrics.jsonl").read_text()
    assert read(folders[0], "config")["seed"] == 3
    assert read(folders[0], "environment")["devices"]
    figures = list((folders[0] / "figures").iterdir())
    assert figures
    assert all(figure.read_bytes().startswith(b"\x89PNG") for figure in figures)


MENTAT_ERRORS = {  # training errors that mentat itself reached: mean and sd over six starts, for 3, 6 and 12 neurons
    "x1**2 + x2**2": {3: (0.246, 0.508), 6: (0.0030, 0.0004), 12: (0.0016, 0.0003)},
    "x1**2 - x2**2": {3: (0.697, 0.653), 6: (0.0016, 0.0004), 12: (0.0007, 0.0003)},
    "cos(1.2*x1) * cos(1.2*x2)": {3: (0.107, 0.007), 6: (0.104, 0.017), 12: (0.103, 0.012)},
}


def test_function_fitting_as_mentat_does_it_is_numpy_and_errs_as_mentat_does(tmp_path):
    settings = ["--recipe", "mentat", "--num-seeds", 8, "--animate"]
    done = experiment("function_fitting", *settings, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "run", "summary")["difference_to_numpy"] < 1e-12
    assert (tmp_path / "run" / "animation.gif").read_bytes().startswith(b"GIF89a")
    assert re.search(r"µs in NumPy in float64: \d+ times as long", done.stderr)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 9
    for row in rows:
        mean, sd = MENTAT_ERRORS[row["function"]][row["neurons"]]
        assert abs(row["train_mean"] - mean) < row["train_sd"] + sd, row


def test_function_fitting_fits_a_function_of_the_user(tmp_path):
    done = experiment("function_fitting", "--quick", "--function", "sin(x1)*x2", "--hidden-sizes", 8, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert read(tmp_path, "summary")["function_8_train_median"] < 1e-2


def test_feature_maps_looks_into_the_first_net_of_a_run(three_nets):
    module, variables, num_validation = feature_maps.load_net(three_nets)
    validation = datasets.mnist(num_validation=num_validation).validation
    logits = module.apply(variables, mnist_cnn.scale(jnp.asarray(validation.inputs)), train=False)
    rows = [json.loads(line) for line in (three_nets / "metrics.jsonl").read_text().splitlines()]
    (last,) = (row["validation_accuracy"] for row in rows if (row["step"], row["seed"]) == (80, 0))
    assert metrics.accuracy(logits, validation.targets) == pytest.approx(last, abs=0.003)


def test_feature_maps_looks_at_no_image_that_the_net_has_learned_from(tmp_path, three_nets):
    (tmp_path / "environment.json").write_text("{}")
    with pytest.raises(BadUsageError, match=r"--num-images 5000 are too many: .* held out 500 images"):
        feature_maps.main(feature_maps.Config(run=three_nets), run.Run(tmp_path))


def test_feature_maps_refuses_runs_of_something_else(tmp_path, clothes):
    with pytest.raises(BadUsageError, match="is no run of mnist_cnn on mnist"):
        feature_maps.load_net(clothes)
    with pytest.raises(BadUsageError, match="is no folder of a run with a checkpoint"):
        feature_maps.load_net(tmp_path)


def test_vanishing_gradients_builds_the_net_that_mlp_builds():
    config = vanishing_gradients.Config(width=6, num_seeds=1)
    inputs, key = jax.random.normal(jax.random.key(0), (9, 5)), jax.random.key(1)
    for place, activation in enumerate((jax.nn.sigmoid, jnp.tanh, jax.nn.relu)):
        for batch_norm in (False, True):
            setting = vanishing_gradients.Setting(jnp.array(place), jnp.array(1), jnp.array(0.1), key)
            deep = vanishing_gradients.make_model(config, 4, batch_norm, setting)
            params, state = deep.init(key, inputs)
            hidden = [params["first"], *(jax.tree.map(lambda leaf, r=r: leaf[r], params["hidden"]) for r in range(3))]
            statistics = [state["first"], *(jax.tree.map(lambda leaf, r=r: leaf[r], state["hidden"]) for r in range(3))]
            plain = mlp([6] * 4, 10, activation=activation, batch_norm=batch_norm)
            expected, _ = plain.apply([*hidden, params["last"]], statistics, inputs, key)
            np.testing.assert_allclose(deep.apply(params, state, inputs, key)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("config_class", "setting", "message"),
    [
        (mnist_mlp.Config, {"hidden_sizes": (0,)}, "--hidden-sizes must be in 1 ... 10000, not (0,)"),
        (mnist_mlp.Config, {"learning_rate": 0.0}, "--learning-rate must be finite and above 0, not 0.0"),
        (mnist_mlp.Config, {"num_train": 55_001}, "--num-train must be in 100 ... 55000, not 55001"),
        (mnist_mlp.Config, {"epochs": 0}, "--epochs must be in 1 ... 1000, not 0"),
        (
            weight_sharing.Config,
            {"train_sizes": (100, 100)},
            "--train-sizes must be in 50 ... 55000, rising, at least one",
        ),
        (weight_sharing.Config, {"max_shift": 1}, "--max-shift must be in 2 ... 14, not 1"),
        (vanishing_gradients.Config, {"depths": (1, 5)}, "--depths must be in 2 ... 100, at least one, all different"),
        (vanishing_gradients.Config, {"learning_rates": (-1.0,)}, "--learning-rates must be in (0, 10], at least one"),
        (vanishing_gradients.Config, {"num_steps": 100}, "--num-steps must be a multiple of 3 below 100000, not 100"),
        (overfitting.Config, {"num_train": 10}, "--num-train must be in 50 ... 10000, not 10"),
        (overfitting.Config, {"cures": ("dropout",)}, '--cures must be "nothing" and any others, all different, not ('),
        (overfitting.Config, {"epochs": 7}, "--epochs must be a multiple of --eval-every 5, at most 10000, not 7"),
        (overfitting.Config, {"patience": 0}, "--patience must be in 1 ... 10000, not 0"),
        (optimizers.Config, {"optimizers": ("sgd", "sgd")}, "--optimizers must be at least one, all different"),
        (optimizers.Config, {"learning_rates": (0.1, 0.01)}, "--learning-rates must be above 0, finite, rising"),
        (optimizers.Config, {"num_steps": 35}, "--num-steps must be a multiple of --eval-every 10, at most"),
        (optimizers.Config, {"target": 0.0}, "--target must be above 0, finite, not 0.0"),
        (feature_maps.Config, {"num_embedded": 6000}, "--num-embedded must be in 100 ... --num-images 5000, not 6000"),
        *(
            (module.Config, {"num_seeds": 0}, "--num-seeds must be in 1 ... 100, not 0")
            for module in (mnist_mlp, weight_sharing, vanishing_gradients, overfitting, optimizers)
        ),
    ],
)
def test_experiments_refuse(config_class, setting, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        config_class(**setting)


def test_tabular_takes_no_number_from_a_net_that_has_diverged():
    task, config = tabular.load_tasks()["diabetes"], tabular.Config(num_steps=40)
    mask = jnp.ones(len(task.examples.inputs), bool)
    for rate, diverges in ((0.01, False), (1e4, True)):
        net = tabular.train_net(jax.random.key(0), task.examples, task, config, mask=mask, learning_rate=rate, l2=0.0)
        assert jnp.isnan(net(task.examples.inputs)).all() == diverges


def test_vanishing_gradients_chooses_on_one_half_of_the_images_and_reports_on_the_other():
    rng = np.random.default_rng(0)
    labels = np.arange(100) % 10
    digits = Batch(jnp.asarray(rng.integers(0, 256, (10, 28, 28, 1), np.uint8)[labels]), jnp.asarray(labels))
    other_half_is_wrong = digits._replace(targets=digits.targets.at[50:].add(1) % 10)
    config = vanishing_gradients.Config(depths=(2,), learning_rates=(0.01,), num_steps=60, num_seeds=1)
    setting = jax.tree.map(lambda leaf: leaf[-1], vanishing_gradients.all_settings(config))  # ReLU, He
    train = jax.jit(functools.partial(vanishing_gradients.train_net, config, 2, False, setting))
    outcome = train(digits, other_half_is_wrong)
    assert (outcome.chosen_by, outcome.reported) == (1, 0)
    assert outcome.norms.shape == (4, 2)
    assert (outcome.norms > 0).all()
    diverged = setting._replace(learning_rate=jnp.array(1e30))
    outcome = vanishing_gradients.train_net(config, 2, False, diverged, digits, digits)
    assert (outcome.chosen_by, outcome.reported) == (0, 0)


def test_optimizers_counts_steps_and_compares_seed_by_seed():
    config = optimizers.Config(("sgd", "adam"), num_steps=75, eval_every=25, num_seeds=2, target=0.2)
    courses = {
        "sgd": np.array([[0.9, 0.3, 0.2], [0.5, 0.1, 0.3]]),
        "adam": np.array([[0.1, 0.1, 0.1], [0.5, 0.2, 0.1]]),
    }
    accuracies = {"sgd": np.array([0.5, 0.7]), "adam": np.array([0.8, 0.9])}
    best, seconds = {"sgd": 0.1, "adam": 0.01}, {"sgd": 0.001, "adam": 0.002}
    summary = optimizers.summarize(config, best, courses, seconds, accuracies)
    assert summary["sgd_steps_to_target"] == 62.5  # 75 and 50
    assert summary["adam_steps_to_target"] == 37.5  # 25 and 50
    assert summary["adam_steps_after_sgd"] == -25  # -50 and 0
    assert summary["adam_steps_after_sgd_sd"] == pytest.approx(np.sqrt(2) * 25)
    assert summary["adam_to_target_seconds"] == pytest.approx(0.075)
    assert summary["adam_validation_loss"] == pytest.approx(0.1)
    assert summary["sgd_test_accuracy"] == pytest.approx(0.6)
    courses["adam"][1] = [0.1, np.inf, np.inf]
    summary = optimizers.summarize(config, best, courses, seconds, accuracies)
    assert summary["adam_num_diverged"] == 1
    nothing = ("validation_loss", "steps_to_target", "steps_after_sgd", "to_target_seconds", "test_accuracy")
    assert [summary[f"adam_{name}"] for name in nothing] == [None] * 5


def test_optimizers_chooses_the_rate_that_reaches_the_target_first_or_else_ends_lowest(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 10
    digits = Batch(jnp.asarray(rng.integers(0, 256, (10, 28, 28, 1), np.uint8)[labels]), jnp.asarray(labels))
    settings = {"learning_rates": (1e-4, 0.1, 1e30), "num_steps": 20, "eval_every": 1, "num_tuning_seeds": 2}
    for target in (0.5, 1e-30):
        (tmp_path / str(target)).mkdir()
        this = run.Run(tmp_path / str(target))
        best = optimizers.tune(optimizers.Config(("sgd",), target=target, **settings), this, digits, digits)
        rows = [json.loads(line) for line in (this.directory / "metrics.jsonl").read_text().splitlines()]
        assert best == {"sgd": 0.1}
        assert [row["steps_to_target"] is not None for row in rows] == [False, target == 0.5, False]
        assert rows[1]["validation_loss"] < rows[0]["validation_loss"]
        assert rows[2]["validation_loss"] is None


def test_overfitting_compares_seed_by_seed():
    config = overfitting.Config(num_seeds=2)
    ends = {  # [seeds, own and test digits, loss and accuracy]
        "nothing": np.array([[[0.0, 1.0], [0.5, 0.8]], [[0.0, 1.0], [0.7, 0.9]]]),
        "early stopping": np.array([[[0.1, 0.9], [0.3, 0.85]], [[0.1, 0.95], [0.4, 0.9]]]),
    }
    summary = overfitting.summarize(config, ends)
    assert summary["nothing_gap"] == pytest.approx(0.15)
    assert summary["early_stopping_gap"] == pytest.approx(0.05)
    assert summary["early_stopping_gain"] == pytest.approx(0.025)
    assert summary["early_stopping_gain_sd"] == pytest.approx(0.05 / np.sqrt(2))
    assert summary["early_stopping_test_loss"] == pytest.approx(0.35)
    assert summary["early_stopping_loss_gain"] == pytest.approx(0.25)
    assert summary["nothing_test_accuracy_sd"] == pytest.approx(0.1 / np.sqrt(2))


def test_optimizers_that_all_diverge_say_so(tmp_path):
    config = optimizers.Config(("sgd",), learning_rates=(1e30,), num_steps=2, eval_every=1, num_tuning_seeds=1)
    few = Batch(jnp.full((100, 28, 28, 1), 255, jnp.uint8), jnp.arange(100) % 10)
    with pytest.raises(RunFailedError, match="sgd diverges at all --learning-rates: give lower ones"):
        optimizers.tune(config, run.Run(tmp_path), few, few)


def test_mnist_cnn_trains_several_nets_and_each_as_if_alone(tmp_path, three_nets):
    done = experiment("mnist_cnn", "--quick", "--seed", 2, "--out", tmp_path / "last")
    assert done.returncode == 0, done.stderr
    summary = read(three_nets, "summary")
    assert summary["num_seeds"] == 3
    assert summary["test_accuracy"] > 0.9
    assert summary["test_accuracy_sd"] > 0
    three, last = ((folder / "metrics.jsonl").read_text().splitlines() for folder in (three_nets, tmp_path / "last"))
    assert three[2::3] == last


@pytest.mark.parametrize(
    ("backend", "settings", "expected"),
    [
        ("cpu", {}, 50),
        ("cpu", {"batch_size": 256}, 256),  # with batch norm, micro-batches would change the statistics
        ("cpu", {"batch_size": 256, "batch_norm": False}, 128),
        ("gpu", {"batch_size": 256, "batch_norm": False}, 256),
        ("cpu", {"batch_size": 257, "batch_norm": False}, 257),  # a prime number
        ("cpu", {"batch_size": 250, "batch_norm": False, "num_devices": 2}, 50),
        ("cpu", {"batch_size": 100, "micro_batch": 20}, 20),
    ],
)
def test_mnist_cnn_chooses_its_micro_batch(monkeypatch, backend, settings, expected):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert mnist_cnn.choose_micro_batch(mnist_cnn.Config(**settings)) == expected


@pytest.fixture(scope="module")
def clothes(tmp_path_factory):
    """The folder of a run that stopped early, of two nets on Fashion-MNIST."""
    folder = tmp_path_factory.mktemp("runs") / "clothes"
    settings = ["--dataset", "fashion_mnist", "--schedule", "constant", "--epochs", 20, "--patience", 1]
    done = experiment("mnist_cnn", "--quick", *settings, "--num-seeds", 2, "--out", folder)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert re.search(r"^seed 1 stopped at step [68]0, its best was at step [46]0$", done.stderr, re.MULTILINE)
    return folder


def test_mnist_cnn_stops_early_and_keeps_the_best(clothes):
    config, nets = run.load(clothes)
    rows = [json.loads(line) for line in (clothes / "metrics.jsonl").read_text().splitlines()]
    summary = read(clothes, "summary")
    best = []
    for seed in (0, 1):
        looks = [row for row in rows if row["seed"] == seed]
        accuracies = [row["validation_accuracy"] for row in looks]
        assert accuracies == [*sorted(set(accuracies[:-1])), accuracies[-1]]  # each better than the last but one
        assert accuracies[-1] <= accuracies[-2]
        assert nets.step[seed] == looks[-2]["step"] < 800
        best.append(accuracies[-2])
    assert summary["validation_accuracy"] == pytest.approx(np.mean(best))
    model = cnn.from_flax(cnn.CNN(config.channels, hidden_size=config.hidden_size))
    validation = datasets.fashion_mnist(num_validation=config.num_validation).validation
    for seed in (0, 1):
        params, state = jax.tree.map(lambda leaf, seed=seed: leaf[seed], (nets.params, nets.state))
        logits, _ = model.apply(params, state, mnist_cnn.scale(jnp.asarray(validation.inputs)))
        assert metrics.accuracy(logits, validation.targets) == pytest.approx(best[seed], abs=0.003)
    assert read(clothes, "environment")["data_sha256"] == datasets.SHA256["fashion_mnist"]


def test_mnist_cnn_killed_and_resumed_is_mnist_cnn_unbroken(tmp_path, clothes):
    settings = ["--quick", "--dataset", "fashion_mnist", "--schedule", "constant", "--epochs", 20, "--patience", 1]
    folder = tmp_path / "killed"
    num_rows = len((clothes / "metrics.jsonl").read_text().splitlines())
    command = [*COMMAND, "mnist_cnn"]
    kill_and_resume(command, *settings, "--num-seeds", 2, folder=folder, num_rows=num_rows, num_kills=2)
    assert left_by(folder) == left_by(clothes)


@pytest.mark.parametrize("patience", [None, 1])
def test_mnist_cnn_goes_on_without_the_net_that_diverged(tmp_path, monkeypatch, capsys, patience):
    sizes = {"channels": (2, 2), "hidden_size": 4, "batch_norm": False}
    config = mnist_cnn.Config(
        num_train=40, batch_size=10, epochs=3, eval_every=5, num_seeds=3, patience=patience, **sizes
    )
    model = cnn.from_flax(cnn.CNN((2, 2), hidden_size=4, batch_norm=False))
    images = jax.random.randint(jax.random.key(0), (40, 28, 28, 1), 0, 256).astype(jnp.uint8)
    batch = Batch(images, jnp.arange(40) % 10)
    initial = [model.init(jax.random.split(jax.random.key(seed))[0], images / 255)[0] for seed in range(3)]
    loss_fn = mnist_cnn.make_loss(config, model)

    def diverge_for_seed_1(params, state, batch, keys):
        losses, state = loss_fn(params, state, batch, keys)
        first = params["Conv_0"]["kernel"][0, 0, 0, 0] - initial[1]["Conv_0"]["kernel"][0, 0, 0, 0]
        return jnp.where(jnp.abs(first) < 1e-9, jnp.nan, losses), state

    def predict(nets, inputs):
        return jax.vmap(lambda net: model.apply(net.params, net.state, inputs / 255)[0])(nets)

    monkeypatch.setattr(mnist_cnn, "make_loss", lambda config, model: diverge_for_seed_1)
    nets = mnist_cnn.train_nets(config, run.Run(tmp_path), model, predict, None, batch, batch)
    assert nets.failed.tolist() == [False, True, False]
    assert nets.step[1] == 0
    jax.tree.map(lambda net, begin: np.testing.assert_array_equal(net[1], begin), nets.params, initial[1])
    assert "seed 1 diverged at step 0: its loss (nan)" in capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["seed"] == 1] == [5]
    assert all((row["train_loss"] is None) == (row["seed"] == 1) for row in rows)
    if patience is None:
        assert nets.step.tolist() == [12, 0, 12]


def test_mnist_cnn_that_diverges_says_so(tmp_path):
    arguments = [
        "--quick",
        "--optimizer",
        "sgd",
        "--learning-rate",
        "1e30",
        "--no-batch-norm",
        "--out",
        tmp_path / "run",
    ]
    done = experiment("mnist_cnn", *arguments)
    assert done.returncode == 1
    said = "seed 0 diverged at step 1: its loss (nan) or the gradient is no longer finite, at learning rate 4.411e+28"
    assert said in done.stderr
    assert "no net of this run is left, all diverged: begin a new one with a lower --learning-rate" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "expected"),
    [  # two updates of a weight of 1 under a gradient of 1, with learning rate 0.1 and momentum 0.5, by hand
        ({"optimizer": "sgd"}, [-0.1, -0.1]),
        ({"optimizer": "momentum"}, [-0.1, -0.15]),
        ({"optimizer": "nesterov"}, [-0.15, -0.175]),
        ({"optimizer": "adagrad"}, [-0.1 / np.sqrt(1.1), -0.1 / np.sqrt(2.1)]),
        ({"optimizer": "rmsprop"}, [-0.1 / np.sqrt(0.1), -0.1 / np.sqrt(0.19)]),
        ({"optimizer": "adam", "l2": 0.5}, [-0.1, -0.1]),
        ({"optimizer": "adamw", "l2": 0.5}, [-0.15, -0.1 - 0.05 * 0.85]),
    ],
)
def test_mnist_cnn_optimizers_take_the_steps_of_their_formulas(settings, expected):
    config = mnist_cnn.Config(schedule="constant", learning_rate=0.1, momentum=0.5, **settings)
    optimizer = mnist_cnn.make_optimizer(config)
    params = {"weight": jnp.ones((1, 1)), "bias": jnp.ones(1)}
    state, gradient = optimizer.init(params), {"weight": jnp.ones((1, 1)), "bias": jnp.zeros(1)}
    for update in expected:
        updates, state = optimizer.update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        np.testing.assert_allclose(updates["weight"], [[update]], rtol=1e-3)
    assert params["bias"] == 1  # no gradient, no decay


def test_mnist_cnn_muon_orthogonalises_its_steps():
    optimizer = mnist_cnn.make_optimizer(mnist_cnn.Config(optimizer="muon", schedule="constant", learning_rate=1.0))
    gradient = {"weight": jnp.diag(jnp.array([1.0, 10.0]))}
    updates, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
    np.testing.assert_allclose(jnp.linalg.svd(updates["weight"], compute_uv=False), [1, 1], atol=0.35)


@pytest.mark.parametrize(
    ("schedule", "expected"),  # learning rates at the start, at 30 % and at the end of 200 steps
    [("one-cycle", [0.1 / 25, 0.1, 0.0]), ("cosine", [0.1, 0.0794, 0.0]), ("constant", [0.1, 0.1, 0.1])],
)
def test_mnist_cnn_schedules(schedule, expected):
    settings = {"num_train": 1000, "batch_size": 50, "epochs": 10}
    config = mnist_cnn.Config(optimizer="sgd", schedule=schedule, learning_rate=0.1, **settings)
    optimizer = mnist_cnn.make_optimizer(config)
    update = jax.jit(lambda state: optimizer.update(jnp.ones(1), state))
    state, rates = optimizer.init(jnp.ones(1)), []
    for _ in range(config.num_steps + 1):
        updates, state = update(state)
        rates.append(-updates.item())
    np.testing.assert_allclose([rates[0], rates[60], rates[200]], expected, atol=1e-4)


def test_mnist_cnn_loss_is_what_its_settings_say():
    images = jax.random.randint(jax.random.key(0), (4, 28, 28, 1), 0, 256).astype(jnp.uint8)
    batch, keys = Batch(images, jnp.arange(4)), jax.random.split(jax.random.key(1), 4)
    params = {"weight": jnp.full((1, 1), 2.0)}

    def apply(params, state, inputs, key):
        return inputs.reshape(4, -1)[:, 300:310], {"seen": inputs}

    def values(**settings):
        plain = {"label_smoothing": 0.0, "max_shift": 0, "max_rotation": 0.0, "l2": 0.0}
        config = mnist_cnn.Config(**{**plain, **settings})
        losses, state = mnist_cnn.make_loss(config, Model(None, apply))(params, {}, batch, keys)
        return np.asarray(losses), np.asarray(state["seen"])

    pixels = np.asarray(images, np.float32) / 255
    log_probs = np.asarray(jax.nn.log_softmax(pixels.reshape(4, -1)[:, 300:310]))
    label_losses = -log_probs[np.arange(4), np.arange(4)]
    plain, seen = values()
    np.testing.assert_allclose(plain, label_losses, rtol=1e-5)
    np.testing.assert_allclose(seen, pixels, rtol=1e-6)
    np.testing.assert_allclose(values(l2=0.5)[0], label_losses + 0.5 * 4, rtol=1e-5)
    np.testing.assert_allclose(values(l2=0.5, optimizer="adamw")[0], label_losses, rtol=1e-5)
    smooth = 0.8 * label_losses - 0.2 * log_probs.mean(axis=1)
    np.testing.assert_allclose(values(label_smoothing=0.2)[0], smooth, rtol=1e-5)
    for augmentation in ({"max_shift": 3}, {"max_rotation": 30.0}):
        assert not np.array_equal(values(**augmentation)[1], pixels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mnist_cn"], "no experiment is called 'mnist_cn': did you mean mnist_cnn?"),
        (["xyz"], "no experiment is called 'xyz'; there are:"),
        ([], "name an experiment; there are:"),
        (["mnist_cnn", "--batch-size", "0"], "--batch-size must be in 1 ... 55000, not 0"),
        (["mnist_cnn", "--batch-siez", "7"], "--batch-size"),
    ],
)
def test_bad_usage_exits_with_2(arguments, message):
    done = experiment(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_list_has_every_experiment_with_its_first_line():
    lines = experiment("--list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert all(len(line.split()) > 5 for line in lines)
    assert re.search(r"^mnist_cnn +\d+ (min|s).* A convolutional network reads", "\n".join(lines), re.MULTILINE)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"batch_size": -1}, "--batch-size must be in 1 ... 55000, not -1"),
        ({"num_train": 100, "batch_size": 101}, "--batch-size must be in 1 ... 100, not 101"),
        ({"num_train": 56_000}, "--num-train must be in 1 ... 55000"),
        ({"max_shift": 28}, "--max-shift must be in 0 ... 27"),
        ({"epochs": 10**9}, "--epochs must be fewer"),
        ({"num_seeds": 2**31}, "--num-seeds must be in 1 ... 2147483647, not 2147483648"),
        ({"num_validation": 0}, "--num-validation must be in 1 ... 59999"),
        ({"learning_rate": 0.0}, "--learning-rate must be finite and above 0, not 0.0"),
        ({"learning_rate": float("nan")}, "--learning-rate must be finite and above 0, not nan"),
        ({"dropout": 1.0}, "--dropout must be in"),
        ({"momentum": -0.1}, "--momentum must be in"),
        ({"label_smoothing": 1.5}, "--label-smoothing must be in"),
        ({"l2": float("inf")}, "--l2 must be finite and 0 or more"),
        ({"seed": -1}, "--seed must be in 0"),
        ({"seed": 2**31 - 4, "num_seeds": 5}, "--seed must be in 0 ... 2147483643, not 2147483644"),
        ({"epochs": 0}, "--epochs must be 1 or more"),
        ({"num_seeds": 0}, "--num-seeds must be in 1 ... 2147483647, not 0"),
        ({"channels": (8, 0)}, "--channels must be 1 or more"),
        ({"max_shift": -1}, "--max-shift must be in 0"),
        ({"patience": 0}, "--patience must be 1 or more, not 0"),
        ({"num_devices": 3}, "--num-devices must be 1 or more, and divide the batch size 50, not 3"),
        ({"num_devices": 0}, "--num-devices must be 1 or more, and"),
        ({"micro_batch": 20}, "--micro-batch must be a divisor of the batch size 50"),
        ({"micro_batch": 5, "num_devices": 2}, "--micro-batch must be a divisor"),
    ],
)
def test_mnist_cnn_refuses(setting, message):
    with pytest.raises(ValueError, match="^" + message.replace("...", r"\.\.\.")):
        mnist_cnn.Config(**setting)


def test_predict_reads_digits_of_all_kinds(three_nets, tmp_path):
    done = experiment("predict", "--run", three_nets, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    read_as = {Path(row["picture"]).stem.partition("_")[0]: row["digit"] for row in rows}
    assert sum(read_as[name] == digit for digit, name in enumerate(names)) >= 9  # nets trained for seconds may miss one
    probabilities = np.array([row["probabilities"] for row in rows])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)

    config, nets = run.load(three_nets)
    digit = images.read_digit(ROOT / rows[0]["picture"])[1]
    model = cnn.from_flax(cnn.CNN(config.channels, hidden_size=config.hidden_size))
    logits, _ = jax.vmap(model.apply, (0, 0, None))(nets.params, nets.state, jnp.asarray(digit[None] / 255, np.float32))
    np.testing.assert_allclose(probabilities[0], jax.nn.softmax(logits[:, 0]).mean(axis=0), rtol=1e-3)


def test_predict_leaves_out_nets_that_diverged(three_nets, tmp_path):
    _, nets = run.load(three_nets)
    for failed in ([False, True, False], [True, True, True]):
        folder = tmp_path / str(sum(failed))
        folder.mkdir()
        (folder / "config.json").write_text((three_nets / "config.json").read_text())
        saved = {**vars(nets), "train_state": None, "failed": np.array(failed)}
        checkpoint.save(folder / "checkpoints" / "00000080", training.EarlyStopping(**saved))
    _, (params, _) = predict.load_nets(tmp_path / "1")
    jax.tree.map(np.testing.assert_array_equal, params, jax.tree.map(lambda leaf: leaf[::2], nets.params))
    with pytest.raises(BadUsageError, match=r"all nets of .* diverged"):
        predict.load_nets(tmp_path / "3")


def write_other_run(folder):
    checkpoint.save(folder / "checkpoints" / "00000001", {"weight": np.ones(3)})
    (folder / "config.json").write_text('{"experiment": "another"}')
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: ["--run", folder], "is no folder of a run with a checkpoint"),
        (lambda folder: ["--run", write_other_run(folder / "other")], "is no run of mnist_cnn on mnist"),
        (lambda folder: ["--images", folder / "missing.png"], "missing.png: No such file or directory"),
        (lambda folder: ["--images", folder, folder / "lost.png"], "lost.png: No such file or directory"),  # the second
        (lambda folder: ["--images", __file__], "it is no picture that can be read, such as a PNG or JPEG"),
    ],
)
def test_predict_refuses(three_nets, tmp_path, make, message):
    arguments = make(tmp_path)
    if "--run" not in arguments:
        arguments += ["--run", three_nets]
    done = experiment("predict", *arguments, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_predict_without_a_run_says_how_to_make_one(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadUsageError, match="train a net with make experiment NAME=mnist_cnn"):
        predict.find_run(None)
    for name in ("old", "new", "unfinished"):
        (tmp_path / "runs" / "mnist_cnn" / name).mkdir(parents=True)
    for number, content in enumerate(["{", "[]", "3"]):  # folders that something else has left there
        broken = tmp_path / "runs" / f"broken_{number}"
        broken.mkdir()
        (broken / "config.json").write_text(content)
        (broken / "summary.json").touch()
    (tmp_path / "runs" / "summary.json").touch()
    for age, name in enumerate(["new", "old"]):
        summary = tmp_path / "runs" / "mnist_cnn" / name / "summary.json"
        summary.touch()
        (summary.parent / "config.json").write_text('{"experiment": "mnist_cnn", "dataset": "mnist"}')
        os.utime(summary, (100 - age, 100 - age))
    assert predict.find_run(None) == Path("runs/mnist_cnn/new")
    (tmp_path / "runs/mnist_cnn/new/config.json").write_text('{"experiment": "mnist_cnn", "dataset": "fashion_mnist"}')
    assert predict.find_run(None) == Path("runs/mnist_cnn/old")
    assert predict.find_run(tmp_path) == tmp_path


def test_predict_refuses_nets_that_read_no_digits(clothes):
    with pytest.raises(BadUsageError, match="is no run of mnist_cnn on mnist"):
        predict.load_nets(clothes)
