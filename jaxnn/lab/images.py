"""Pictures from files: digits made like those of MNIST, and whatever else as squares of one size."""

import io
import os
import warnings
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from jaxnn.lab.files import read_bytes

_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")  # not EPS, a program that Pillow would have run
_MAX_MEGAPIXELS = 64  # as many as telephones take; they need 1 GB of memory
_MAX_SIDE = 800  # more pixels show no more of a digit
_BOX = 20  # MNIST fits the digit into such a square ...
_FIELD = 28  # ... and puts its centre of mass into pixel 14 of this one, both ways


class PictureError(ValueError):
    """The file is no picture, or shows nothing; the message names it."""


def read_picture(path: str | os.PathLike) -> Float[np.ndarray, "height width"]:
    """A PNG, JPEG, GIF, BMP, TIFF or WebP file in grey, from 0, black, to 1, white; transparency is white.

    Of several frames, the first. Raises PictureError where it cannot be read or has more than 64 million pixels.
    """
    picture = _open(path)
    picture.thumbnail((_MAX_SIDE, _MAX_SIDE))
    return np.asarray(_on_white(picture).convert("L"), float) / 255


def read_square(
    path: str | os.PathLike, *, size: int, channels: Literal[1, 3]
) -> UInt8[np.ndarray, "{size} {size} {channels}"]:
    """The square in the middle of a picture file, scaled to size x size: in grey, or in red, green and blue.

    It is as high as the picture, or as wide where that is less. Raises PictureError as `read_picture` does.
    """
    from PIL import ImageOps

    square = _on_white(ImageOps.fit(_open(path, min_side=2 * size), (size, size)))
    return np.asarray(square.convert("L" if channels == 1 else "RGB")).reshape(size, size, channels)


def _open(path: str | os.PathLike, *, min_side: int = _MAX_SIDE) -> Any:
    """The picture in RGBA; of a large JPEG a half, a quarter or an eighth of its size, at least `min_side` each way."""
    from PIL import Image, ImageOps

    bombs = Image.DecompressionBombWarning, Image.DecompressionBombError  # Pillow's words for large pictures
    try:
        content = io.BytesIO(read_bytes(path))
        with warnings.catch_warnings(action="error", category=bombs[0]), Image.open(content, formats=_FORMATS) as file:
            if file.width * file.height > _MAX_MEGAPIXELS * 1_000_000:
                raise Image.DecompressionBombError
            file.draft(None, (min_side, min_side))
            return _in_eight_bits(ImageOps.exif_transpose(file)).convert("RGBA")  # as the camera was held
    except bombs as error:
        raise PictureError(f"{path}: it has more than {_MAX_MEGAPIXELS} million pixels: scale it down") from error
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        reason = getattr(error, "strerror", None) or "it is damaged, or no picture that can be read: give a PNG or JPEG"
        raise PictureError(f"{path}: {reason}") from error


def _on_white(picture):
    from PIL import Image

    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def _in_eight_bits(picture):
    """Pictures with more bits per pixel, such as those of scanners, which Pillow would clip."""
    from PIL import Image

    if picture.mode not in ("F", "I") and not picture.mode.startswith("I;"):
        return picture
    pixels = np.asarray(picture, float)
    if not np.isfinite(pixels).all():
        raise ValueError("a pixel is not a number")
    white = next((white for white in (1, 255, 65535) if pixels.max() <= white), pixels.max())
    return Image.fromarray(np.clip(255 * pixels / white, 0, 255).astype(np.uint8))


def read_digit(
    path: str | os.PathLike,
) -> tuple[Float[np.ndarray, "height width"], UInt8[np.ndarray, "28 28 1"]]:
    """A picture file in grey, and the digit in it as MNIST shows it; raises PictureError."""
    picture = read_picture(path)
    try:
        return picture, like_mnist(picture)
    except PictureError as error:
        raise PictureError(f"{path}: {error}") from error


def like_mnist(picture: Float[np.ndarray, "height width"]) -> UInt8[np.ndarray, "28 28 1"]:
    """The digit in a grey picture, light on dark or dark on light, as MNIST shows it: light on black.

    As there (LeCun et al., "Gradient-based learning applied to document recognition", 1998), the digit is cropped,
    scaled to fit 20x20 pixels with its proportions kept, and put into 28x28 with its centre of mass in the middle.
    Raises PictureError where there is nothing but background.
    """
    ink, drawn = _find_ink(picture)
    rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
    cropped = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    digit = _fit_into_box(cropped)
    return _centre_by_mass(digit)[..., None]


def _find_ink(picture):
    """How much ink each pixel has, 0 to 1, and where the strokes are; specks of dust are left out."""
    from scipy import ndimage

    difference = picture - _background(picture)
    smooth = ndimage.gaussian_filter(difference, sigma=max(picture.shape) / 400)
    if -smooth.min() > smooth.max():  # dark on light
        difference, smooth = -difference, -smooth
    if smooth.max() < 0.05:
        raise PictureError("there is no digit, only background")
    parts, _ = ndimage.label(smooth > 0.4 * smooth.max(), structure=np.ones((3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    drawn = np.isin(parts, 1 + np.flatnonzero(sizes >= 0.05 * sizes.max()))
    near = ndimage.binary_dilation(drawn, iterations=1 + max(picture.shape) // 200)  # the soft edges of strokes
    full = np.median(difference[drawn])
    return np.where(near, np.clip(difference / full, 0, 1), 0), drawn


def _background(picture):
    """The paper, however the light falls: the plane through the edge of the picture, whatever ink reaches it."""
    margin = max(1, min(picture.shape) // 20)
    edge = np.ones(picture.shape, bool)
    edge[margin:-margin, margin:-margin] = False
    rows, columns = np.indices(picture.shape)
    terms = np.stack([np.ones(picture.shape), rows / len(picture), columns / picture.shape[1]], axis=-1)
    for _ in range(3):
        plane = terms @ np.linalg.lstsq(terms[edge], picture[edge], rcond=None)[0]
        error = np.abs(picture - plane)
        edge &= error <= 2 * np.median(error[edge]) + 0.02
    return plane


def _fit_into_box(ink):
    from PIL import Image

    height, width = ink.shape
    scale = _BOX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    digit = np.asarray(Image.fromarray(ink.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    return np.round(255 * digit / digit.max()).astype(np.uint8)


def _centre_by_mass(digit):
    field = np.zeros((_FIELD, _FIELD), np.uint8)
    corner = []
    for axis, size in enumerate(digit.shape):
        mass = digit.sum(axis=1 - axis)
        centre = np.sum(np.arange(size) * mass) / mass.sum()
        corner.append(int(np.clip(round(_FIELD / 2 - centre), 0, _FIELD - size)))
    field[corner[0] : corner[0] + digit.shape[0], corner[1] : corner[1] + digit.shape[1]] = digit
    return field
