"""Minima of any function by its gradient, and the path that leads there."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxnn.data import refuse_rounding


class Descent(NamedTuple):
    """Where a descent has come: to `x` after `num_steps`, the last of them shorter than the tolerance if `converged`.

    `path` [max_steps + 1, ...] begins with the start; after the last step it stays at `x`.
    """

    x: Float[Array, "..."]
    num_steps: Int[Array, ""]
    converged: Bool[Array, ""]
    path: Float[Array, "points ..."]


def gradient_descent(
    f: Callable, x0: Float[ArrayLike, "..."], *, learning_rate: float | Array, tol: ArrayLike, max_steps: int
) -> Descent:
    """x ← x - learning_rate · ∇f(x) until a step is shorter than `tol` (deck, pages 11-12)."""
    return minimize(f, x0, optimizer=optax.sgd(learning_rate), tol=tol, max_steps=max_steps)


def minimize(
    f: Callable,
    x0: Float[ArrayLike, "..."],
    *,
    optimizer: optax.GradientTransformation,
    tol: ArrayLike,
    max_steps: int,
) -> Descent:
    """The steps that the optimizer takes down the gradient of `f`, until one is shorter (Euclidean) than `tol`.

    One compiled loop of always `max_steps`, in which nothing moves after the end: vmap it over starts or learning
    rates. A step that is not finite is not taken, and ends the descent too.
    """
    x0 = _check("minimize", x0, max_steps)

    def take_step(carry, _):
        x, opt_state, num_steps, converged, ended = carry
        update, new_state = optimizer.update(jax.grad(f)(x), opt_state, x)
        length = optax.tree.norm(update)
        taken = ~ended & jnp.isfinite(length)
        x, opt_state = jax.tree.map(
            lambda new, old: jnp.where(taken, new, old), (optax.apply_updates(x, update), new_state), (x, opt_state)
        )
        converged = converged | taken & (length < tol)
        return (x, opt_state, num_steps + taken, converged, converged | ~taken), x

    start = x0, optimizer.init(x0), jnp.zeros((), jnp.int32), jnp.array(False), jnp.array(False)
    (x, _, num_steps, converged, _), path = lax.scan(take_step, start, length=max_steps)
    return Descent(x, num_steps, converged, jnp.concatenate([x0[None], path]))


def default_tolerance(dtype) -> float:
    """What rounding lets one reach: ε to the power of 2/3, 4e-11 in float64 and 2e-5 in float32."""
    return float(jnp.finfo(dtype).eps) ** (2 / 3)


class NewtonResult(NamedTuple):
    """The point reached, after how many steps, and whether no component of the gradient there exceeds `tol`."""

    x: Float[Array, " variables"]
    num_steps: Int[Array, ""]
    converged: Bool[Array, ""]


def newton(
    f: Callable, x0: Float[ArrayLike, " variables"], *, tol: ArrayLike | None = None, max_steps: ArrayLike = 100
) -> NewtonResult:
    """Newton's method for a convex function: x ← x - t H⁻¹ ∇f(x) until no component of the gradient exceeds `tol`.

    Of t = 1, ½, ¼ ... the first is taken that leads down enough (Armijo's rule), and of the solutions for a singular
    Hessian H the shortest. Ends too where no t leads down any more. `tol` None is `default_tolerance`.
    """
    x0 = _check("newton", x0, solves=True)
    tol = default_tolerance(x0.dtype) if tol is None else tol
    fractions = jnp.append(0.5 ** jnp.arange(30, dtype=x0.dtype), 0)

    def goes_on(carry):
        _, gradient, num_steps, stuck = carry
        return (jnp.abs(gradient).max() > tol) & (num_steps < max_steps) & ~stuck

    def take_step(carry):
        x, gradient, num_steps, _ = carry
        direction = -jnp.linalg.lstsq(jax.hessian(f)(x), gradient)[0]
        points = x + fractions[:, None] * direction
        values = jax.vmap(f)(points)
        rounding = 4 * jnp.finfo(x.dtype).eps * jnp.abs(values[-1])  # at the minimum, values differ by that alone
        enough = values <= values[-1] + 1e-4 * fractions * (gradient @ direction) + rounding
        new = points[enough.argmax()]
        stuck = (new == x).all()
        return new, jax.grad(f)(new), num_steps + ~stuck, stuck

    start = x0, jax.grad(f)(x0), jnp.zeros((), jnp.int32), jnp.array(False)
    x, gradient, num_steps, _ = lax.while_loop(goes_on, take_step, start)
    return NewtonResult(x, num_steps, jnp.abs(gradient).max() <= tol)


def levenberg_marquardt(
    residuals: Callable, x0: Float[ArrayLike, " variables"], *, tol: ArrayLike, max_steps: int
) -> Descent:
    """The minimum of Σ residuals(x)², by steps -(JᵀJ + λI)⁻¹Jᵀr between Newton's method and gradient descent.

    J is the Jacobian of the residuals r (Marquardt, 1963). λ begins at 1; it falls to a third after a step that leads
    down, and one that does not is not taken and raises it fourfold. For nets of up to some hundred weights.

    Ends where a step, taken or not, is shorter than `tol`; `num_steps` counts those taken, `path` has a row for each
    that was tried.
    """
    x0 = _check("levenberg_marquardt", x0, max_steps, solves=True)

    def take_step(carry, _):
        x, damping, num_steps, converged = carry
        r, jacobian = residuals(x), jax.jacfwd(residuals)(x)
        normal = jacobian.T @ jacobian + damping * jnp.eye(len(x), dtype=x.dtype)
        step = -jax.scipy.linalg.solve(normal, jacobian.T @ r, assume_a="pos")
        down = jnp.sum(residuals(x + step) ** 2) < jnp.sum(r**2)
        taken = down & ~converged
        converged = converged | (jnp.linalg.norm(step) < tol)
        damping = jnp.clip(jnp.where(down, damping / 3, 4 * damping), 1e-12, 1e12)
        return (jnp.where(taken, x + step, x), damping, num_steps + taken, converged), x

    start = x0, jnp.ones((), x0.dtype), jnp.zeros((), jnp.int32), jnp.array(False)
    (x, _, num_steps, converged), path = lax.scan(take_step, start, length=max_steps)
    return Descent(x, num_steps, converged, jnp.concatenate([path, x[None]]))


def _check(function, x0, max_steps=1, *, solves=False):
    if max_steps < 1:
        raise ValueError(f"{function}: max_steps must be 1 or more, not {max_steps}")
    refuse_rounding(function, x0)
    x0 = jnp.asarray(x0)
    if not jnp.issubdtype(x0.dtype, jnp.floating) or (solves and x0.dtype.itemsize < 4):  # LAPACK knows no half floats
        wanted = "float32 or float64" if solves else "floats"
        raise ValueError(f"{function}: x0 must be {wanted}, not {x0.dtype}")
    return x0
