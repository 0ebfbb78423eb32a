"""Files that are there as a whole or not at all, and JSON in them."""

import json
import logging
import math
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

log = logging.getLogger(__name__)


def write_whole(path: Path, content: bytes):
    """Writes a file that holds, whatever happens meanwhile, all of its old content or all of the new."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)  # where the disk is full, others need the space
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # so that the new name outlives a crash, too
    finally:
        os.close(folder)


def to_json(content: Any, **options) -> str:
    """JSON, which has neither arrays nor NaN nor infinity: lists, null, and "inf" or "-inf" stand for them.

    Numbers of low precision get the digits that tell them from their neighbours: float32's 0.1 is 0.1.
    """

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, np.ndarray | np.generic | jax.Array):
            array = np.asarray(value)
            if array.dtype.kind in "fV" and array.dtype.itemsize < 8:
                array = array.astype(np.float32).astype(str).astype(float)
            return plain(array.tolist())
        if isinstance(value, float) and not math.isfinite(value):
            return None if math.isnan(value) else str(value)
        return str(value) if isinstance(value, Path) else value

    return json.dumps(plain(content), allow_nan=False, **options)


def write_json(path: Path, content: dict[str, Any]):
    """The content as a file: whoever reads finds all of it or none."""
    write_whole(path, (to_json(content, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """The content of a file; None where there is none, and where it is damaged, which is said."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        log.warning("%s is damaged, and does not count", path)
        return None
    return content
