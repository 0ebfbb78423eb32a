"""Random changes of images that keep their label, one key per example. What comes in from outside is 0."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Key, Num


def random_shift(
    images: Num[Array, "batch height width channels"], keys: Key[Array, " batch"], *, max_pixels: int
) -> Num[Array, "batch height width channels"]:
    """Each image moved by whole pixels, up to `max_pixels` along each axis, every shift as likely."""
    if max_pixels < 0:
        raise ValueError(f"random_shift: max_pixels must be 0 or more, not {max_pixels}")
    if max_pixels == 0:
        return images
    margin = (max_pixels, max_pixels)

    def shift(image, key):
        row, column = jax.random.randint(key, (2,), 0, 2 * max_pixels + 1)
        return lax.dynamic_slice(jnp.pad(image, (margin, margin, (0, 0))), (row, column, 0), image.shape)

    return jax.vmap(shift)(images, keys)


def random_rotation(
    images: Float[Array, "batch height width channels"], keys: Key[Array, " batch"], *, max_degrees: float
) -> Float[Array, "batch height width channels"]:
    """Each image turned about its centre by an angle uniform in ±`max_degrees`, with linear interpolation."""
    if max_degrees < 0:
        raise ValueError(f"random_rotation: max_degrees must be 0 or more, not {max_degrees}")
    if max_degrees == 0:
        return images
    height, width = images.shape[1:3]
    y, x = jnp.meshgrid(jnp.arange(height) - (height - 1) / 2, jnp.arange(width) - (width - 1) / 2, indexing="ij")

    def rotate(image, key):
        angle = jnp.deg2rad(jax.random.uniform(key, (), minval=-max_degrees, maxval=max_degrees))
        rows = jnp.cos(angle) * y - jnp.sin(angle) * x + (height - 1) / 2
        columns = jnp.sin(angle) * y + jnp.cos(angle) * x + (width - 1) / 2
        return jax.vmap(lambda channel: map_coordinates(channel, [rows, columns], order=1), -1, -1)(image)

    return jax.vmap(rotate)(images, keys)
