import functools

import jax
import jax.numpy as jnp
import nist
import numpy as np
import pytest
from sklearn import linear_model

from jaxnn import linear_models, losses, models
from jaxnn.lab import datasets

RNG_32 = np.random.default_rng(3)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)) @ np.diag([1.0, 10.0, 0.1]) + 5
Y = X @ RNG.normal(size=(3, 2)) + 2 + RNG.normal(size=(40, 2))
LABELS = (X[:, 0] - 0.1 * X[:, 1] + RNG.normal(size=40) > 4.5).astype(int)


least_squares = jax.jit(linear_models.least_squares, static_argnames="intercept")
lasso = jax.jit(linear_models.lasso)
logistic_regression = jax.jit(linear_models.logistic_regression, static_argnames="intercept")
softmax_regression = jax.jit(
    linear_models.softmax_regression, static_argnames=("num_classes", "intercept", "max_steps")
)


def predict(params, inputs, num_outputs=2):
    return models.linear(num_outputs).apply(params, {}, jnp.asarray(inputs))[0]


def with_nan(values):
    spoilt = values.copy()
    spoilt[1, 0] = np.nan
    return spoilt


def stacked(params):
    """The bias above the weights."""
    return np.concatenate([np.asarray(params["bias"])[None], np.asarray(params["weight"])])


def mean_squared_error(params, inputs, targets):
    outputs, _ = models.linear(2).apply(params, {}, inputs)
    return losses.squared_error(outputs, targets).mean()


def test_least_squares_is_numpys_and_its_gradient_vanishes(x64):
    fit = linear_models.least_squares(X, Y)
    expected = np.linalg.lstsq(np.c_[np.ones(40), X], Y, rcond=None)[0]
    np.testing.assert_allclose(stacked(fit.params), expected, atol=1e-10)
    assert fit.rank == 3
    gradient = jax.jit(jax.grad(mean_squared_error))(fit.params, jnp.asarray(X), jnp.asarray(Y))
    assert max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(gradient)) < 1e-10


@pytest.mark.parametrize(
    ("name", "digits"),  # that are right at least, of the weight with the fewest
    [("LONGLEY", 11), ("WAMPLER_1", 9), ("WAMPLER_2", 9), ("FILIP", 7)],
)
def test_least_squares_has_nists_certified_digits(x64, name, digits):
    inputs, targets, certified = getattr(nist, name)
    fit = least_squares(inputs, targets[:, None])
    error = np.abs(stacked(fit.params)[:, 0] - certified) / np.abs(certified)
    assert -np.log10(error.max()) >= digits
    assert fit.rank == inputs.shape[1]


def test_collinear_and_constant_columns_lower_the_rank_and_change_no_prediction(x64):
    inputs = np.c_[X, X[:, :1] - 2 * X[:, 1:2], np.full(40, 0.1)]
    fit, without = least_squares(inputs, Y), least_squares(X, Y, l2=0.0)
    assert fit.rank == 3
    np.testing.assert_allclose(predict(fit.params, inputs), predict(without.params, X), atol=1e-9)
    np.testing.assert_allclose(fit.params["weight"][-1], 0, atol=1e-12)


def test_fewer_rows_than_columns_are_met_exactly(x64):
    fit = least_squares(X[:3], Y[:3])
    assert fit.rank == 2
    np.testing.assert_allclose(predict(fit.params, X[:3]), Y[:3], atol=1e-9)


@pytest.mark.parametrize("l2", [1e-3, 0.1, 10.0])
def test_ridge_is_scikit_learns(x64, l2):
    fit = least_squares(X, Y, l2=l2)
    expected = linear_model.Ridge(alpha=40 * l2, solver="svd").fit(X, Y)
    np.testing.assert_allclose(fit.params["weight"], expected.coef_.T, atol=1e-9)
    np.testing.assert_allclose(fit.params["bias"], expected.intercept_, atol=1e-8)


