import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from jaxnn.lab import datasets
from jaxnn.lab.config import BadUsageError
from jaxnn.lab.image_folders import image_folder

SIZES = {"ape": 3, "bee": 20, "cat": 12}  # pictures of each class, each all of one shade: its number in their order


@pytest.fixture
def folder(tmp_path):
    """Pictures in folders of their classes, in files that were not written in the order of their names."""
    names = [f"{name}/{number:02}.png" for name, size in SIZES.items() for number in range(size)]
    for shade in np.random.default_rng(0).permutation(len(names)):
        path = tmp_path / names[shade]
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (7, 5), int(shade)).save(path)
    return tmp_path


def shades(data):
    """The pictures of each part, by their numbers."""
    return [part.inputs[:, 0, 0, 0].tolist() for part in data.splits]


def test_each_picture_has_the_label_of_its_folder(folder):
    data = image_folder(folder, size=4, channels=1)
    assert data.class_names == ("ape", "bee", "cat")
    order = np.asarray(jax.random.permutation(jax.random.key(0), 35))
    assert sum(map(len, shades(data))) == 35
    for part, size in zip(data.splits, (27, 4, 4), strict=True):
        assert (part.inputs.shape, part.inputs.dtype, part.targets.dtype) == ((size, 4, 4, 1), np.uint8, np.int32)
        np.testing.assert_array_equal(part.targets, np.digitize(part.inputs[:, 0, 0, 0], [3, 23]))
        assert (part.inputs == part.inputs[:, :1, :1]).all()
    apes, bees, cats = ([shade for shade in order if shade in range(*ends)] for ends in ((0, 3), (3, 23), (23, 35)))
    assert set(shades(data)[1]) == {apes[0], *bees[:2], cats[0]}
    assert set(shades(data)[2]) == {apes[1], *bees[2:4], cats[1]}


def test_the_key_splits(folder):
    same, other = (image_folder(folder, jax.random.key(seed), size=4, channels=1) for seed in (0, 1))
    assert shades(same) == shades(image_folder(folder, size=4, channels=1)) != shades(other)
    assert same.sha256 == other.sha256


def test_a_table_of_names_and_labels_is_as_good(folder):
    in_folders = image_folder(folder, size=4, channels=3)
    lines = [f" {path.relative_to(folder)} ;{path.parent.name}" for path in folder.rglob("*.png")]
    (folder / "labels.csv").write_text("\n".join(["File;Label", *lines[::-1]]))
    Image.new("L", (4, 4)).save(folder / "nobody names it.png")
    in_table = image_folder(folder, size=4, channels=3)
    assert in_table.splits.train.inputs.shape == (27, 4, 4, 3)
    jax.tree.map(np.testing.assert_array_equal, in_table.splits, in_folders.splits)
    assert in_table[1:] == in_folders[1:]


def test_the_checksum_is_that_of_pixels_and_labels(folder, tmp_path):
    before = image_folder(folder, size=4, channels=1).sha256
    for name in (".DS_Store", "ape/.hidden.png", "ape/Thumbs.db", "bee/desktop.ini"):
        (folder / name).write_text("no picture")
    (folder / "cat").rename(folder / "cow")
    assert image_folder(folder, size=4, channels=1).sha256 == before
    (folder / "bee" / "00.png").rename(folder / "ape" / "99.png")  # the same pixels in the same order
    assert image_folder(folder, size=4, channels=1).sha256 != before
    (folder / "ape" / "99.png").rename(folder / "bee" / "00.png")
    Image.new("L", (7, 5), 200).save(folder / "bee" / "00.png")
    assert image_folder(folder, size=4, channels=1).sha256 != before


def test_progress_of_thousands_is_shown(tmp_path, capsys):
    Image.new("1", (1, 1)).save(tmp_path / "dot.png")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(500):
            (tmp_path / name / f"{number}.png").hardlink_to(tmp_path / "dot.png")
    (tmp_path / "dot.png").unlink()
    image_folder(tmp_path, size=1, channels=1)
    assert capsys.readouterr().err.startswith("100%  ")


def write(folder, name, text="no picture"):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)


