import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

from jaxnn import descent


def bowl(x):
    return 4 * x[0] ** 2 + x[1] ** 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_decks_descent_takes_5497_steps(x64, dtype):
    start = jnp.array([3, 3], dtype)
    end = descent.gradient_descent(bowl, start, learning_rate=1e-3, tol=1e-7, max_steps=8000)
    assert end.num_steps == 5497
    assert end.converged
    assert end.x.dtype == dtype
    np.testing.assert_array_equal(end.path[0], start)
    np.testing.assert_array_equal(end.path[5497:], np.tile(end.x, (2504, 1)))
    lengths = np.linalg.norm(np.diff(end.path[:5498], axis=0), axis=1)
    assert lengths[-1] < 1e-7 <= lengths[-2]


def test_an_optimizer_keeps_its_state_from_step_to_step(x64):
    """The first steps, by hand, of the descent of f(x) = x² / 2, whose gradient is x, from x = 1."""
    momentum = optax.sgd(0.1, momentum=0.9)
    end = descent.minimize(lambda x: x[0] ** 2 / 2, np.array([1.0]), optimizer=momentum, tol=0.0, max_steps=2)
    np.testing.assert_allclose(end.path[:, 0], [1, 0.9, 0.9 - 0.1 * (0.9 + 0.9)])


def test_descents_side_by_side_are_descents_alone(x64):
    def run(x0, rate):
        return descent.gradient_descent(bowl, x0, learning_rate=rate, tol=1e-6, max_steps=500)

    starts, rates = jnp.array([[3.0, 3.0], [-1.0, 0.5], [0.0, 0.0]]), jnp.array([0.01, 0.1, 0.2])
    together, each = jax.jit(jax.vmap(run))(starts, rates), jax.jit(run)
    assert together.num_steps[2] == 1
    for index in range(3):
        alone = each(starts[index], rates[index])
        assert alone.num_steps == together.num_steps[index]
        np.testing.assert_allclose(together.path[index], alone.path, atol=1e-12)


def test_a_descent_that_diverges_has_not_converged_and_stays_finite():
    end = descent.gradient_descent(bowl, jnp.array([3.0, 3.0]), learning_rate=1.0, tol=1e-7, max_steps=500)
    assert not end.converged
    assert 10 < end.num_steps < 500
    assert jnp.isfinite(end.path).all()
    np.testing.assert_array_equal(end.path[end.num_steps], end.path[-1])


def test_newton_finds_the_minimum_of_a_bowl_in_one_step(x64):
    end = descent.newton(bowl, np.array([3.0, 3.0]))
    assert (end.num_steps, end.converged) == (1, True)
    np.testing.assert_allclose(end.x, 0, atol=1e-14)


def test_newton_finds_scipys_minimum_of_a_steep_function(x64):
    def f(x):  # undamped, Newton's method overshoots from far away
        return jnp.sum(jnp.logaddexp(0, jnp.array([[1.0, 2.0], [-3.0, 0.5], [0.2, -1.0]]) @ x)) + 0.01 * jnp.sum(x**2)

    end = descent.newton(f, np.array([20.0, -20.0]), tol=1e-12)
    gradient, value = jax.jit(jax.grad(f)), jax.jit(f)
    expected = scipy.optimize.minimize(value, np.array([20.0, -20.0]), jac=gradient, tol=1e-12, method="BFGS")
    assert end.converged
    np.testing.assert_allclose(end.x, expected.x, atol=1e-6)


def test_newton_takes_the_shortest_way_where_the_hessian_is_singular(x64):
    end = descent.newton(lambda x: (x[0] + x[1] - 2) ** 2, np.array([0.0, 0.0]))
    assert end.converged
    np.testing.assert_allclose(end.x, [1, 1], atol=1e-12)


def test_newton_says_where_it_does_not_arrive(x64):
    assert not descent.newton(lambda x: jnp.sum(jnp.exp(-x)), np.array([0.0]), max_steps=5).converged