@pytest.mark.parametrize("l1", [1e-3, 0.1, 1.0])
def test_lasso_is_scikit_learns(x64, l1):
    fit = lasso(X, Y, l1=l1)
    expected = [linear_model.Lasso(alpha=l1 / 2, tol=1e-12, max_iter=100_000).fit(X, y) for y in Y.T]
    assert fit.converged
    np.testing.assert_allclose(fit.params["weight"].T, [one.coef_ for one in expected], atol=1e-6)
    np.testing.assert_allclose(fit.params["bias"], [one.intercept_ for one in expected], atol=1e-5)


@pytest.mark.parametrize("intercept", [True, False])
def test_lasso_of_a_raw_table_has_no_duality_gap(x64, intercept):
    """The scales of its columns span five powers of ten; one is there twice, one is constant."""
    inputs, labels = datasets.breast_cancer()
    x = np.c_[inputs, inputs[:, 3], np.full(len(inputs), 7.0)]
    y = labels[:, None].astype(float)
    penalties = np.array([0, 1e-3, 1e-1, 1e9])
    fit = jax.jit(lambda x, y: jax.vmap(lambda l1: linear_models.lasso(x, y, l1=l1, intercept=intercept))(penalties))
    double, single = fit(x, y), fit(x.astype(np.float32), y.astype(np.float32))
    assert double.converged.all()
    assert single.converged.all()
    assert intercept or (double.params["bias"] == 0).all()
    x, y = (x - x.mean(axis=0), y - y.mean()) if intercept else (x, y)
    for l1, *weights in zip(penalties, double.params["weight"], single.params["weight"], strict=True):
        residual, rounded = (y - x @ np.asarray(weight, float) for weight in weights)
        reached = np.mean(residual**2) + l1 * np.abs(weights[0]).sum()
        least = np.mean((y - x @ np.linalg.lstsq(x, y)[0]) ** 2)
        if l1 > 0:  # what any dual point gives is below the minimum
            dual = 2 * residual / len(y) * min(1, l1 / np.abs(x.T @ (2 * residual / len(y))).max())
            least = np.sum(dual * y) - len(y) * np.sum(dual**2) / 4
        assert reached - least < 1e-8
        assert np.mean(rounded**2) + l1 * np.abs(weights[1]).sum() - reached < 1e-4 * np.mean(y**2)
    assert (weights[0] == 0).all()


def test_lasso_in_float32_finds_the_truth_whatever_the_units():
    x = RNG_32.normal(size=(200, 3)).astype(np.float32)
    targets = x @ np.array([[1], [2], [3]], np.float32)
    fit = lasso(x * np.float32([1, 1e5, 1]), targets, l1=0.01)
    assert fit.converged
    np.testing.assert_allclose(fit.params["weight"][:, 0], [1, 2e-5, 3], rtol=0.02)


def test_lasso_side_by_side_is_lasso_alone_and_ends_without_weights(x64):
    centred = Y[:, :1] - Y[:, :1].mean()
    largest = 2 * np.abs((X - X.mean(axis=0)).T @ centred).max() / 40
    strengths = jnp.array([0.01, 0.5 * largest, 1.001 * largest])
    together = jax.vmap(lambda l1: lasso(X, Y[:, :1], l1=l1).params["weight"])(strengths)
    for l1, weight in zip(strengths, together, strict=True):
        np.testing.assert_allclose(weight, lasso(X, Y[:, :1], l1=l1).params["weight"], atol=1e-9)
    assert (together[2] == 0).all()
    assert (together[1] != 0).any()


def test_largest_curvature_is_that_of_the_hessian(x64):
    def loss(flat):
        return jnp.mean((X @ flat[:3] + flat[3] - Y[:, 0]) ** 2)

    expected = np.linalg.eigvalsh(jax.jit(jax.hessian(loss))(np.zeros(4)))[-1]
    np.testing.assert_allclose(linear_models.largest_curvature(X), expected, rtol=1e-12)


