import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxnn.lab import datasets, images

DIGITS = datasets.mnist().validation.inputs[:40]


def write_picture(path, digit, *, size=280, dark_on_light=True, margin=0, noise=0.0, shadow=None, file_format="png"):
    """A large picture of a digit of MNIST, in a file."""
    grey = np.pad(digit[..., 0], margin)
    large = Image.fromarray(255 - grey if dark_on_light else grey).resize((size, size), Image.Resampling.BICUBIC)
    across = np.linspace(-1, 1, size)
    light = {
        None: 1,
        "one side": 0.8 + 0.2 * across,
        "edge": 1 - 0.1 * (across**2 + across[:, None] ** 2),
    }[shadow]
    paper = np.random.default_rng(0).normal(10, noise, (size, size))
    pixels = np.clip(np.asarray(large) * 0.8 * light + paper, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, file_format)
    return path


def difference(digits, others):
    return np.abs(np.asarray(digits, float) - np.asarray(others, float)).mean() / 255


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [  # the mean difference per pixel between two neighbouring digits of MNIST is 0.14
        ({"size": 28, "dark_on_light": False}, 0.015),
        ({}, 0.035),
        ({"dark_on_light": False, "margin": 20, "file_format": "jpeg"}, 0.035),
        ({"size": 64, "margin": 6, "noise": 4.0}, 0.04),
        ({"margin": 20, "noise": 4.0, "shadow": "one side"}, 0.04),
        ({"margin": 20, "noise": 4.0, "shadow": "edge"}, 0.04),
        ({"margin": 20, "dark_on_light": False, "shadow": "edge"}, 0.04),
        ({"size": 1200, "margin": 30, "noise": 8.0, "file_format": "jpeg"}, 0.04),
    ],
)
def test_a_picture_of_a_digit_of_mnist_becomes_that_digit(tmp_path, settings, allowed):
    digits = DIGITS if settings.get("size", 0) < 1000 else DIGITS[:8]  # a large one takes its time
    again = [images.read_digit(write_picture(tmp_path / "digit", digit, **settings))[1] for digit in digits]
    assert difference(again, digits) < allowed
    assert difference(again, np.roll(digits, 1, axis=1)) > 2 * difference(again, digits)  # not a pixel beside it
    assert difference(again[1:], digits[:-1]) > 0.1


def test_a_bar_is_cropped_scaled_and_centred():
    picture = np.ones((100, 200))
    picture[30:70, 150:160] = 0.2
    digit = images.like_mnist(picture)
    assert (digit.shape, digit.dtype, digit.max()) == ((28, 28, 1), np.uint8, 255)
    rows, columns = np.nonzero(digit[..., 0])
    assert (rows.min(), rows.max()) == (4, 23)  # 20 pixels high, and a quarter as wide
    assert columns.max() - columns.min() + 1 == 5
    assert abs(np.average(columns, weights=digit[rows, columns, 0]) - 14) <= 0.5


def test_a_picture_is_the_same_in_every_mode(tmp_path):
    grey = np.full((60, 60), 250, np.uint8)
    grey[15:45, 25:32] = 20
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray((grey / 255).astype(np.float32)).save(tmp_path / "32.tiff")
    Image.fromarray(grey).convert("CMYK").save(tmp_path / "ink.jpg", quality=100)
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(grey).save(tmp_path / "frames.gif", save_all=True, append_images=[Image.fromarray(255 - grey)])
    expected = images.read_picture(tmp_path / "8.png")
    for name in ("16.png", "32.tiff", "ink.jpg", "palette.png", "frames.gif"):
        np.testing.assert_allclose(images.read_picture(tmp_path / name), expected, atol=0.005)


