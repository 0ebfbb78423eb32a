import numpy as np
import pytest

from jaxnn.lab import tables
from jaxnn.lab.config import BadUsageError


def write(folder, text):
    path = folder / "table.csv"
    path.write_text(text)
    return path


def test_the_last_column_is_the_target(tmp_path):
    table = tables.read_csv(write(tmp_path, "height, weight,age\n1,2,3\n\n4.5,-5e1,6\n"))
    np.testing.assert_array_equal(table.inputs, [[1, 2], [4.5, -50]])
    np.testing.assert_array_equal(table.targets, [3, 6])
    assert table.feature_names == ("height", "weight")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,nan\n", "line 3, column b: 'nan' is not a number that can be used"),
        ("a,b\n1,2\n\n-inf,4\n", "line 4, column a: '-inf' is not a number that can be used"),
        ("a,b\n1,\n", "line 2, column b: '' is not a number that can be used"),
        ("a,b\n1,two\n", "line 2, column b: 'two' is not"),
        ("a,b\n1,2,3\n", "line 2: 3 cells, but the first line names 2 columns"),
        ("1,2\n3,4\n", "the first line must name the columns"),
        ("a\n1\n", "two or more"),
        ("", "the first line must name the columns"),
        ("a,b\n", "needs two lines of numbers"),
        ("a,b\n1,2\n", "needs two lines of numbers"),
        ("a,a\n1,2\n3,4\n", "a name of its own, unlike 'a'"),
        ("a,,b\n1,2,3\n3,4,5\n", "a name of its own, unlike ''"),
        ("a,b\n1e200,2\n3,4\n", "line 2, column a: '1e200' is not a number that can be used"),
        ("a,b\n1,2\n3,-1e-170\n", "line 3, column b: '-1e-170' is not a number that can be used"),
        ("a,b\n1_000,2\n3,4\n", "line 2, column a: '1_000' is not a number"),
        ('a,b\n"\n1",2\n3,x\n', "line 4, column b: 'x' is not a number"),
    ],
)
def test_read_csv_refuses(tmp_path, text, message):
    with pytest.raises(BadUsageError, match=message):
        tables.read_csv(write(tmp_path, text))


def test_read_csv_refuses_files_that_cannot_be_read(tmp_path):
    with pytest.raises(BadUsageError, match=r"cannot read .*none.csv \(No such file"):
        tables.read_csv(tmp_path / "none.csv")
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(BadUsageError, match=r"cannot read .*picture.csv"):
        tables.read_csv(tmp_path / "picture.csv")


def table(inputs, targets=None):
    inputs = np.array(inputs, float)
    names = tuple("abcdef"[: inputs.shape[1]])
    return tables.Table(inputs, np.zeros(len(inputs)) if targets is None else np.array(targets, float), names)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([[1, 2], [2, 5], [4, 1]], []),
        ([[1, 7], [2, 7], [4, 7]], ["column b is constant"]),
        ([[1, 2], [2, 4], [4, 8], [5, 10]], ["the 2 columns are collinear, of rank 1"]),
        ([[1, 2], [2, 5]], ["2 rows are too few for 2 features"]),
    ],
)
def test_what_makes_a_fit_doubtful_is_said(inputs, expected):
    warnings = tables.warnings(table(inputs))
    assert len(warnings) == len(expected)
    assert all(warning.startswith(start) for warning, start in zip(warnings, expected, strict=True))


def test_labels():
    np.testing.assert_array_equal(tables.labels(table([[1], [2], [3]], [1, 0, 1]), "x.csv"), [1, 0, 1])
    for targets, message in (([1, 1], "one class, 1"), ([1, 2], "not 1, 2"), ([0, 0.5], "not 0, 0.5")):
        with pytest.raises(BadUsageError, match=message):
            tables.labels(table([[1], [2]], targets), "x.csv")
