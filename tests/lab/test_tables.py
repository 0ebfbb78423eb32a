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


def test_a_table_is_the_same_from_every_program(tmp_path):
    for text in ("\ufeffa,b\n1,2\n3,4\n\n", "a,b\r\n1,2\r\n3,4\r\n", "a;b\n1;2\n3;4", "a\tb\n1\t2\n3\t4\n"):
        (tmp_path / "table.csv").write_bytes(text.encode())
        table = tables.read_csv(tmp_path / "table.csv")
        np.testing.assert_array_equal(np.column_stack([table.inputs, table.targets]), [[1, 2], [3, 4]])
        assert table.feature_names == ("a",)


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
        ('a,b\n"\n1",2\n3,x\n', "line 3: a quotation mark spans several lines: mend or remove it"),
        ('a,b\n1,"2\n3,4\n', "cannot read .*unexpected end of data"),
    ],
)
def test_read_csv_refuses(tmp_path, text, message):
    with pytest.raises(BadUsageError, match=message):
        tables.read_csv(write(tmp_path, text))


def test_read_csv_refuses_files_that_cannot_be_read(tmp_path):
    with pytest.raises(BadUsageError, match=r"cannot read .*none.csv \(No such file"):
        tables.read_csv(tmp_path / "none.csv")
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(BadUsageError, match=r"cannot read .*picture.csv .*: save it as CSV in UTF-8"):
        tables.read_csv(tmp_path / "picture.csv")
    with pytest.raises(BadUsageError, match=r"cannot read /dev/zero \(it is a pipe or a device"):
        tables.read_csv("/dev/zero")


def table(inputs):
    inputs = np.array(inputs, float)
    return tables.Table(inputs, np.zeros(len(inputs)), tuple("abcdef"[: inputs.shape[1]]))


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


@pytest.mark.parametrize(
    ("cells", "labels", "names"),
    [
        ("1 0 1 0", [1, 0, 1, 0], ("0", "1")),
        ("2.0 0 1 1e0", [2, 0, 1, 1], ("0", "1", "2")),
        ("yes no no yes", [1, 0, 0, 1], ("no", "yes")),
        ("True False True False", [1, 0, 1, 0], ("False", "True")),
    ],
)
def test_labels_are_numbers_or_words(tmp_path, cells, labels, names):
    path = write(tmp_path, "size,kind\n" + "".join(f"{row}, {cell}\n" for row, cell in enumerate(cells.split())))
    table = tables.read_csv(path, labels=True)
    np.testing.assert_array_equal(table.inputs, [[0], [1], [2], [3]])
    np.testing.assert_array_equal(table.targets, labels)
    assert (table.targets.dtype, table.class_names) == (np.int32, names)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("1 1", "one class, 1"),
        ("yes yes", "one class, yes"),
        ("1 2", "words, or labels 0, 1 .* not 1, 2"),
        ("0 0.5", "not 0, 0.5"),
        ("0 1 yes", "line 4: the label 'yes' is none of the numbers"),
        ("yes no ?", "line 4: the last column, the label, has no value"),
        ("0 NaN 1", "line 3: the last column, the label, has no value"),
        (" ".join(f"word{number}" for number in range(51)), "51 values: does it hold labels"),
    ],
)
def test_labels_that_are_refused(tmp_path, cells, message):
    with pytest.raises(BadUsageError, match=message):
        tables.read_csv(write(tmp_path, "size,kind\n" + "".join(f"3,{cell}\n" for cell in cells.split())), labels=True)
