import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.test_util import check_grads

from jaxnn import cnn
from jaxnn.models import Model

KEY = jax.random.key(2)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 8, 8, 1)).astype(np.uint8)


def compiled(module):
    init, apply = cnn.from_flax(module)
    return Model(jax.jit(init), jax.jit(apply))


def small(**settings):
    return compiled(cnn.CNN((2,), (3,), hidden_size=4, **settings))


def test_shapes_and_number_of_parameters():
    model = cnn.from_flax(cnn.CNN())
    image = jax.ShapeDtypeStruct((5, 28, 28, 1), jnp.uint8)
    params, state = jax.eval_shape(model.init, KEY, image)
    convolutions, norms = 25 * 24 + 9 * 24 * 32, 2 * (24 + 32 + 256)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == convolutions + norms + 800 * 256 + 256 * 10 + 10
    assert set(state) == {"batch_stats"}
    assert jax.eval_shape(model.apply, params, state, image)[0].shape == (5, 10)


def test_the_net_by_hand():
    model = small(batch_norm=False)
    params, state = model.init(KEY, IMAGES)
    kernel, dense, last = params["Conv_0"]["kernel"], params["Dense_0"], params["Dense_1"]
    pixels = IMAGES.astype(np.float64) / 255
    windows = np.lib.stride_tricks.sliding_window_view(pixels[..., 0], (3, 3), axis=(1, 2))
    maps = np.einsum("nijst,stc->nijc", windows, np.asarray(kernel)[:, :, 0])
    hidden = np.maximum(maps.reshape(6, 3, 2, 3, 2, 2).max(axis=(2, 4)), 0).reshape(6, -1)
    hidden = np.maximum(hidden @ np.asarray(dense["kernel"]), 0)
    expected = hidden @ np.asarray(last["kernel"])
    np.testing.assert_allclose(model.apply(params, state, IMAGES)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "settings"),
    [
        ((3, 3, 3, 6), {}),
        ((3, 3, 3, 6), {"strides": (2, 2), "padding": "VALID"}),
        ((3, 3, 1, 6), {"kernel_dilation": 2, "feature_group_count": 3, "padding": ((2, 0), (1, 3))}),
    ],
)
def test_conv_is_flaxs_conv(x64, kernel, settings):
    images, variables = RNG.normal(size=(2, 7, 8, 3)), {"kernel": RNG.normal(size=kernel), "bias": RNG.normal(size=6)}
    ours, theirs = (
        jax.jit(conv(6, (3, 3), **settings).apply)({"params": variables}, images) for conv in (cnn.Conv, nn.Conv)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_gradients(x64):
    model = small()
    params, state = model.init(KEY, IMAGES)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
    images = IMAGES.astype(np.float64)
    logits = jax.jit(lambda params: model.apply(params, state, images, KEY)[0])
    check_grads(logits, (params,), order=1, modes=("rev",), eps=1e-6, rtol=1e-5)


def test_a_key_means_training():
    model = small(dropout=0.5)
    params, state = model.init(KEY, IMAGES)
    first, updated = model.apply(params, state, IMAGES, KEY)
    second, _ = model.apply(params, state, IMAGES, jax.random.key(3))
    assert not np.array_equal(first, second)
    assert not np.array_equal(*(tree["batch_stats"]["BatchNorm_0"]["mean"] for tree in (state, updated)))
    inference, same = model.apply(params, state, IMAGES)
    jax.tree.map(np.testing.assert_array_equal, state, same)
    np.testing.assert_array_equal(inference, model.apply(params, state, IMAGES)[0])


def test_batch_statistics_are_those_of_the_batch():
    """The running mean and variance after one batch, from 0 and 1 with momentum 0.9; far from 0, where E[x²] - E[x]²
    would lose all digits."""
    images = 255 * (1e3 + RNG.normal(size=(6, 6, 6, 1))).astype(np.float32)
    model = small()
    params, state = model.init(KEY, images)
    _, updated = model.apply(params, state, images, KEY)
    kernel = np.asarray(params["Conv_0"]["kernel"], np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(images[..., 0].astype(np.float64) / 255, (3, 3), axis=(1, 2))
    maps = np.einsum("nijst,stc->nijc", windows, kernel[:, :, 0])
    pooled = maps.reshape(6, 2, 2, 2, 2, 2).max(axis=(2, 4))
    stats = updated["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(stats["mean"], 0.1 * pooled.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * pooled.var((0, 1, 2)), rtol=1e-3)


def test_every_call_of_a_dropout_draws_its_own_noise():
    class ThreeDropouts(nn.Module):
        @nn.compact
        def __call__(self, inputs, *, train):
            shared = nn.Dropout(0.5, deterministic=not train)
            return jnp.stack([shared(inputs), shared(inputs), nn.Dropout(0.5, deterministic=not train)(inputs)], axis=1)

    model = compiled(ThreeDropouts())
    inputs = jnp.ones((4, 64))
    assert (model.apply({}, {}, inputs)[0] == 1).all()
    outputs, _ = model.apply({}, {}, inputs, KEY)
    assert len(np.unique(outputs.reshape(12, -1), axis=0)) == 12


def test_state_keeps_its_dtype_whatever_the_inputs(x64):
    model = small()
    params, state = model.init(KEY, IMAGES)
    _, updated = model.apply(params, state, IMAGES.astype(np.float64), KEY)
    float32 = {jnp.dtype(jnp.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == float32
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == float32


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_takes_numpys_arrays_too(x64, dtype):
    model, images = cnn.from_flax(cnn.CNN((2,), (3,), hidden_size=4)), IMAGES.astype(dtype)
    ours, theirs = (
        jax.eval_shape(lambda key, images=images: model.apply(*model.init(key, images), images), KEY)
        for images in (images, jnp.asarray(images))
    )
    assert ours == theirs


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cnn.CNN(dropout=1.5), r"CNN: dropout must be in \[0, 1\), not 1.5"),
        (lambda: cnn.CNN(dropout=-0.1), r"CNN: dropout must be in \[0, 1\), not -0.1"),
        (lambda: cnn.CNN(channels=(2,)), r"CNN: 1 channels need as many kernel_sizes, not \(5, 3\)"),
        (lambda: cnn.CNN(channels=(0, 2)), r"must be 1 or more, not \[0, 2, 5, 3, 256, 10\]"),
        (lambda: cnn.CNN(hidden_size=-1), "must be 1 or more"),
        (lambda: cnn.from_flax(cnn.CNN()).init(KEY, IMAGES[..., 0]), r"CNN: images are \[batch, .* \(6, 8, 8\)"),
        (lambda: cnn.Conv(4, (3, 3), input_dilation=2).init(KEY, jnp.ones((1, 8, 8, 1))), "use flax.linen.Conv"),
    ],
)
def test_refuses(as_users_see_it, call, message):
    with pytest.raises(ValueError, match=message):
        call()