def write_table(folder, *lines, header="file,label"):
    write(folder, "labels.csv", "\n".join([header, *lines]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: folder.rename(folder.with_name("elsewhere")), r"cannot read {folder} \(No such file"),
        (lambda folder: [shutil.rmtree(folder / name) for name in SIZES], "{folder} holds no pictures: there must be"),
        (
            lambda folder: [shutil.rmtree(folder / name) for name in ("ape", "bee")],
            "holds those of one class, cat: there must be two classes or more, each a folder of pictures, or a label",
        ),
        (
            lambda folder: [(folder / f"{name}/00.png").unlink() for name in ("ape", "bee")],
            r"a class needs 3 pictures or more, .*; fewer has ape \(2\)$",
        ),
        (
            lambda folder: [(folder / f"dog {n}").mkdir() for n in range(7)],
            "dog 3, dog 4 and 2 more: remove the folder",
        ),
        (
            lambda folder: write(folder, "README.txt"),
            "folder for each class, .* it also holds README.txt: move it away",
        ),
        (lambda folder: (folder / "ape").rename(folder / "a\npe"), r"cannot be printed: 'a\\npe': rename them"),
        (
            lambda folder: write(folder, "bee/notes.txt"),
            "^1 of 36 pictures cannot be used; .*:\n{folder}/bee/notes.txt: it is damaged, or no picture",
        ),
        (lambda folder: (folder / "ape" / "more").mkdir(), "{folder}/ape/more: Is a directory"),
        (
            lambda folder: [write(folder, f"bee/{number:02}.png") for number in range(7)],
            r"^7 of 35 pictures .*:(\n{folder}/bee/0[0-4].png: it is damaged.*){{5}}\n\.\.\.$",
        ),
        (lambda folder: write_table(folder, header="ape/00.png,ape"), "labels.csv: the first line must be file,label"),
        (lambda folder: write(folder, "labels.csv", ""), "labels.csv: the first line must be file,label"),
        (lambda folder: write_table(folder), "holds no pictures: there must be two classes"),
        (lambda folder: write_table(folder, "a.png,ape", "b.png,"), r"line 3: there must be the name of a picture and"),
        (lambda folder: write_table(folder, "a.png,ape,3"), r"line 2: there must be .*, not \['a.png', 'ape', '3'\]"),
        (
            lambda folder: write_table(folder, "ape/00.png,ape", "bee/../ape/00.png,bee"),
            "line 3: bee/../ape/00.png is named twice: keep one of the lines",
        ),
        (
            lambda folder: write_table(folder, *(f"{name}{n}.png,{name}" for name in "ab" for n in range(3))),
            "^6 of 6 pictures cannot be used; .*:\n{folder}/a0.png: No such file or directory\n",
        ),
    ],
)
def test_refuses(folder, change, message):
    change(folder)
    pattern = f"(?s){message.format(folder=folder)}"
    with pytest.raises(BadUsageError, match=pattern):
        image_folder(folder, size=4, channels=1)


def test_refuses_sizes_that_cannot_be(folder, as_users_see_it):
    with pytest.raises(BadUsageError, match=r"35 pictures of 20000x20000x3 take 42.0 GB of memory, more than 4: give"):
        image_folder(folder, size=20_000, channels=3)
    for sizes in ({"size": 0, "channels": 1}, {"size": 4, "channels": 2}):
        with pytest.raises(ValueError, match=r"size must be 1 or more, not .*, and channels 1 or 3, not"):
            image_folder(folder, **sizes)


def test_load_images_makes_them_like_mnist(folder):
    data, pictures = datasets.load_images(folder, num_train=5), datasets.image_folder(folder, size=28, channels=1)
    assert [len(part.targets) for part in data.splits] == [5, 4, 4]
    np.testing.assert_array_equal(data.splits.train.inputs, 255 - pictures.splits.train.inputs[:5])
    np.testing.assert_array_equal(data.splits.test.inputs, 255 - pictures.splits.test.inputs)
    assert data[1:] == pictures[1:]
    with pytest.raises(BadUsageError, match="mnits is no folder of pictures, and neither mnist nor fashion_mnist"):
        datasets.load_images(folder / "mnits")


def test_load_images_takes_the_name_of_a_set():
    data = datasets.load_images("mnist", num_train=100_000)
    assert [part.inputs.shape for part in data.splits] == [(size, 28, 28, 1) for size in (55_000, 5_000, 10_000)]
    assert data[1:] == (tuple("0123456789"), datasets.SHA256["mnist"])
