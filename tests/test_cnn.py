import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.test_util import check_grads

from jaxnn import cnn
from jaxnn.models import Model

KEY = jax.random.key(2)
IMAGES = jax.random.uniform(KEY, (6, 14, 14, 1))


def small(**settings):
    init, apply = cnn.from_flax(cnn.CNN((4, 6), (3, 3), hidden_size=8, **settings))
    return Model(jax.jit(init), jax.jit(apply))


def test_shapes_and_number_of_parameters():
    model = cnn.from_flax(cnn.CNN())
    params, state = jax.eval_shape(model.init, KEY, jnp.ones((1, 28, 28, 1)))
    convolutions, norms = 25 * 24 + 9 * 24 * 32, 2 * (24 + 32 + 256)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == convolutions + norms + 800 * 256 + 256 * 10 + 10
    assert set(state) == {"batch_stats"}
    assert jax.eval_shape(model.apply, params, state, jnp.ones((5, 28, 28, 1)))[0].shape == (5, 10)


def test_conv_is_flaxs_conv(x64):
    images = jax.random.normal(KEY, (2, 7, 8, 3))
    for settings in ({}, {"strides": (2, 2), "padding": "VALID"}):
        variables = nn.Conv(5, (3, 3), **settings).init(KEY, images)
        ours = cnn.Conv(5, (3, 3), **settings).apply(variables, images)
        np.testing.assert_allclose(ours, nn.Conv(5, (3, 3), **settings).apply(variables, images), atol=1e-12)


def test_gradients(x64):
    model = small()
    images = IMAGES.astype(jnp.float64)
    params, state = model.init(KEY, images)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
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
    assert jax.tree.all(jax.tree.map(np.array_equal, state, same))
    np.testing.assert_array_equal(inference, model.apply(params, state, IMAGES)[0])


def test_batch_statistics_are_those_of_the_batch():
    """The running mean and variance after one batch, from 0 and 1 with momentum 0.9; far from 0, where E[x²] - E[x]²
    would lose all digits."""
    model = cnn.from_flax(cnn.CNN((2,), (3,), hidden_size=4))
    images = 1e3 + jax.random.normal(KEY, (6, 6, 6, 1))
    params, state = model.init(KEY, images)
    _, updated = model.apply(params, state, images, KEY)
    kernel = params["Conv_0"]["kernel"]
    pooled = nn.max_pool(
        nn.Conv(2, (3, 3), padding="VALID", use_bias=False).apply({"params": {"kernel": kernel}}, images),
        (2, 2),
        (2, 2),
    )
    pooled = np.asarray(pooled, np.float64)
    stats = updated["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(stats["mean"], 0.1 * pooled.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * pooled.var((0, 1, 2)), rtol=1e-3)


def test_dropout_noise_of_an_example_does_not_depend_on_its_batch():
    model = small(dropout=0.5, batch_norm=False)
    params, state = model.init(KEY, IMAGES)
    keys = jax.random.split(KEY, len(IMAGES))
    together, _ = model.apply(params, state, IMAGES, keys)
    apart = [model.apply(params, state, IMAGES[i : i + 2], keys[i : i + 2])[0] for i in (0, 2, 4)]
    np.testing.assert_allclose(together, jnp.concatenate(apart), atol=1e-6)


def test_every_call_of_a_dropout_draws_its_own_noise():
    class ThreeDropouts(nn.Module):
        @nn.compact
        def __call__(self, inputs, *, train):
            shared = cnn.Dropout(0.5)
            return jnp.stack([layer(inputs, train=train) for layer in (shared, shared, cnn.Dropout(0.5))], axis=1)

    model = cnn.from_flax(ThreeDropouts())
    params, state = model.init(KEY, jnp.ones((4, 64)))
    outputs = model.apply(params, state, jnp.ones((4, 64)), KEY)[0]
    assert len(np.unique(outputs.reshape(12, -1), axis=0)) == 12


def test_dropout_outside_from_flax_says_what_to_use():
    with pytest.raises(ValueError, match=r"only inside from_flax.*\s.*use flax.linen.Dropout"):
        cnn.Dropout(0.5).apply({}, jnp.ones((2, 3)), train=True)


def test_flaxs_own_dropout_draws_too():
    class Stock(nn.Module):
        @nn.compact
        def __call__(self, inputs, *, train):
            return nn.Dropout(0.5, deterministic=not train)(inputs)

    model = cnn.from_flax(Stock())
    assert (model.apply({}, {}, jnp.ones((4, 64)), KEY)[0] == 0).any()
    assert (model.apply({}, {}, jnp.ones((4, 64)))[0] == 1).all()


def test_state_keeps_its_dtype_whatever_the_inputs(x64):
    model = cnn.from_flax(cnn.CNN((2,), (3,), hidden_size=4))
    params, state = model.init(KEY, IMAGES)
    _, updated = model.apply(params, state, IMAGES.astype(jnp.float64), KEY)
    assert (
        {leaf.dtype for leaf in jax.tree.leaves(updated)}
        == {jnp.dtype(jnp.float32)}
        == {leaf.dtype for leaf in jax.tree.leaves(state)}
    )


def test_conv_refuses_what_it_does_not_compute(as_users_see_it):
    with pytest.raises(ValueError, match=r"no input dilation: use flax.linen.Conv"):
        cnn.Conv(4, (3, 3), input_dilation=2).init(KEY, IMAGES)
