"""Linear and logistic models fitted to their optimum. `params` are those of `models.linear`."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Integer

from jaxnn.data import refuse_rounding, require_integer
from jaxnn.descent import default_tolerance, newton
from jaxnn.layers import dense
from jaxnn.losses import l2_penalty, sigmoid_cross_entropy, softmax_cross_entropy
from jaxnn.types import Params


class LeastSquaresFit(NamedTuple):
    """`params`, and the rank of the centred inputs: below the number of features, other weights fit equally well.

    `condition` is the ratio c of the largest to the smallest singular value of the centred columns at equal length: a
    relative error in the data may be c + c² ‖residual‖ / ‖fit‖ times larger in the weights. `error` is how far rounding
    the data to their dtype may have moved each weight, to first order: a smaller weight has no certain digit.

    With `l2`, which makes the weights unique, all three are those of the penalised problem.
    """

    params: Params
    rank: Int[Array, ""]
    condition: Float[Array, ""]
    error: Float[Array, "features outputs"]


def least_squares(
    inputs: Float[ArrayLike, "examples features"],
    targets: Float[ArrayLike, "examples outputs"],
    *,
    l2: ArrayLike = 0.0,
    intercept: bool = True,
) -> LeastSquaresFit:
    """The minimum of 1/N Σ ‖y - yᵗ‖² + l2 Σ w² (deck, page 3): least squares, or with `l2` ridge, whose bias is free.

    By a singular value decomposition of the centred columns at equal length. Where the columns are collinear, the
    weights are the shortest at that scale. Without `intercept` nothing is centred and the bias is 0. (scikit-learn's
    Ridge has the sum over examples: its alpha is N · l2.)
    """
    x, y = _check("least_squares", inputs, targets)
    l2 = _check_penalty("least_squares: l2", l2, x.dtype)
    x, x_mean, constant = _centre(x, intercept)
    y, y_mean, _ = _centre(y, intercept)
    penalty = jnp.sqrt(len(x) * l2) * jnp.eye(x.shape[1], dtype=x.dtype)
    columns, length = _normalize(jnp.concatenate([x, penalty]), constant)
    eps = jnp.finfo(x.dtype).eps
    rounding = jnp.where(constant, 1, jnp.maximum(jnp.abs(x_mean) / length, 1))  # by how much the mean enlarges it
    shrink = jnp.maximum(rounding * jnp.sqrt(eps), 1)  # beyond half the digits, lest such a column hide the others
    columns, length, rounding = columns / shrink, length * shrink, rounding / shrink
    u, s, vt = jnp.linalg.svd(columns, full_matrices=False)
    kept = s > 10 * eps * jnp.linalg.norm(vt * rounding, axis=1) * s[0]
    right = jnp.concatenate([y, jnp.zeros((x.shape[1], y.shape[1]), y.dtype)])
    solution = vt.T @ jnp.where(kept[:, None], (u.T @ right) / jnp.where(kept, s, 1)[:, None], 0)
    inverse = vt.T * jnp.where(kept, 1 / jnp.where(kept, s, 1), 0)
    error = eps * _sensitivity(inverse, s[0], rounding, solution, right, right - columns @ solution)
    weight = solution / length[:, None]
    params = {"weight": weight, "bias": y_mean - x_mean @ weight}
    return LeastSquaresFit(params, kept.sum(), s[0] / s[-1], error / length[:, None])


def _sensitivity(inverse, norm, rounding, solution, right, residual):
    """‖A⁺(δb - δA w) + (AᵀA)⁻¹ δAᵀ r‖ per weight (Björck, Numerical Methods for Least Squares Problems, 1996, 1.4)."""
    of_fit = jnp.linalg.norm(right, axis=0) + norm * jnp.linalg.norm(rounding[:, None] * solution, axis=0)
    of_residual = norm * jnp.linalg.norm(residual, axis=0)
    rows, square_rows = (jnp.linalg.norm(m, axis=1) for m in (inverse, inverse @ inverse.T * rounding))
    return rows[:, None] * of_fit + square_rows[:, None] * of_residual


def largest_curvature(inputs: Float[ArrayLike, "examples features"]) -> Float[Array, ""]:
    """The largest eigenvalue L of the Hessian of 1/N Σ (y - yᵗ)²: gradient descent needs a learning rate below 2/L."""
    x = _check_inputs("largest_curvature", inputs)
    with_bias = jnp.concatenate([x, jnp.ones((len(x), 1), x.dtype)], axis=1)
    return 2 * jnp.linalg.norm(with_bias, 2) ** 2 / len(x)


class LassoFit(NamedTuple):
    """`params`, after how many steps, and whether it is the minimum: no weight alone could move by more than `tol`.

    Moves are those of the centred columns at equal length, relative to the standard deviation of the targets.
    """

    params: Params
    num_steps: Int[Array, ""]
    converged: Bool[Array, ""]


def lasso(
    inputs: Float[ArrayLike, "examples features"],
    targets: Float[ArrayLike, "examples outputs"],
    *,
    l1: ArrayLike,
    intercept: bool = True,
    tol: ArrayLike | None = None,
    max_steps: ArrayLike = 1000,
) -> LassoFit:
    """The minimum of 1/N Σ ‖y - yᵗ‖² + l1 Σ |w|, bias free, by coordinate descent and Newton steps.

    One step minimises over each weight in turn (Friedman, Hastie and Tibshirani, 2010), then goes towards the minimum
    over all that are not 0. `tol` None is that of `descent.newton`. Without `intercept` nothing is centred and the bias
    is 0. (scikit-learn's Lasso has half the squared error: its alpha is l1 / 2.)
    """
    x, y = _check("lasso", inputs, targets)
    l1 = _check_penalty("lasso: l1", l1, x.dtype)
    x, x_mean, constant = _centre(x, intercept)
    y, y_mean, y_constant = _centre(y, intercept)
    (x, x_length), (y, y_length) = _normalize(x, constant), _normalize(y, y_constant)
    gram, slopes = x.T @ x / len(x), x.T @ y / len(x)
    thresholds = l1 / x_length[:, None] / y_length / 2
    tol = default_tolerance(x.dtype) if tol is None else tol
    fit = jax.vmap(_coordinate_descent, (None, 1, 1, None, None), (1, 0, 0))
    weight, num_steps, violation = fit(gram, slopes, thresholds, tol, max_steps)
    weight *= y_length / x_length[:, None]
    params = {"weight": weight, "bias": y_mean - x_mean @ weight}
    return LassoFit(params, num_steps.max(), (violation <= tol).all())


def _coordinate_descent(gram, slope, threshold, tol, max_steps):
    """The minimum of ½ wᵀGw - sᵀw + Σ t |w| for a G with diagonal 1; steps, and how far a weight alone still moves."""
    eps = jnp.finfo(gram.dtype).eps
    ridge = 10 * len(gram) * eps  # keeps collinear columns solvable, and shortens no step
    fractions = jnp.append(0.5 ** jnp.arange(20, dtype=gram.dtype), 0)

    def alone(moved, threshold):
        return jnp.sign(moved) * jnp.maximum(jnp.abs(moved) - threshold, 0)

    def set_one(index, weight):
        moved = weight[index] + slope[index] - gram[index] @ weight
        return weight.at[index].set(alone(moved, threshold[index]))

    def objectives(weights):
        penalties = jnp.where(weights == 0, 0, jnp.abs(weights) * threshold)
        return jnp.sum(weights * (weights @ gram / 2 - slope) + penalties, axis=1)

    def newton_step(weight):  # towards the minimum over those that are not 0; what would change its sign ends at 0
        used = weight != 0
        downhill = jnp.where(used, slope - gram @ weight - jnp.sign(weight) * threshold, 0)
        hessian = jnp.where(used[:, None] & used, gram, 0) + jnp.diag(jnp.where(used, ridge, 1))
        step = jax.scipy.linalg.solve(hessian, downhill, assume_a="pos")
        step = jnp.where(jnp.isfinite(step).all(), step, 0)
        crosses = used & (jnp.sign(weight + step) == -jnp.sign(weight))
        first = jnp.where(crosses, -weight / step * (1 + 4 * eps), 1).min(initial=1)  # up to there it surely leads down
        points = weight + jnp.maximum(fractions, first)[:, None] * step
        points = jnp.where(used & (jnp.sign(points) != -jnp.sign(weight)), points, 0)
        return points[objectives(points).argmin()]

    def goes_on(carry):
        _, num_steps, violation = carry
        return (violation > tol) & (num_steps < max_steps)

    def take_step(carry):
        weight, num_steps, _ = carry
        weight = newton_step(lax.fori_loop(0, len(weight), set_one, weight))
        violation = jnp.abs(alone(weight + slope - gram @ weight, threshold) - weight).max(initial=0)
        return weight, num_steps + 1, violation

    start = jnp.zeros_like(slope), jnp.zeros((), jnp.int32), jnp.array(jnp.inf, slope.dtype)
    return lax.while_loop(goes_on, take_step, start)


class LogisticFit(NamedTuple):
    """`params`, after how many Newton steps, and whether the gradient vanishes there.

    `separated` says that the fit has every training example on its right side. Then the loss without `l2` has no
    minimum: it falls to 0 as the weights grow for ever, and `params` are only where the gradient fell below `tol`. (The
    weights also grow for ever where the best boundary touches examples, but that is not recognised: if they change with
    a smaller `tol`, there is no minimum.)
    """

    params: Params
    num_steps: Int[Array, ""]
    converged: Bool[Array, ""]
    separated: Bool[Array, ""]


def logistic_regression(
    inputs: Float[ArrayLike, "examples features"],
    labels: Integer[ArrayLike, " examples"],
    *,
    l2: ArrayLike = 0.0,
    intercept: bool = True,
    tol: ArrayLike | None = None,
    max_steps: ArrayLike = 100,
) -> LogisticFit:
    """The minimum of the mean cross-entropy of σ(xw + b) (deck, page 5) + l2 Σ w², bias free, by Newton's method.

    `labels` are 0 and 1; the weight is [features, 1]. For a logistic model, Newton's method is what is known as
    iteratively reweighted least squares. Without `intercept` the bias is 0. (scikit-learn's C is 1 / (2 N l2).)
    """
    x, labels = _check("logistic_regression", inputs, labels, num_classes=2)
    l2 = _check_penalty("logistic_regression: l2", l2, x.dtype)

    def loss(logits):
        return sigmoid_cross_entropy(logits[:, 0], labels.astype(x.dtype))

    def margins(logits):
        return jnp.where(labels == 1, 1, -1) * logits[:, 0]

    return _fit(x, loss, margins, num_outputs=1, l2=l2, intercept=intercept, tol=tol, max_steps=max_steps)


def softmax_regression(
    inputs: Float[ArrayLike, "examples features"],
    labels: Integer[ArrayLike, " examples"],
    *,
    num_classes: int,
    l2: ArrayLike = 0.0,
    intercept: bool = True,
    tol: ArrayLike | None = None,
    max_steps: ArrayLike = 100,
) -> LogisticFit:
    """The minimum of the mean cross-entropy of softmax(xW + b) + l2 Σ w², bias free, by Newton's method.

    `labels` are 0 ... num_classes - 1; the weight is [features, num_classes]. The loss is the same for W plus a vector
    in every column: of these solutions the shortest is taken. Without `intercept` the bias is 0. (scikit-learn's C is
    1 / (2 N l2).)
    """
    x, labels = _check("softmax_regression", inputs, labels, num_classes=num_classes)
    l2 = _check_penalty("softmax_regression: l2", l2, x.dtype)

    def margins(logits):
        own = labels[:, None] == jnp.arange(num_classes)
        return jnp.sum(jnp.where(own, logits, 0), axis=1) - jnp.where(own, -jnp.inf, logits).max(axis=1)

    def loss(logits):
        return softmax_cross_entropy(logits, labels)

    return _fit(x, loss, margins, num_outputs=num_classes, l2=l2, intercept=intercept, tol=tol, max_steps=max_steps)


def _fit(x, losses: Callable, margins: Callable, *, num_outputs, l2, intercept, tol, max_steps) -> LogisticFit:
    """Newton's method for the centred columns at equal length, where it loses fewest digits."""
    x, mean, constant = _centre(x, intercept)
    scaled, length = _normalize(x, constant)
    weight, bias = jnp.zeros((x.shape[1], num_outputs), x.dtype), jnp.zeros(num_outputs, x.dtype)
    flat, unravel = ravel_pytree({"weight": weight, "bias": bias} if intercept else {"weight": weight})

    def unscaled(params):
        weight = params["weight"] / length[:, None]
        return {"weight": weight, "bias": params["bias"] - mean @ weight}

    def objective(flat):
        params = {"bias": bias} | unravel(flat)
        return losses(dense(params, scaled)).mean() + l2 * l2_penalty(unscaled(params))

    start = flat + 0 * l2  # NaN, which no step would leave a trace of, where the penalty is
    flat, num_steps, converged = newton(objective, start, tol=tol, max_steps=max_steps)
    params = {"bias": bias} | unravel(flat)
    return LogisticFit(unscaled(params), num_steps, converged, (margins(dense(params, scaled)) > 0).all())


def _centre(columns, intercept):
    """The columns less their mean, the mean, and which are then 0; without an intercept the mean counts as 0."""
    if not intercept:
        return columns, jnp.zeros(columns.shape[1], columns.dtype), (columns == 0).all(axis=0)
    mean = columns.mean(axis=0)
    return columns - mean, mean, jnp.ptp(columns, axis=0) == 0


def _normalize(columns, constant):
    """Centred columns brought to the mean square 1, and by what; zeros for one that was constant but for rounding."""
    largest = jnp.where(constant, 1, jnp.abs(columns).max(axis=0, initial=0))  # whose square may be out of range
    length = largest * jnp.where(constant, 1, jnp.linalg.norm(columns / largest, axis=0) / jnp.sqrt(len(columns)))
    return jnp.where(constant, 0, columns / length), length


def _check(function, inputs, targets, *, num_classes=None):
    """As arrays of one dtype; with `num_classes` the targets are labels. Under jit, bad values make all inputs NaN."""
    refuse_rounding(function, targets)
    x, y = _check_inputs(function, inputs), jnp.asarray(targets)
    dims, wanted = (2, "targets [examples, outputs]") if num_classes is None else (1, "integer labels [examples]")
    if x.ndim != 2 or y.ndim != dims or len(x) != len(y) or not x.size:
        hint = {(1, 2): ": give targets[:, None]", (2, 1): ": give labels[:, 0]"}.get((y.ndim, dims), "")
        raise ValueError(
            f"{function}: needs inputs [examples, features] and {wanted} of as many examples, at least one of each, "
            f"not shapes {x.shape} and {y.shape}{hint}"
        )
    if num_classes is None:
        if jnp.iscomplexobj(y):
            raise ValueError(f"{function}: the targets must be real numbers, not {y.dtype}")
        x = _require(f"{function}: the targets must be finite", y, jnp.isfinite(y), x)
        common = jnp.result_type(x, y)
        return x.astype(common), y.astype(common)
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(f"{function}: needs {wanted}, not {y.dtype}")
    require_integer(f"{function}: num_classes", num_classes, 2)
    classes, y = f"{function}: the labels must be numbered 0 ... {num_classes - 1}", y.astype(int)
    return _require(classes, y, (y >= 0) & (y < num_classes), x), y


def _check_inputs(function, inputs):
    refuse_rounding(function, inputs)
    x = jnp.asarray(inputs)
    if x.dtype not in (jnp.float32, jnp.float64):
        raise ValueError(f"{function}: the inputs must be float32 or float64, not {x.dtype}")
    return _require(f"{function}: the inputs must be finite", x, jnp.isfinite(x), x)


def _check_penalty(name, penalty, dtype):
    penalty = jnp.asarray(penalty, dtype)
    if penalty.shape:
        raise ValueError(f"{name} must be one number, not of shape {penalty.shape}: vmap over several")
    return _require(f"{name} must be 0 or more, and finite", penalty, (penalty >= 0) & jnp.isfinite(penalty), penalty)


def _require(message, values, right, result):
    """`result` where all `values` are right, else ValueError, or NaN under jit, where values are not known."""
    if isinstance(right, jax.core.Tracer):
        return jnp.where(right.all(), result, jnp.nan)
    if not right.all():
        index = np.argwhere(~np.asarray(right))[0].tolist()
        raise ValueError(f"{message}, not {values[tuple(index)]}{f' at {index}' if index else ''}")
    return result
