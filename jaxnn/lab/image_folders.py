"""One's own pictures as a data set: a folder per class, or a table of their names and labels."""

import collections
import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from jaxnn.lab import console, images, tables
from jaxnn.lab.config import BadUsageError
from jaxnn.lab.splits import Splits, split
from jaxnn.types import Batch, PRNGKey

LABELS = "labels.csv"
"""The table: its first line is `file,label`; the others have a picture's name, seen from the folder, and its class."""

MAX_GIGABYTES = 4  # of the pictures as they are trained on, in memory

_MIN_PICTURES = 3  # of a class: one to train on, one to validate, one to test
_NUM_NAMED = 5  # of all that is wrong, so much is named
_SYSTEM = ("thumbs.db", "desktop.ini")  # Windows leaves them in folders; other systems leave hidden files
_MANY = 1000  # pictures, of which the progress is shown


class ImageData(NamedTuple):
    """Images in three parts, what their labels mean, and the SHA-256 of pixels and labels, or of each file of MNIST."""

    splits: Splits
    class_names: tuple[str, ...]
    sha256: str | Mapping[str, str]


def image_folder(
    directory: str | os.PathLike, key: PRNGKey | None = None, *, size: int, channels: Literal[1, 3]
) -> ImageData:
    """Pictures of any size as inputs uint8 [examples, size, size, channels], with targets int32 [examples].

    The directory has a folder for each class, with its pictures, or the table `labels.csv`. Hidden files do not count.
    Classes are numbered in the order of the alphabet. Of each picture the square in its middle is scaled, in grey or in
    colours, see `images.read_square`. A tenth of each class is for validation, a tenth for the test, at least one.

    key: splits, see `splits.split`. The same pictures under the same names are split in the same way on every machine.

    Raises BadUsageError that names what cannot be used: pictures, names, classes that are too small.
    """
    if size < 1 or channels not in (1, 3):
        raise ValueError(f"size must be 1 or more, not {size}, and channels 1 or 3, not {channels}")
    directory = Path(directory)
    try:
        labelled = _labelled(directory) if (directory / LABELS).exists() else _in_class_folders(directory)
    except OSError as error:
        raise BadUsageError(f"cannot read {error.filename or directory} ({error.strerror})") from error
    names = [name for _, name in labelled]
    class_names = _check_classes(directory, names)
    numbers = {name: number for number, name in enumerate(class_names)}
    inputs = _read([path for path, _ in labelled], size, channels)
    targets = np.array([numbers[name] for name in names], np.int32)
    sha256 = hashlib.sha256(inputs.data)
    sha256.update(targets.astype("<i4").data)
    return ImageData(split(Batch(inputs, targets), key), class_names, sha256.hexdigest())


def _in_class_folders(directory: Path) -> list[tuple[Path, str]]:
    """The pictures in the order of their names, each with its class: the name of its folder."""
    folders = _visible(directory)
    stray = [path for path in folders if not path.is_dir()]
    if stray:
        raise BadUsageError(
            f"{directory} must hold a folder for each class, or name all pictures in {LABELS}; it also holds "
            f"{_some([path.name for path in stray])}: move it away"
        )
    pictures = {folder.name: _visible(folder) for folder in folders}
    empty = [name for name, paths in pictures.items() if not paths]
    if empty:
        raise BadUsageError(f"{directory}: there are no pictures in {_some(empty)}: remove the folder, or fill it")
    return [(path, name) for name, paths in pictures.items() for path in paths]


def _visible(directory: Path) -> list[Path]:
    names = sorted(os.listdir(directory))
    return [directory / name for name in names if not name.startswith(".") and name.lower() not in _SYSTEM]


def _labelled(directory: Path) -> list[tuple[Path, str]]:
    """The pictures that the table names, in the order of their names, each with its class."""
    table = directory / LABELS
    lines = tables.read_lines(table)
    if not lines or [cell.strip().lower() for cell in lines[0][1]] != ["file", "label"]:
        raise BadUsageError(f"{table}: the first line must be file,label")
    found: dict[Path, str] = {}
    for line, cells in lines[1:]:
        if len(cells) != 2 or not all(cell.strip() for cell in cells):
            raise BadUsageError(f"{table}, line {line}: there must be the name of a picture and its label, not {cells}")
        name, label = (cell.strip() for cell in cells)
        path = Path(os.path.normpath(directory / name))
        if path in found:
            raise BadUsageError(f"{table}, line {line}: {name} is named twice: keep one of the lines")
        found[path] = label
    return sorted(found.items())


def _check_classes(directory: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The names of the classes, in the order of the alphabet."""
    sizes = dict(sorted(collections.Counter(names).items()))
    if len(sizes) < 2:
        found = f"those of one class, {next(iter(sizes))}" if sizes else "no pictures"
        raise BadUsageError(
            f"{directory} holds {found}: there must be two classes or more, each a folder of pictures, or a label in "
            f"{LABELS}"
        )
    small = [f"{name} ({size})" for name, size in sizes.items() if size < _MIN_PICTURES]
    if small:
        raise BadUsageError(
            f"{directory}: a class needs {_MIN_PICTURES} pictures or more, to train, validate and test; fewer has "
            f"{_some(small)}"
        )
    unprintable = [repr(name) for name in sizes if not name.isprintable()]
    if unprintable:
        raise BadUsageError(f"{directory}: names of classes that cannot be printed: {_some(unprintable)}: rename them")
    return tuple(sizes)


def _read(paths: Sequence[Path], size: int, channels: Literal[1, 3]) -> np.ndarray:
    """The pictures; one error counts all that cannot be read, and names the first of them."""
    gigabytes = len(paths) * size * size * channels / 1e9
    if gigabytes > MAX_GIGABYTES:
        raise BadUsageError(
            f"{len(paths):,} pictures of {size}x{size}x{channels} take {gigabytes:.1f} GB of memory, more than "
            f"{MAX_GIGABYTES}: give fewer of them, or a smaller size"
        )
    inputs = np.empty((len(paths), size, size, channels), np.uint8)
    errors = []
    shown = console.progress(console.stderr(), len(paths), unit="pictures", label="reading pictures")
    with shown if len(paths) >= _MANY else contextlib.nullcontext(lambda done, numbers: None) as report:
        for number, path in enumerate(paths):
            try:
                inputs[number] = images.read_square(path, size=size, channels=channels)
            except images.PictureError as error:
                errors.append(str(error))
            if (number + 1) % _MANY == 0:
                report(number + 1, {})
    if errors:
        all_of_them = f"{len(errors)} of {len(paths):,} pictures cannot be used; mend them, or take them away:"
        raise BadUsageError("\n".join([all_of_them, *errors[:_NUM_NAMED], *["..."] * (len(errors) > _NUM_NAMED)]))
    return inputs


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NUM_NAMED
    return ", ".join(names[:_NUM_NAMED]) + (f" and {more} more" if more > 0 else "")
