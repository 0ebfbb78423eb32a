import numpy as np
import pytest

from jaxnn.lab import plots

X1, X2 = np.meshgrid(np.linspace(-2, 2, 81), np.linspace(-2, 2, 81))


@pytest.mark.parametrize(
    ("values", "level", "bend"),
    [
        (X1**2 + X2**2, 1.0, 1.0),  # a circle is nowhere farther from a line through its centre than its radius
        (X1, 5.0, None),
    ],
)
def test_the_bend_of_a_level_line(values, level, bend):
    assert plots.level_bend(X1, X2, values, level=level) == (bend and pytest.approx(bend, abs=0.01))


def test_a_straight_line_has_no_bend():
    assert plots.level_bend(X1, X2, X1 + 2 * X2, level=0.5) < 1e-12
