"""Tables of numbers from CSV files, checked."""

import csv
import io
import os
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnn.lab.config import BadUsageError
from jaxnn.lab.files import read_bytes

LARGEST = 1e100  # beyond it squares overflow, and below its inverse they vanish
MISSING = ("", "?", "na", "n/a", "nan", "null")  # what a cell without a value has, in small or capital letters
MAX_CLASSES = 50  # more values are hardly labels


class Table(NamedTuple):
    """Inputs [rows, features] float64; targets [rows], float64 or int32 labels; what features and labels are called."""

    inputs: np.ndarray
    targets: np.ndarray
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...] = ()


def read_csv(path: str | os.PathLike, *, labels: bool = False) -> Table:
    """The first line names the columns, the last column is the target, all cells are finite numbers.

    labels: the last column has classes instead, 0 ... K - 1 or words; words are numbered in the order of the alphabet.

    Raises BadUsageError that names the file, the line and the column of what cannot be used.
    """
    path = Path(path)
    (_, names), *lines = read_lines(path) or [(1, [])]
    names = [name.strip() for name in names]
    if len(names) < 2 or all(_number(name) is not None for name in names):
        raise BadUsageError(f"{path}: the first line must name the columns, two or more, separated by commas or by ;")
    twice = sorted({name for name in names if names.count(name) > 1 or not name})
    if twice:
        raise BadUsageError(f"{path}: every column needs a name of its own, unlike {reprlib.repr(twice[0])}")
    for line, row in lines:
        if len(row) != len(names):
            raise BadUsageError(f"{path}, line {line}: {len(row)} cells, but the first line names {len(names)} columns")
    features = tuple(names[:-1])
    values = np.array([_parse(path, line, row, features if labels else names) for line, row in lines])
    if len(values) < 2:
        raise BadUsageError(f"{path} needs two lines of numbers or more")
    if labels:
        targets, class_names = _read_labels(path, [(line, row[-1]) for line, row in lines])
        return Table(values, targets, features, class_names)
    return Table(values[:, :-1], values[:, -1], features)


def read_lines(path: Path) -> list[tuple[int, list[str]]]:
    """The lines of a CSV file that are not blank: their numbers and their cells. Raises BadUsageError."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
        delimiter = max(",;\t", key=text.lstrip().partition("\n")[0].count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [(reader.line_num, row) for row in reader if row]
    except UnicodeDecodeError as error:
        raise BadUsageError(f"cannot read {path} (it is no text in UTF-8): save it as CSV in UTF-8") from error
    except (OSError, csv.Error) as error:
        raise BadUsageError(f"cannot read {path} ({getattr(error, 'strerror', None) or error})") from error
    for line, row in lines:
        if any("\n" in cell or "\r" in cell for cell in row):
            raise BadUsageError(f"{path}, line {line}: a quotation mark spans several lines: mend or remove it")
    return lines


def _parse(path: Path, line: int, row: Sequence[str], names: Sequence[str]) -> list[float]:
    """The cells that have names, as numbers."""
    values = []
    for name, cell in zip(names, row, strict=False):
        value = _number(cell)
        if value is None or (value and not 1 / LARGEST < abs(value) < LARGEST):
            raise BadUsageError(
                f"{path}, line {line}, column {name}: {reprlib.repr(cell)} is not a number that can be used, 0 or of a "
                f"size in {1 / LARGEST:g} ... {LARGEST:g}: mend the cell, or drop the line or the column (a last "
                "column of classes is read by labels=True)"
            )
        values.append(value)
    return values


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def warnings(table: Table) -> list[str]:
    """What makes fits of this table doubtful, a line each: constant columns, too few rows, collinear columns."""
    constant = [name for name, column in zip(table.feature_names, table.inputs.T, strict=True) if np.ptp(column) == 0]
    found = [f"column {name} is constant: it says nothing, and its weight is 0" for name in constant]
    num_rows, num_features = table.inputs.shape
    centred = table.inputs - table.inputs.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=0)
    rank = np.linalg.matrix_rank(centred / np.where(lengths == 0, 1, lengths))
    if num_rows <= num_features:
        found.append(f"{num_rows} rows are too few for {num_features} features: many weights fit equally well")
    elif rank < num_features - len(constant):
        found.append(f"the {num_features} columns are collinear, of rank {rank}: many weights fit equally well")
    return found


def _read_labels(path: Path, cells: Sequence[tuple[int, str]]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The labels of the last column, int32, and the names of the classes."""
    lines, words = zip(*((line, cell.strip()) for line, cell in cells), strict=True)
    values = [_number(word) for word in words]
    are_words = all(value is None for value in values)
    for line, word, value in zip(lines, words, values, strict=True):
        if word.lower() in MISSING:
            raise BadUsageError(f"{path}, line {line}: the last column, the label, has no value: drop the line")
        if value is None and not are_words:
            raise BadUsageError(
                f"{path}, line {line}: the label {reprlib.repr(word)} is none of the numbers 0 ... K - 1, and others "
                "are: labels are all numbers or all words"
            )
    classes, labels = np.unique(words if are_words else np.array(values, float), return_inverse=True)
    names = tuple(str(value) if are_words else f"{value:g}" for value in classes)
    shown = ", ".join(names[:6]) + (" ..." if len(names) > 6 else "")
    if len(classes) < 2:
        raise BadUsageError(f"{path}: all rows are of one class, {shown}: there is nothing to tell apart")
    if len(classes) > MAX_CLASSES:
        raise BadUsageError(f"{path}: the last column has {len(classes)} values: does it hold labels?")
    if not are_words and not np.array_equal(classes, np.arange(len(classes))):
        raise BadUsageError(
            f"{path}: the last column must hold words, or labels 0, 1 ... K - 1, each at least once, not {shown}"
        )
    return labels.astype(np.int32), names