@pytest.mark.parametrize("shape", [(9, 5), (4, 9), (5, 5), (1, 30)])
def test_read_square_scales_the_square_in_the_middle(tmp_path, shape):
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    side = min(shape)
    top, left = ((length - side) / 2 for length in shape)
    scaled = Image.fromarray(pixels).resize((3, 3), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    for channels, expected in ((3, scaled), (1, scaled.convert("L"))):
        found = images.read_square(tmp_path / "picture.png", size=3, channels=channels)
        assert (found.shape, found.dtype) == ((3, 3, channels), np.uint8)
        np.testing.assert_array_equal(found, np.asarray(expected).reshape(3, 3, channels))


def test_a_large_jpeg_is_not_read_in_full(tmp_path):
    small = np.random.default_rng(2).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    picture = Image.fromarray(small).resize((2000, 1500), Image.Resampling.BICUBIC)
    for name in ("picture.png", "picture.jpg"):
        picture.save(tmp_path / name)
    assert images._open(tmp_path / "picture.jpg", min_side=56).size == (250, 188)  # in a tenth of the time
    jpeg, png = (images.read_square(path, size=28, channels=3) for path in sorted(tmp_path.iterdir()))
    assert difference(jpeg, png) < 0.02


def test_a_square_of_the_size_that_is_asked_for_stays_as_it_is(tmp_path):
    Image.fromarray(DIGITS[0, ..., 0]).save(tmp_path / "digit.png")
    np.testing.assert_array_equal(images.read_square(tmp_path / "digit.png", size=28, channels=1), DIGITS[0])


def test_dust_is_no_part_of_the_digit():
    picture = np.ones((100, 100))
    picture[40:80, 45:55] = 0
    clean = images.like_mnist(picture)
    picture[8:10, 8:10] = 0
    np.testing.assert_array_equal(images.like_mnist(picture), clean)


def test_transparency_is_paper_and_a_turned_photograph_is_turned_back(tmp_path):
    ink = np.zeros((60, 40, 4), np.uint8)
    ink[10:50, 15:25, 3] = 255
    Image.fromarray(ink).save(tmp_path / "ink.png")
    picture = images.read_picture(tmp_path / "ink.png")
    assert (picture[0, 0], picture[30, 20]) == (1, 0)
    turned = Image.fromarray((255 * picture).astype(np.uint8)).rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by 90 degrees
    turned.save(tmp_path / "turned.jpg", exif=exif)
    again = images.read_picture(tmp_path / "turned.jpg")
    assert again.shape == (60, 40)
    assert difference(255 * again, 255 * picture) < 0.02
    square = images.read_square(tmp_path / "turned.jpg", size=40, channels=1)
    assert difference(square[..., 0], 255 * picture[10:50]) < 0.02
    assert np.unique(images.read_square(tmp_path / "ink.png", size=40, channels=3)).tolist() == [0, 255]


@pytest.mark.parametrize("picture", [np.ones((50, 50)), np.full((50, 50), 0.3), np.ones((1, 1)), np.eye(50) * 0.01])
def test_a_picture_of_nothing_is_refused(picture):
    with pytest.raises(images.PictureError, match="there is no digit, only background"):
        images.like_mnist(picture)


def test_what_is_no_picture_is_refused_by_name(tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    Image.new("L", (40, 40), 200).save(tmp_path / "blank.png")
    whole = write_picture(tmp_path / "whole", DIGITS[0]).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.new("L", (40, 40), 200).save(tmp_path / "program.eps")  # Ghostscript would run it
    Image.fromarray(np.full((40, 40), np.nan, np.float32)).save(tmp_path / "nan.tiff")
    header = struct.pack(">4s2I5B", b"IHDR", 13_000, 13_000, 8, 0, 0, 0, 0)
    (tmp_path / "large.png").write_bytes(whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:])
    os.mkfifo(tmp_path / "pipe.png")
    for name, message in [
        ("text.png", "it is damaged, or no picture that can be read"),
        ("cut.png", "it is damaged, or no picture that can be read"),
        ("program.eps", "it is damaged, or no picture that can be read"),
        ("nan.tiff", "it is damaged, or no picture that can be read"),
        ("large.png", "it has more than 64 million pixels: scale it down"),
        ("pipe.png", "it is a pipe or a device, not a file"),
        ("missing.png", "No such file"),
        ("", "Is a directory"),
        ("blank.png", "there is no digit"),
    ]:
        with pytest.raises(images.PictureError, match=rf"^{tmp_path / name}: {message}"):
            images.read_digit(tmp_path / name)
        if name != "blank.png":
            with pytest.raises(images.PictureError, match=rf"^{tmp_path / name}: {message}"):
                images.read_square(tmp_path / name, size=28, channels=1)
