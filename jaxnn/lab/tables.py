"""Tables of numbers from CSV files, checked."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnn.lab.config import BadUsageError

LARGEST = 1e100  # beyond it squares overflow, and below its inverse they vanish


class Table(NamedTuple):
    """Inputs [rows, features] and targets [rows], both float64, and what the features are called."""

    inputs: np.ndarray
    targets: np.ndarray
    feature_names: tuple[str, ...]


def read_csv(path: str | os.PathLike) -> Table:
    """The first line names the columns, the last column is the target, all cells are finite numbers.

    Raises BadUsageError that names the file, the line and the column of what cannot be used.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            names, *lines = [(reader.line_num, row) for row in reader if row] or [(1, [])]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadUsageError(f"cannot read {path} ({getattr(error, 'strerror', None) or error})") from error
    names = [name.strip() for name in names[1]]
    if len(names) < 2 or all(_number(name) is not None for name in names):
        raise BadUsageError(f"{path}: the first line must name the columns, two or more with commas between them")
    twice = sorted({name for name in names if names.count(name) > 1 or not name})
    if twice:
        raise BadUsageError(f"{path}: every column needs a name of its own, unlike '{twice[0]}'")
    values = np.array([_parse(path, line, row, names) for line, row in lines])
    if len(values) < 2:
        raise BadUsageError(f"{path} needs two lines of numbers or more")
    return Table(values[:, :-1], values[:, -1], tuple(names[:-1]))


def _parse(path: Path, line: int, row: Sequence[str], names: Sequence[str]) -> list[float]:
    if len(row) != len(names):
        raise BadUsageError(f"{path}, line {line}: {len(row)} cells, but the first line names {len(names)} columns")
    values = []
    for name, cell in zip(names, row, strict=True):
        value = _number(cell)
        if value is None or (value and not 1 / LARGEST < abs(value) < LARGEST):
            raise BadUsageError(
                f"{path}, line {line}, column {name}: '{cell}' is not a number that can be used, 0 or of a size in "
                f"{1 / LARGEST:g} ... {LARGEST:g}: mend the cell or drop the line"
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


def labels(table: Table, path: str | os.PathLike) -> np.ndarray:
    """The targets as int32 labels 0 ... K - 1, all of them there; else BadUsageError."""
    found = np.unique(table.targets)
    if len(found) < 2:
        raise BadUsageError(f"{path}: all rows are of one class, {found[0]:g}: there is nothing to tell apart")
    if len(found) > 50:
        raise BadUsageError(f"{path}: the last column has {len(found)} values: does it hold labels, 0 ... K - 1?")
    if not np.array_equal(found, np.arange(len(found))):
        shown = ", ".join(f"{value:g}" for value in found[:6]) + (" ..." if len(found) > 6 else "")
        raise BadUsageError(f"{path}: the last column must hold labels 0, 1 ... K - 1, each at least once, not {shown}")
    return table.targets.astype(np.int32)
