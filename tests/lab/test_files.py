import json
import math
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
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


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(0.1), "0.1"),
        (jnp.float32(1e-8), "1e-08"),
        (np.float64(0.1) + 0.2, "0.30000000000000004"),
        (jnp.bfloat16(0.5), "0.5"),
        (np.array(0.1, np.float32), "0.1"),
        (jnp.array([[0.1, jnp.nan], [jnp.inf, -jnp.inf]]), '[[0.1, null], ["inf", "-inf"]]'),
        (np.array([1e-300, 5e300]), "[1e-300, 5e+300]"),
        (np.zeros((0, 3)), "[]"),
        (np.array([2**62 + 1]), "[4611686018427387905]"),
        ((np.bool_(True), np.str_("a"), Path("/a/b"), None, math.inf), '[true, "a", "/a/b", null, "inf"]'),
        ({"a": {"b": (math.nan,)}}, '{"a": {"b": [null]}}'),
    ],
)
def test_to_json(value, text):
    assert files.to_json(value) == text


def test_float32_comes_back_from_json_bit_for_bit():
    values = np.random.default_rng(0).integers(0, 2**32, 1000, dtype=np.uint32).view(np.float32)
    values = values[np.isfinite(values)]
    np.testing.assert_array_equal(np.array(json.loads(files.to_json(values)), np.float32), values)


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(files.os, "fsync", lambda file: calls.append("fsync"))
    monkeypatch.setattr(Path, "replace", lambda part, path: calls.append("replace"))
    files.write_json(tmp_path / "a.json", {})
    assert calls == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe\xff", b"[]"])
def test_json_that_is_damaged_does_not_count(tmp_path, caplog, monkeypatch, content):
    monkeypatch.setattr(files.logging.getLogger("jaxnn"), "propagate", True)
    path = tmp_path / "a.json"
    assert (files.read_json(path), caplog.text) == (None, "")
    path.write_bytes(content)
    assert files.read_json(path) is None
    assert f"{path} is damaged" in caplog.text


def test_a_crash_between_write_and_rename_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})

    def crash(*paths):
        raise OSError("the power is off")

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(OSError, match="power"):
        files.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