def test_newton_ends_where_no_step_moves_it(x64):
    end = descent.newton(lambda x: x[0] + x[1] ** 2, np.array([1.0, 2.0]))  # falls for ever, where H sees no slope
    assert (end.num_steps, end.converged) == (1, False)
    np.testing.assert_allclose(end.x, [1, 0], atol=1e-14)


def test_newton_computes_in_what_it_is_given(x64):
    end = descent.newton(bowl, np.array([3, 3], np.float32))
    assert end.x.dtype == np.float32
    assert end.converged


def test_levenberg_and_marquardt_find_scipys_minimum(x64):
    t = np.linspace(0, 3, 20)
    wanted = 2 * np.exp(-1.3 * t) + 0.5 + 0.01 * np.sin(50 * t)

    def residuals(x):
        return x[0] * jnp.exp(-x[1] * t) + x[2] - wanted

    end = descent.levenberg_marquardt(residuals, np.array([1.0, 0.0, 0.0]), tol=1e-9, max_steps=100)
    expected = scipy.optimize.least_squares(jax.jit(residuals), np.array([1.0, 0.0, 0.0]), xtol=1e-12)
    assert end.converged
    assert end.num_steps < 50
    np.testing.assert_allclose(end.x, expected.x, atol=1e-6)
    np.testing.assert_array_equal(end.path[0], [1, 0, 0])
    np.testing.assert_array_equal(end.path[-1], end.x)


def test_levenberg_and_marquardt_solve_rosenbrocks_valley(x64):
    def residuals(x):
        return jnp.stack([1 - x[0], 10 * (x[1] - x[0] ** 2)])

    end = descent.levenberg_marquardt(residuals, np.array([-1.5, 1.5]), tol=1e-12, max_steps=200)
    np.testing.assert_allclose(end.x, [1, 1], atol=1e-10)
    values = np.sum(np.square([1 - end.path[:, 0], 10 * (end.path[:, 1] - end.path[:, 0] ** 2)]), axis=0)
    assert (np.diff(values) <= 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_steps": 0}, "max_steps must be 1 or more, not 0"),
        ({"x0": np.array([3, 3])}, "x0 must be floats, not int32"),
    ],
)
def test_refuses(as_users_see_it, settings, message):
    settings = {"x0": np.array([3.0, 3.0]), "learning_rate": 0.1, "tol": 1e-3, "max_steps": 10} | settings
    with pytest.raises(ValueError, match=message):
        descent.gradient_descent(bowl, **settings)


@pytest.mark.parametrize(
    "call",
    [
        lambda x0: descent.newton(bowl, x0),
        lambda x0: descent.gradient_descent(bowl, x0, learning_rate=0.1, tol=0.0, max_steps=5),
        lambda x0: descent.levenberg_marquardt(lambda x: x, x0, tol=0.0, max_steps=5),
    ],
)
def test_refuses_to_round_float64(as_users_see_it, call):
    with pytest.raises(ValueError, match="float64 would be rounded to float32: switch on jax_enable_x64"):
        call(np.array([3.0, 3.0]))


@pytest.mark.parametrize("dtype", ["int32", "float16"])
def test_newton_refuses_what_it_cannot_solve(as_users_see_it, dtype):
    with pytest.raises(ValueError, match=f"newton: x0 must be float32 or float64, not {dtype}"):
        descent.newton(bowl, np.array([3, 3], dtype))


def test_levenberg_and_marquardt_refuse_the_same(as_users_see_it):
    with pytest.raises(ValueError, match="levenberg_marquardt: max_steps must be 1 or more, not 0"):
        descent.levenberg_marquardt(lambda x: x, np.ones(2), tol=0.0, max_steps=0)
    with pytest.raises(ValueError, match="levenberg_marquardt: x0 must be float32 or float64, not int32"):
        descent.levenberg_marquardt(lambda x: x, np.array([3, 3]), tol=0.0, max_steps=5)
