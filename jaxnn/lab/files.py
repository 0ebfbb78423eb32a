"""Files: where they are kept, which of a user's are read, how they are written whole, and JSON in them."""

import errno
import json
import logging
import math
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

log = logging.getLogger(__name__)

MAX_BYTES = 100_000_000  # of a file that a user names: whatever is larger is no table of ours and no picture


def cache_folder() -> Path:
    """Data and compiled programs are kept in it: jaxnn in the folder XDG_CACHE_HOME, else in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "jaxnn"


def read_bytes(path: str | os.PathLike) -> bytes:
    """The content of a regular file of 100 MB or less: a pipe may never begin, and a device never end.

    Raises OSError, whose `strerror` says what is wrong.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):  # a folder has an error of its own
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", path)
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError(errno.EFBIG, f"it is larger than {MAX_BYTES // 1_000_000} MB: give a smaller file", path)
    return content


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
