import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxnn import augment

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(1, 256, (200, 6, 5, 2)).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_shifts_move_whole_pixels_and_fill_with_zero(dtype):
    shifted = augment.random_shift(jnp.asarray(IMAGES, dtype), KEY, max_pixels=1)
    assert shifted.dtype == dtype
    seen = []
    for image, result in zip(IMAGES, np.asarray(shifted), strict=True):
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
        places = [(r, c) for r in range(3) for c in range(3) if np.array_equal(padded[r : r + 6, c : c + 5], result)]
        assert len(places) == 1
        seen += places
    places, counts = np.unique(seen, axis=0, return_counts=True)
    assert len(places) == 9
    assert counts.min() > 8  # of 22 each


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_rotation_is_scipys(dtype):
    images = RNG.integers(0, 256, (3, 9, 9, 1)).astype(dtype)
    rotated = augment.random_rotation(jnp.asarray(images), KEY, max_degrees=20.0)
    assert rotated.dtype == np.float32
    angles = jax.random.uniform(KEY, (3,), minval=-20.0, maxval=20.0)
    for image, angle, result in zip(images.astype(float), angles, np.asarray(rotated), strict=True):
        expected = scipy.ndimage.rotate(image[..., 0], -float(angle), reshape=False, order=1)
        np.testing.assert_allclose(result[2:-2, 2:-2, 0], expected[2:-2, 2:-2], atol=255e-4)


@pytest.mark.parametrize(
    "change",
    [
        lambda images, key, amount: augment.random_shift(images, key, max_pixels=amount),
        lambda images, key, amount: augment.random_rotation(images, key, max_degrees=float(amount)),
    ],
)
def test_each_image_of_each_batch_is_changed_in_its_own_way(change):
    images = IMAGES[:1].repeat(5, axis=0)
    changed = np.concatenate([change(images, jax.random.key(seed), 4) for seed in (0, 1)])  # takes NumPy's arrays too
    assert len(np.unique(changed.reshape(10, -1), axis=0)) == 10
    np.testing.assert_array_equal(change(images, jax.random.key(1), 4), changed[5:])
    np.testing.assert_array_equal(change(images, KEY, 0), images)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: augment.random_shift(IMAGES, KEY, max_pixels=-1), r"a whole number in 0 ... 4 for images .* not -1"),
        (
            lambda: augment.random_shift(IMAGES, KEY, max_pixels=5),
            r"0 ... 4 for images of shape \(200, 6, 5, 2\), not 5",
        ),
        (lambda: augment.random_shift(IMAGES, KEY, max_pixels=1.5), "whole number .* not 1.5"),
        (
            lambda: augment.random_shift(IMAGES[0], KEY, max_pixels=0),
            r"random_shift: images are \[batch, .* \(6, 5, 2\)",
        ),
        (lambda: augment.random_rotation(IMAGES[0], KEY, max_degrees=1.0), r"random_rotation: images are \[batch"),
        (lambda: augment.random_rotation(IMAGES, KEY, max_degrees=float("nan")), "and finite, not nan"),
        (lambda: augment.random_rotation(IMAGES, KEY, max_degrees=float("inf")), "and finite, not inf"),
        (
            lambda: augment.random_rotation(IMAGES, KEY, max_degrees=-1.0),
            "max_degrees must be 0 or more, and finite, not -1.0",
        ),
    ],
)
def test_refuses(as_users_see_it, call, message):
    with pytest.raises(ValueError, match=message):
        call()
