import numpy as np
import pytest

from experiments import function_fitting
from jaxnn.lab.config import BadUsageError
from jaxnn.lab.run import Run


@pytest.fixture(scope="module")
def toy(toy_run):
    return toy_run("function_fitting", "--function", "sin(x1)*x2", "--hidden-sizes", 8)


def test_fits_a_function_of_the_user(toy):
    assert toy.summary["function_8_train_median"] < 1e-2
    assert [row["seed"] for row in toy.rows] == [3, 4, 5]
    errors = np.array([[row["train_error"], row["grid_error"]] for row in toy.rows])
    medians = [toy.summary[f"function_8_{kind}_median"] for kind in ("train", "grid")]
    np.testing.assert_array_equal(medians, np.median(errors, axis=0))


def test_refuses_a_function_with_a_pole_between_the_points_that_are_drawn(tmp_path):
    with pytest.raises(BadUsageError, match=r"--function must be finite, and below a million, on all of \[-2, 2\]²"):
        function_fitting.main(function_fitting.Config(function="1/(x1-0.123456)"), Run(tmp_path))
