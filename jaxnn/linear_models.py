"""Linear and logistic models fitted to their optimum. `params` are those of `models.linear`."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxnn.data import refuse_rounding
from jaxnn.descent import default_tolerance, newton
from jaxnn.layers import dense
from jaxnn.losses import l2_penalty, sigmoid_cross_entropy, softmax_cross_entropy
from jaxnn.types import Params


class LeastSquaresFit(NamedTuple):
    """`params`, and the rank of the centred inputs: below the number of features, other weights fit equally well.

    With `l2`, which makes the weights unique, rank and condition are those of the penalised problem.

    `condition` is the ratio of the largest to the smallest singular value of the centred columns at equal length: a
    relative error in the data may be so many times larger in the weights.
    """

    params: Params
    rank: Int[Array, ""]
    condition: Float[Array, ""]


def least_squares(
    inputs: Float[ArrayLike, "examples features"], targets: Float[ArrayLike, "examples outputs"], *, l2: ArrayLike = 0.0
) -> LeastSquaresFit:
    """The minimum of 1/N Σ ‖y - yᵗ‖² + l2 Σ w² (deck, page 3): least squares, or with `l2` ridge, whose bias is free.

    By a singular value decomposition of the centred columns at equal length. Where the columns are collinear, the
    weights are the shortest at that scale. (scikit-learn's Ridge has the sum over examples: its alpha is N · l2.)
    """
    x, y = _check("least_squares", inputs, targets)
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    constant = jnp.ptp(x, axis=0) == 0
    penalty = jnp.sqrt(len(x) * jnp.asarray(l2, x.dtype)) * jnp.eye(x.shape[1], dtype=x.dtype)
    columns, length = _normalize(jnp.concatenate([x - x_mean, penalty]), constant)
    u, s, vt = jnp.linalg.svd(columns, full_matrices=False)
    rounding = jnp.max(jnp.abs(x_mean) / length, initial=1, where=~constant)  # of the centring, where means are large
    kept = s > 10 * jnp.finfo(x.dtype).eps * rounding * s[0]
    right = jnp.concatenate([y - y_mean, jnp.zeros((x.shape[1], y.shape[1]), y.dtype)])
    solution = vt.T @ jnp.where(kept[:, None], (u.T @ right) / jnp.where(kept, s, 1)[:, None], 0)
    weight = solution / length[:, None]
    return LeastSquaresFit({"weight": weight, "bias": y_mean - x_mean @ weight}, kept.sum(), s[0] / s[-1])


def largest_curvature(inputs: Float[ArrayLike, "examples features"]) -> Float[Array, ""]:
    """The largest eigenvalue L of the Hessian of 1/N Σ (y - yᵗ)²: gradient descent needs a learning rate below 2/L."""
    refuse_rounding("largest_curvature", inputs)
    x = jnp.asarray(inputs)
    with_bias = jnp.concatenate([x, jnp.ones((len(x), 1), x.dtype)], axis=1)
    return 2 * jnp.linalg.norm(with_bias, 2) ** 2 / len(x)


class LassoFit(NamedTuple):
    """`params`, after how many steps, and whether the last one was short enough: no longer than `tol` times W."""

    params: Params
    num_steps: Int[Array, ""]
    converged: Bool[Array, ""]


def lasso(
    inputs: Float[ArrayLike, "examples features"],
    targets: Float[ArrayLike, "examples outputs"],
    *,
    l1: ArrayLike,
    tol: ArrayLike | None = None,
    max_steps: ArrayLike = 10_000,
) -> LassoFit:
    """The minimum of 1/N Σ ‖y - yᵗ‖² + l1 Σ |w|, bias free, by proximal steps until one is shorter than `tol` times W.

    FISTA (Beck and Teboulle, 2009), its momentum dropped whenever it points uphill (O'Donoghue and Candès, 2015).
    `tol` None is that of `descent.newton`. (scikit-learn's Lasso has half the squared error: its alpha is l1 / 2.)
    """
    x, y = _check("lasso", inputs, targets)
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    x, y = x - x_mean, y - y_mean
    curvature = 2 * jnp.linalg.norm(x, 2) ** 2 / len(x)
    rate = jnp.where(curvature > 0, 1 / curvature, 0)
    tol = default_tolerance(x.dtype) if tol is None else tol

    def goes_on(carry):
        weight, *_, num_steps, length = carry
        return (length > tol * jnp.linalg.norm(weight)) & (num_steps < max_steps)

    def take_step(carry):
        weight, ahead, momentum, num_steps, _ = carry
        moved = ahead - rate * 2 / len(x) * x.T @ (x @ ahead - y)
        new = jnp.sign(moved) * jnp.maximum(jnp.abs(moved) - rate * l1, 0)
        uphill = jnp.sum((ahead - new) * (new - weight)) > 0
        momentum = jnp.where(uphill, 1, momentum)
        next_momentum = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / next_momentum * (new - weight)
        return new, ahead, next_momentum, num_steps + 1, jnp.linalg.norm(new - weight)

    zeros = jnp.zeros((x.shape[1], y.shape[1]), x.dtype)
    start = zeros, zeros, jnp.ones((), x.dtype), jnp.zeros((), jnp.int32), jnp.array(jnp.inf, x.dtype)
    weight, _, _, num_steps, length = lax.while_loop(goes_on, take_step, start)
    converged = length <= tol * jnp.linalg.norm(weight)
    return LassoFit({"weight": weight, "bias": y_mean - x_mean @ weight}, num_steps, converged)


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
    labels: Int[ArrayLike, " examples"],
    *,
    l2: ArrayLike = 0.0,
    tol: ArrayLike | None = None,
    max_steps: ArrayLike = 100,
) -> LogisticFit:
    """The minimum of the mean cross-entropy of σ(xw + b) (deck, page 5) + l2 Σ w², bias free, by Newton's method.

    `labels` are 0 and 1; the weight is [features, 1]. For a logistic model, Newton's method is what is known as
    iteratively reweighted least squares. (scikit-learn's C is 1 / (2 N l2).)
    """
    x, labels = _check("logistic_regression", inputs, labels, dims=1)

    def loss(logits):
        return sigmoid_cross_entropy(logits[:, 0], labels.astype(x.dtype))

    def margins(logits):
        return jnp.where(labels == 1, 1, -1) * logits[:, 0]

    return _fit(x, loss, margins, num_outputs=1, l2=l2, tol=tol, max_steps=max_steps)


def softmax_regression(
    inputs: Float[ArrayLike, "examples features"],
    labels: Int[ArrayLike, " examples"],
    *,
    num_classes: int,
    l2: ArrayLike = 0.0,
    tol: ArrayLike | None = None,
    max_steps: ArrayLike = 100,
) -> LogisticFit:
    """The minimum of the mean cross-entropy of softmax(xW + b) + l2 Σ w², bias free, by Newton's method.

    `labels` are 0 ... num_classes - 1; the weight is [features, num_classes]. The loss is the same for W plus a vector
    in every column: of these solutions the shortest is taken. (scikit-learn's C is 1 / (2 N l2).)
    """
    x, labels = _check("softmax_regression", inputs, labels, dims=1)

    def margins(logits):
        own = labels[:, None] == jnp.arange(num_classes)
        return jnp.sum(jnp.where(own, logits, 0), axis=1) - jnp.where(own, -jnp.inf, logits).max(axis=1)

    def loss(logits):
        return softmax_cross_entropy(logits, labels)

    return _fit(x, loss, margins, num_outputs=num_classes, l2=l2, tol=tol, max_steps=max_steps)


def _fit(x, losses: Callable, margins: Callable, *, num_outputs, l2, tol, max_steps) -> LogisticFit:
    """Newton's method for the centred columns at equal length, where it loses fewest digits."""
    mean = x.mean(axis=0)
    scaled, length = _normalize(x - mean, jnp.ptp(x, axis=0) == 0)
    zeros = {"weight": jnp.zeros((x.shape[1], num_outputs), x.dtype), "bias": jnp.zeros(num_outputs, x.dtype)}
    flat, unravel = ravel_pytree(zeros)

    def unscaled(params):
        weight = params["weight"] / length[:, None]
        return {"weight": weight, "bias": params["bias"] - mean @ weight}

    def objective(flat):
        params = unravel(flat)
        return losses(dense(params, scaled)).mean() + l2 * l2_penalty(unscaled(params))

    flat, num_steps, converged = newton(objective, flat, tol=tol, max_steps=max_steps)
    params = unravel(flat)
    return LogisticFit(unscaled(params), num_steps, converged, (margins(dense(params, scaled)) > 0).all())


def _normalize(columns, constant):
    """Centred columns brought to the mean square 1, and by what; zeros for one that was constant but for rounding."""
    largest = jnp.where(constant, 1, jnp.abs(columns).max(axis=0, initial=0))  # whose square may be out of range
    length = largest * jnp.where(constant, 1, jnp.linalg.norm(columns / largest, axis=0) / jnp.sqrt(len(columns)))
    return jnp.where(constant, 0, columns / length), length


def _check(function, inputs, targets, *, dims=2):
    refuse_rounding(function, inputs, targets)
    x, y = jnp.asarray(inputs), jnp.asarray(targets)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{function}: the inputs must be floats, not {x.dtype}")
    wanted = {1: "integer labels [examples]", 2: "targets [examples, outputs]"}[dims]
    if x.ndim != 2 or y.ndim != dims or len(x) != len(y) or not len(x):
        hint = {(1, 2): ": give targets[:, None]", (2, 1): ": give labels[:, 0]"}.get((y.ndim, dims), "")
        raise ValueError(
            f"{function}: needs inputs [examples, features] and {wanted} of as many examples, at least one, not shapes "
            f"{x.shape} and {y.shape}{hint}"
        )
    if dims == 1 and not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(f"{function}: needs {wanted}, not {y.dtype}")
    common = jnp.result_type(x, y)
    return (x, y) if dims == 1 else (x.astype(common), y.astype(common))