@pytest.mark.parametrize("l2", [0.0, 1e-3, 0.1])
def test_logistic_regression_is_scikit_learns(x64, l2):
    fit = logistic_regression(X, LABELS, l2=l2)
    inverse = np.inf if l2 == 0 else 1 / (2 * 40 * l2)
    expected = linear_model.LogisticRegression(C=inverse, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    expected.fit(X, LABELS)
    assert fit.converged
    assert not fit.separated
    np.testing.assert_allclose(fit.params["weight"][:, 0], expected.coef_[0], atol=1e-6)
    np.testing.assert_allclose(fit.params["bias"], expected.intercept_, atol=1e-5)


def test_softmax_regression_is_scikit_learns(x64):
    inputs, labels = datasets.iris()
    fit = softmax_regression(inputs, labels, num_classes=3, l2=1e-3)
    expected = linear_model.LogisticRegression(C=1 / (2 * 150 * 1e-3), tol=1e-10, max_iter=10_000).fit(inputs, labels)
    assert fit.converged
    probs = jax.nn.softmax(predict(fit.params, inputs, 3))
    np.testing.assert_allclose(probs, expected.predict_proba(inputs), atol=1e-5)
    np.testing.assert_allclose(fit.params["weight"].sum(axis=1), 0, atol=1e-10)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_without_intercept_a_classifier_is_scikit_learns(x64, num_classes):
    inputs, labels = (part[: 50 * num_classes] for part in datasets.iris())
    softmax = functools.partial(softmax_regression, num_classes=3)
    fit = (softmax if num_classes == 3 else logistic_regression)(inputs, labels, l2=1e-2, intercept=False)
    theirs = linear_model.LogisticRegression(
        C=1 / (2 * len(inputs) * 1e-2), fit_intercept=False, tol=1e-10, max_iter=10_000
    )
    expected = theirs.fit(inputs, labels).coef_.T
    np.testing.assert_allclose(fit.params["weight"], expected, atol=1e-5)
    assert (fit.params["bias"] == 0).all()


@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_least_squares_without_intercept_is_scikit_learns(x64, l2):
    fit = least_squares(X, Y, l2=l2, intercept=False)
    theirs = linear_model.Ridge(alpha=40 * l2, solver="svd", fit_intercept=False).fit(X, Y)
    np.testing.assert_allclose(fit.params["weight"], theirs.coef_.T, atol=1e-9)
    assert (fit.params["bias"] == 0).all()


def test_softmax_of_two_classes_is_logistic_regression(x64):
    softmax = softmax_regression(X, LABELS, num_classes=2).params
    logistic = logistic_regression(X, LABELS, l2=0.0).params
    np.testing.assert_allclose(softmax["weight"][:, 1] - softmax["weight"][:, 0], logistic["weight"][:, 0], atol=1e-7)


def test_separable_classes_are_recognised(x64):
    labels = (X[:, 1] > 5).astype(int)
    free = logistic_regression(X, labels, l2=0.0)
    assert free.separated
    longer = logistic_regression(X, labels, tol=1e-13)
    assert jnp.linalg.norm(longer.params["weight"]) > 1.1 * jnp.linalg.norm(free.params["weight"])
    assert softmax_regression(X, labels, num_classes=2).separated
    xor = logistic_regression(np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0]))
    assert xor.converged
    assert not xor.separated
    assert jnp.abs(xor.params["weight"]).max() < 1e-9


def test_large_inputs_do_no_harm(x64):
    fit = logistic_regression(1e6 * X, LABELS, l2=0.0)
    small = logistic_regression(X, LABELS, l2=0.0)
    np.testing.assert_allclose(1e6 * fit.params["weight"], small.params["weight"], rtol=1e-6)


def test_float32_and_many_rows_lose_no_column():
    inputs = (100 + np.random.default_rng(1).normal(size=(100_000, 3))).astype(np.float32)
    targets = inputs @ np.array([[1], [2], [3]], np.float32)
    fit = least_squares(inputs, targets)
    assert fit.rank == 3
    np.testing.assert_allclose(fit.params["weight"][:, 0], [1, 2, 3], rtol=1e-3)
    labels = (targets[:, 0] > 600).astype(int)
    logistic = logistic_regression(inputs, labels, l2=1e-2)
    assert logistic.converged
    assert (logistic.params["weight"] > 0.1).all()


