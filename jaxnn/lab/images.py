"""Pictures of digits from files, made like those of MNIST."""

import os

import numpy as np
from jaxtyping import Float, UInt8

_MAX_PIXELS = 800  # along the longer side: more show no more of a digit
_BOX = 20  # MNIST fits the digit into such a square ...
_FIELD = 28  # ... and puts its centre of mass into pixel 14 of this one, both ways


class PictureError(ValueError):
    """The file is no picture, or shows nothing; the message names it."""


def read_picture(path: str | os.PathLike) -> Float[np.ndarray, "height width"]:
    """A PNG or JPEG file (or whatever else Pillow reads) in grey, from 0, black, to 1, white; transparency is white.

    Raises PictureError where it cannot be read.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            picture = _in_eight_bits(ImageOps.exif_transpose(file)).convert("RGBA")  # as the camera was held
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or "it is no picture that can be read, such as a PNG or JPEG"
        raise PictureError(f"{path}: {reason}") from error
    picture.thumbnail((_MAX_PIXELS, _MAX_PIXELS))
    paper = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(paper, picture).convert("L"), float) / 255


def _in_eight_bits(picture):
    """Pictures with more bits per pixel, such as those of scanners, which Pillow would clip."""
    from PIL import Image

    if picture.mode not in ("F", "I") and not picture.mode.startswith("I;"):
        return picture
    pixels = np.asarray(picture, float)
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
