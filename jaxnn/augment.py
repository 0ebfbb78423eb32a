"""Random changes of images that keep their label. Pixels that come in from outside the image are 0."""

import math
from numbers import Integral

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, ArrayLike, Float, Num

from jaxnn.types import PRNGKey


def random_shift(
    images: Num[ArrayLike, "batch height width channels"], key: PRNGKey, *, max_pixels: int
) -> Num[Array, "batch height width channels"]:
    """Each image moved by up to `max_pixels` whole pixels along each axis, all shifts equally likely.

    `max_pixels` is smaller than the images, so that a part of each stays.
    """
    images = _checked("random_shift", images)
    if not isinstance(max_pixels, Integral) or not 0 <= max_pixels < min(images.shape[1:3]):
        limits = f"0 ... {min(images.shape[1:3]) - 1} for images of shape {images.shape}"
        raise ValueError(f"random_shift: max_pixels must be a whole number in {limits}, not {max_pixels}")
    if max_pixels == 0:
        return images
    margin = (max_pixels, max_pixels)
    padded = jnp.pad(images, ((0, 0), margin, margin, (0, 0)))
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * max_pixels + 1)

    def cut(image, corner):
        return lax.dynamic_slice(image, (*corner, 0), images.shape[1:])

    return jax.vmap(cut)(padded, corners)


def random_rotation(
    images: Num[ArrayLike, "batch height width channels"], key: PRNGKey, *, max_degrees: float
) -> Num[Array, "batch height width channels"]:
    """Each image turned about its centre by an angle uniform in ±`max_degrees`, with linear interpolation.

    Integer pixels become float32, since what lies between two of them is no integer.
    """
    images = _checked("random_rotation", images)
    if not 0 <= max_degrees < math.inf:
        raise ValueError(f"random_rotation: max_degrees must be 0 or more, and finite, not {max_degrees}")
    if max_degrees == 0:
        return images
    if not jnp.issubdtype(images.dtype, jnp.floating):
        images = images.astype(jnp.float32)
    height, width = images.shape[1:3]
    y, x = jnp.meshgrid(jnp.arange(height) - (height - 1) / 2, jnp.arange(width) - (width - 1) / 2, indexing="ij")
    angles = jnp.deg2rad(jax.random.uniform(key, (len(images),), minval=-max_degrees, maxval=max_degrees))

    def rotate(image: Float[Array, "height width channels"], angle):
        rows = jnp.cos(angle) * y - jnp.sin(angle) * x + (height - 1) / 2
        columns = jnp.sin(angle) * y + jnp.cos(angle) * x + (width - 1) / 2
        return jax.vmap(lambda channel: map_coordinates(channel, [rows, columns], order=1), -1, -1)(image)

    return jax.vmap(rotate)(images, angles)


def _checked(function, images):
    images = jnp.asarray(images)
    if images.ndim != 4:
        raise ValueError(f"{function}: images are [batch, height, width, channels], not of shape {images.shape}")
    return images