@pytest.mark.parametrize("unit", [1e-25, 1e25])
def test_the_unit_of_the_inputs_does_not_matter(unit):
    inputs, targets = X.astype(np.float32), Y.astype(np.float32)
    plain, scaled = (least_squares(x, targets) for x in (inputs, inputs * np.float32(unit)))
    assert scaled.rank == plain.rank == 3
    np.testing.assert_allclose(scaled.params["weight"] * unit, plain.params["weight"], rtol=1e-4)


def test_computes_in_what_is_given(x64):
    inputs = X.astype(np.float32)
    assert logistic_regression(inputs, LABELS, l2=0.1).params["weight"].dtype == np.float32
    mixed, whole = (lasso(some, Y[:, :1], l1=0.1).params["weight"] for some in (inputs, X))
    assert mixed.dtype == np.float64
    np.testing.assert_allclose(mixed, whole, atol=1e-6)


def test_a_large_constant_column_hides_no_other(x64):
    fit = least_squares(np.c_[X, np.full(40, 1e13)], Y)
    assert fit.rank == 3
    np.testing.assert_allclose(fit.params["weight"][:3], least_squares(X, Y, l2=0.0).params["weight"], rtol=1e-9)


@pytest.mark.parametrize("mean", [1e5, 1e7])
def test_a_large_mean_in_float32_hides_no_other_column(mean):
    x = RNG_32.normal(size=(200, 3)).astype(np.float32)
    targets = x[:, :1] + 3 * x[:, 2:]
    x[:, 1] += np.float32(mean)  # beyond 1e6, what is left of this column is rounding
    fit = least_squares(x, targets)
    assert fit.rank == 2 + (mean < 1e6)
    np.testing.assert_allclose(fit.params["weight"][:, 0], [1, 0, 3], atol=1e-3)


@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_the_error_covers_nists_wampler_in_float32(size):
    """Its residuals, `size` times as large as in Wampler 3, leave some weights without a digit at full rank."""
    inputs, targets, certified = nist.WAMPLER_1
    pattern = [759, -2048, 2048, -2048, 2523, -2048, 2048, -2048, 1838, -2048, 2048]
    targets = targets + size * np.array(pattern + pattern[-2::-1])
    fit = least_squares(inputs.astype(np.float32), targets[:, None].astype(np.float32))
    wrong = np.abs(fit.params["weight"][:, 0] - certified[1:])
    assert fit.rank == 5
    assert (fit.error[wrong > 1] > 1).all()
    assert (wrong < 30 * fit.error[:, 0]).all()


