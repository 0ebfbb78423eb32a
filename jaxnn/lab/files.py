"""Where files are kept between runs, and which files of a user are read."""

import errno
import os
from pathlib import Path

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
