import pytest


def test_keeps_the_contract_and_finds_the_optimum(toy_run):
    summary = toy_run("logistic_regression").summary
    assert summary["boundary_bend"] == pytest.approx(0, abs=1e-6)
    assert summary["made_up_separated"] is True
    assert summary["breast_cancer_difference_to_sklearn"] == pytest.approx(0, abs=1e-6)
    assert summary["iris_difference_to_sklearn"] == pytest.approx(0, abs=1e-6)


def test_fits_a_table_of_the_user_and_says_where_there_is_no_optimum(toy_run, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("size,kind\n" + "".join(f"{number},{'$large' if number > 5 else 'a$'}\n" for number in range(12)))
    run = toy_run("logistic_regression", "--csv", table, "--l2", 0)
    assert run.rows[-1]["classes"] == ["$large", "a$"]
    assert run.summary["table_accuracy"] == 1
    assert run.summary["table_difference_to_sklearn"] is None