@pytest.mark.parametrize("scale", [1e-12, 1e9])
def test_lasso_does_not_depend_on_the_unit_of_the_targets(x64, scale):
    fit, scaled = (lasso(X, unit * Y[:, :1], l1=0.1 * unit) for unit in (1, scale))
    np.testing.assert_allclose(scaled.params["weight"] / scale, fit.params["weight"], atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear_models.least_squares(X.astype(int), Y), "inputs must be float32 or float64, not int64"),
        (
            lambda: linear_models.lasso(X.astype(np.float16), Y, l1=0.1),
            "inputs must be float32 or float64, not float16",
        ),
        (lambda: linear_models.largest_curvature(X.astype(int)), "inputs must be float32 or float64, not int64"),
        (lambda: linear_models.lasso(X, Y, l1=-1), "lasso: l1 must be 0 or more, and finite, not -1.0"),
        (lambda: linear_models.least_squares(X, Y, l2=np.nan), "l2 must be 0 or more, and finite, not nan"),
        (lambda: linear_models.logistic_regression(X, LABELS, l2=-0.1), "l2 must be 0 or more, and finite, not -0.1"),
        (lambda: linear_models.logistic_regression(X, 2 * LABELS - 1), r"labels .* 0 \.\.\. 1, not -1 at \[\d+\]"),
        (lambda: linear_models.softmax_regression(X, LABELS + 1, num_classes=2), r"numbered 0 \.\.\. 1, not 2 at"),
        (lambda: linear_models.least_squares(with_nan(X), Y), r"inputs must be finite, not nan at \[1, 0\]"),
        (lambda: linear_models.lasso(X, with_nan(Y), l1=1), r"targets must be finite, not nan at \[1, 0\]"),
        (lambda: linear_models.least_squares(X, Y[:, 0]), r"\(40, 3\) and \(40,\): give targets\[:, None\]"),
        (lambda: linear_models.lasso(X, Y[:-1], l1=0.1), r"as many examples.*\(40, 3\) and \(39, 2\)"),
        (lambda: linear_models.least_squares(X[:, 0], Y), r"\(40,\) and \(40, 2\)"),
        (lambda: linear_models.least_squares(X[:0], Y[:0]), "at least one"),
        (lambda: linear_models.logistic_regression(X, LABELS[:, None]), r"give labels\[:, 0\]"),
        (lambda: linear_models.logistic_regression(X, LABELS.astype(float)), "needs integer labels"),
        (lambda: linear_models.softmax_regression(X, LABELS[1:], num_classes=2), "as many examples"),
        (
            lambda: linear_models.softmax_regression(X, LABELS, num_classes=0),
            "num_classes must be an integer of 2 or more",
        ),
        (lambda: linear_models.least_squares(X[:, :0], Y), "at least one of each"),
        (lambda: linear_models.least_squares(X, Y, l2=np.ones(3)), r"l2 must be one number, not of shape \(3,\)"),
        (lambda: linear_models.least_squares(X, Y * 1j), "targets must be real numbers, not complex128"),
    ],
)
def test_refuses(x64, as_users_see_it, call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("fit", "targets", "setting"),
    [
        (lambda x, y, l2: linear_models.least_squares(x, y, l2=l2), Y, 0.1),
        (lambda x, y, l1: linear_models.lasso(x, y, l1=l1), Y, 0.1),
        (lambda x, y, l2: linear_models.logistic_regression(x, y, l2=l2), LABELS, 0.1),
    ],
)
def test_what_is_refused_gives_nan_under_jit(x64, fit, targets, setting):
    fit, wrong = jax.jit(fit), with_nan(targets) if targets is Y else 2 * targets - 1
    for arguments in ((with_nan(X), targets, setting), (X, wrong, setting), (X, targets, -1.0)):
        assert all(jnp.isnan(leaf).all() for leaf in jax.tree.leaves(fit(*arguments).params))


@pytest.mark.parametrize(
    "call", [lambda: linear_models.least_squares(X, Y), lambda: linear_models.largest_curvature(X)]
)
def test_refuses_to_round_float64(as_users_see_it, call):
    with pytest.raises(ValueError, match="float64 would be rounded to float32: switch on jax_enable_x64"):
        call()


def test_refuses_to_cut_integers(as_users_see_it):
    inputs, wrong = np.asarray(X, np.float32), 2**32 + np.asarray(LABELS, np.int64)
    for call in (
        lambda: linear_models.least_squares(inputs, wrong[:, None]),
        lambda: linear_models.logistic_regression(inputs, wrong),
        lambda: linear_models.softmax_regression(inputs, wrong, num_classes=3),
    ):
        with pytest.raises(ValueError, match=r"429496729. does not fit into int32: switch on jax_enable_x64"):
            call()


def test_labels_of_few_bits_name_the_same_classes():
    inputs, labels = np.asarray(X[:, :1], np.float32), np.asarray(LABELS)
    few, many = (
        softmax_regression(inputs, labels.astype(dtype), num_classes=130, max_steps=1) for dtype in (np.int8, int)
    )
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), few, many))
