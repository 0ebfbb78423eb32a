import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxnn import augment

KEY = jax.random.key(0)
IMAGES = jax.random.uniform(KEY, (200, 6, 5, 2), minval=0.5)


def test_shifts_move_whole_pixels_and_fill_with_zero():
    keys = jax.random.split(KEY, 200)
    shifted = augment.random_shift(IMAGES, keys, max_pixels=1)
    seen = set()
    for image, result in zip(np.asarray(IMAGES), np.asarray(shifted), strict=True):
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
        places = [(r, c) for r in range(3) for c in range(3) if np.array_equal(padded[r : r + 6, c : c + 5], result)]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 9


def test_shift_takes_bytes_too():
    images = (IMAGES * 255).astype(jnp.uint8)
    assert augment.random_shift(images, jax.random.split(KEY, 200), max_pixels=2).dtype == jnp.uint8


def test_rotation_is_scipys():
    images, keys = jax.random.uniform(KEY, (3, 9, 9, 1)), jax.random.split(KEY, 3)
    rotated = augment.random_rotation(images, keys, max_degrees=20.0)
    for image, key, result in zip(np.asarray(images), keys, np.asarray(rotated), strict=True):
        angle = float(jax.random.uniform(key, (), minval=-20.0, maxval=20.0))
        expected = scipy.ndimage.rotate(image[..., 0], -angle, reshape=False, order=1)
        np.testing.assert_allclose(result[2:-2, 2:-2, 0], expected[2:-2, 2:-2], atol=1e-4)


def test_rotation_draws_another_angle_for_each_key():
    images = jnp.broadcast_to(IMAGES[:1], (5, 6, 5, 2))
    rotated = augment.random_rotation(images, jax.random.split(KEY, 5), max_degrees=30.0)
    assert len(np.unique(rotated.reshape(5, -1), axis=0)) == 5


@pytest.mark.parametrize(
    "change",
    [
        lambda images, keys: augment.random_shift(images, keys, max_pixels=0),
        lambda images, keys: augment.random_rotation(images, keys, max_degrees=0.0),
    ],
)
def test_nothing_is_the_identity(change):
    np.testing.assert_array_equal(change(IMAGES, jax.random.split(KEY, 200)), IMAGES)


def test_an_image_changes_by_its_own_key():
    keys = jax.random.split(KEY, 200)
    for change in (
        lambda images, keys: augment.random_shift(images, keys, max_pixels=2),
        lambda images, keys: augment.random_rotation(images, keys, max_degrees=15.0),
    ):
        np.testing.assert_allclose(change(IMAGES, keys)[50:60], change(IMAGES[50:60], keys[50:60]), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: augment.random_shift(IMAGES, jax.random.split(KEY, 200), max_pixels=-1),
            "max_pixels must be 0 or more, not -1",
        ),
        (
            lambda: augment.random_rotation(IMAGES, jax.random.split(KEY, 200), max_degrees=-1.0),
            "max_degrees must be 0 or more",
        ),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
