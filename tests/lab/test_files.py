import os

import pytest

from jaxnn.lab import files


def test_only_files_of_bounded_size_are_read(monkeypatch, tmp_path):
    (tmp_path / "whole").write_bytes(b"1,2")
    assert files.read_bytes(tmp_path / "whole") == b"1,2"
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(files, "MAX_BYTES", 2)
    for path, message in [
        (tmp_path / "pipe", "it is a pipe or a device, not a file"),
        ("/dev/zero", "it is a pipe or a device, not a file"),
        (tmp_path / "whole", "it is larger than"),
        (tmp_path, "Is a directory"),
        (tmp_path / "none", "No such file"),
    ]:
        with pytest.raises(OSError, match=message):
            files.read_bytes(path)


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_folder() == tmp_path / "jaxnn"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.cache_folder() == tmp_path / ".cache" / "jaxnn"
