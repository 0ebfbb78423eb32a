import pytest

from experiments import ridge_and_lasso
from jaxnn.lab.config import BadUsageError


def test_keeps_the_contract_and_the_fit_is_that_of_scikit_learn(toy_run):
    run = toy_run("ridge_and_lasso")
    assert run.summary["table_rank"] == 10
    assert run.summary["table_r2"] == pytest.approx(0.51774842, abs=1e-8)
    assert [sum(abs(weight) > 1e-6 for weight in row["weights"]) for row in run.rows[1:]] == [10, 10, 8, 5, 0]


def test_fits_a_table_of_the_user(toy_run, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("size,copy,price\n" + "".join(f"{number},{number},{3 * number + 1}\n" for number in range(9)))
    run = toy_run("ridge_and_lasso", "--csv", table)
    assert run.summary["table_rank"] == 1
    assert run.summary["table_r2"] == pytest.approx(1, abs=1e-12)
    table.write_text("size,price\n1,2\n3,2\n")
    with pytest.raises(BadUsageError, match="the target, does not vary"):
        ridge_and_lasso.load_table(table)
