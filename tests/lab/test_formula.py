import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.mathtext import MathTextParser

from jaxnn.lab import formula
from jaxnn.lab.config import BadUsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sin(3*x1)*x2", lambda x, y: np.sin(3 * x) * y),
        (" x1**2 - -x2/4 + 1e-1", lambda x, y: x**2 + y / 4 + 0.1),
        ("exp(-(x1**2 + x2**2))*cos(pi*x1)", lambda x, y: np.exp(-(x**2) - y**2) * np.cos(np.pi * x)),
        ("abs(x1) + tanh(sqrt(2)) + log(3) + tan(x2)", lambda x, y: abs(x) + np.tanh(2**0.5) + np.log(3) + np.tan(y)),
        ("2**3**2", lambda x, y: 512.0),
        ("7", lambda x, y: 7.0),
        ("atan(x1)", lambda x, y: np.arctan(x)),
    ],
)
def test_a_formula_is_its_function(x64, text, expected):
    x, y = np.random.default_rng(0).normal(size=(2, 20))
    ours = formula.parse(text, ["x1", "x2"])
    assert ours(x, y).shape == (20,)  # a constant, too
    np.testing.assert_allclose(ours(x, y), expected(x, y) * np.ones(20), atol=1e-12)
    np.testing.assert_allclose(jax.jit(ours)(x, y), ours(x, y), atol=1e-12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x1**2 + x2**2", "$x_{1}^{2} + x_{2}^{2}$"),
        ("cos(1.2*x1) * cos(x2)**2", r"$\cos(1.2 \, x_{1}) \, (\cos(x_{2}))^{2}$"),
        ("-(x1 - x2)*2 - (1 - x2/3)", r"$-(x_{1} - x_{2}) \cdot 2 - (1 - \frac{x_{2}}{3})$"),
        ("(x1**2)**-x2", "$(x_{1}^{2})^{-x_{2}}$"),
        ("sqrt(abs(x1)) + atan(1e-7*pi)", r"$\sqrt{|x_{1}|} + \arctan(1 \cdot 10^{-7} \, \pi)$"),
        ("x1 + " * 20 + "x2", "x1 + " * 8 + "..."),
    ],
)
def test_a_formula_as_a_title(text, expected):
    assert formula.title(text) == expected
    MathTextParser("path").parse(expected)


@pytest.mark.parametrize(
    ("text", "character", "problem"),
    [
        ("sin(3*x1", 4, "cannot be read"),
        ("x1 + x3", 6, "not known here"),
        ("2 * import", 5, "cannot be read"),
        ("x1 + __import__('os').system('true')", 6, "not known here"),
        ("x1 # two", 4, "one line without comments"),
        ("x1 +\n x2", 5, "one line without comments"),
        ("x1 + 1" + "0" * 400, 6, "too large"),
        ("x1^2", 1, r"a power is written \*\*"),
        ("sin(x1, x2)", 1, "sin takes one value"),
        ("x2 * (lambda: 1)()", 6, "not known here"),
        ("x1 if x2 else 3", 1, "not known here"),
        ("x1.shape", 1, "not known here"),
        ("'a'", 1, "not known here"),
        ("True", 1, "not known here"),
        ("", 1, "cannot be read"),
        ("1or 2", 1, "not known here"),  # Python warns of it
        ("x1\x1b[2J", 3, "one line without comments"),
        ("-" * 400 + "x1", 1, "nested too deeply"),
    ],
)
def test_what_cannot_be_read_is_shown(text, character, problem):
    with pytest.raises(BadUsageError, match=rf"{problem}.*\(character {character}\):"):
        formula.parse(text, ["x1", "x2"])


def test_nesting_too_deep_is_refused():
    with pytest.raises(BadUsageError, match="cannot be read as a formula"):
        formula.parse("(" * 400, ["x1"])
    assert formula.parse("-" * 50 + "x1", ["x1"])(3.0) == 3


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("x1**2 - x2**2", 4),
        ("7", 7),
        ("1/((x1-0.3)**2 + 0.01)", 100),
        ("1/(x1 - 0.123456)", np.inf),
        ("tan(x1)*x2", np.inf),
        ("log(x1 + 2)", np.inf),
        ("sqrt(x1 - x2)", np.inf),
    ],
)
def test_the_largest_size_of_a_function_tells_where_it_has_a_pole(x64, text, size):
    found = formula.largest(formula.parse(text, ["x1", "x2"]), limit=2.0)
    assert found > 1e9 if size == np.inf else found == pytest.approx(size)


def test_a_formula_cannot_take_for_ever():
    for text in ("9**9**9**9**9", "pi**pi**pi**pi", "pi/(pi-pi)"):
        assert jnp.isinf(formula.parse(text, [])())
    assert jnp.isnan(formula.parse("(-pi)**pi", [])())
    with pytest.raises(BadUsageError, match="longer than 500"):
        formula.parse("+1" * 251, [])
