import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from jax.test_util import check_grads

from jaxnn import cnn
from jaxnn.losses import is_weight, softmax_cross_entropy
from jaxnn.models import Model
from jaxnn.training import init_train_state, seed_keys, train_steps
from jaxnn.types import Batch

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


class LinenNet(nn.Module):
    """Its flag is `training`."""

    dropout: float = 0.5

    @nn.compact
    def __call__(self, images, training):
        x = nn.Conv(2, (3, 3), name="conv")(images / 255)
        x = nn.BatchNorm(use_running_average=not training, momentum=0.9, name="norm")(x)
        x = nn.Dropout(self.dropout)(nn.relu(x), deterministic=not training)
        return nn.Dense(3, name="dense")(x.reshape(len(x), -1))


class LinenNetWithField(nn.Module):
    """Its flag is a field, and it draws by a name of its own."""

    deterministic: bool | None = None

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(2, (3, 3), strides=2)(images / 255))
        if not self.deterministic:
            x += 0.1 * jax.random.normal(self.make_rng("noise"), x.shape)
        return nn.Dense(3)(x.reshape(len(x), -1))


class LinenNetWithoutFlag(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(3)(images.reshape(len(images), -1) / 255)


class LinenNetInTraining(nn.Module):
    """Two flags by other names; who leaves them out gets inference."""

    @nn.compact
    def __call__(self, images, is_training=False, use_running_average=True):
        x = nn.Dense(64)(images.reshape(len(images), -1) / 255)
        x = nn.BatchNorm(use_running_average=use_running_average, momentum=0.9)(x)
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not is_training)(nn.relu(x)))


class LinenNetWithSwitch(nn.Module):
    @nn.compact
    def __call__(self, images, is_eval=True):
        return images


class NNXNet(nnx.Module):
    """The same as `LinenNet`, made in inference mode; its random streams are its own."""

    def __init__(self, *, rngs, dropout=0.5):
        self.scale = jnp.array(255.0)
        self.conv = nnx.Conv(1, 2, (3, 3), conv_general_dilated=cnn.conv_general_dilated, rngs=rngs)
        self.norm = nnx.BatchNorm(2, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(dropout, deterministic=True, rngs=rngs)
        self.dense = nnx.Linear(128, 3, rngs=rngs)

    def __call__(self, images):
        x = self.dropout(nnx.relu(self.norm(self.conv(images / self.scale))))
        return self.dense(x.reshape(len(x), -1))


class NNXNetWithRngs(nnx.Module):
    """Layers in a list; random streams come with the call, as in Flax's tutorial on MNIST."""

    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(64, 64, rngs=rngs) for _ in range(2)])
        self.dropout, self.dense = nnx.Dropout(0.2), nnx.Linear(64, 3, rngs=rngs)

    def __call__(self, images, rngs):
        x = images.reshape(len(images), -1) / 255
        for layer in self.layers:
            x = x + 0.1 * nnx.relu(layer(x))
        return self.dense(self.dropout(x, rngs=rngs))


class NNXTotal(nnx.Module):
    """Its state is a sum, whatever dtype that has."""

    def __init__(self, rngs):
        self.total = nnx.Variable(jnp.zeros((), jnp.float32))

    def __call__(self, images):
        self.total.set_value(self.total.get_value() + images.sum())
        return images


def by_hand(size):
    """As one writes it with jax.numpy, or with Equinox: two functions are a `Model` already."""

    def init(key, images):
        return {"kernel": jax.random.normal(key, (images[0].size, size)), "bias": jnp.zeros(size)}, {}

    def apply(params, state, images, key=None):
        x = images.reshape(len(images), -1) / 255
        if key is not None:
            x = x * jax.random.bernoulli(key, 0.5, x.shape) / 0.5
        return x @ params["kernel"] + params["bias"], state

    return Model(init, apply)


MODELS = {
    "linen": cnn.from_flax(LinenNet()),
    "linen_with_field": cnn.from_flax(LinenNetWithField()),
    "linen_in_training": cnn.from_flax(LinenNetInTraining()),
    "linen_without_flag": cnn.from_flax(LinenNetWithoutFlag()),
    "nnx": cnn.from_flax(NNXNet),
    "nnx_with_rngs": cnn.from_flax(lambda rngs: NNXNetWithRngs(rngs)),
    "by_hand": by_hand(3),
}
DATA = Batch(IMAGES, np.arange(6) % 3)


@pytest.mark.parametrize("name", MODELS)
def test_every_form_is_trained_seeds_at_once(name):
    model, optimizer = MODELS[name], optax.adam(0.02)

    def loss_fn(params, state, batch, key):
        logits, state = model.apply(params, state, batch.inputs, key)
        return softmax_cross_entropy(logits, batch.targets), state

    def train(key):
        start = init_train_state(key, model, optimizer, IMAGES)
        end, _ = train_steps(start, DATA, loss_fn, optimizer, batch_size=6, num_steps=60)
        losses = [
            softmax_cross_entropy(model.apply(*train_state[1:3], IMAGES)[0], jnp.asarray(DATA.targets)).mean()
            for train_state in (start, end)
        ]
        return start, end, *losses

    start, end, before, after = jax.jit(jax.vmap(train))(seed_keys(0, 2))
    assert (after < 0.7 * before).all()
    assert all(jax.tree.leaves(jax.tree.map(lambda old, new: (old != new).any(), start.state, end.state)))
    assert not any((leaf[0] == leaf[1]).all() for leaf in jax.tree.leaves(end.params))  # seeds are not one net
    weights = jax.tree.map_with_path(is_weight, jax.tree.map(lambda leaf: leaf[0], end.params))
    assert {path[-1].key for path, named in jax.tree.leaves_with_path(weights) if named} == {"kernel"}


@pytest.mark.parametrize("name", [name for name in MODELS if name != "linen_without_flag"])
def test_noise_is_drawn_from_the_key_alone(name):
    model = MODELS[name]
    params, state = jax.jit(model.init)(KEY, IMAGES)
    apply = jax.jit(model.apply)
    first, updated = apply(params, state, IMAGES, KEY)
    other, _ = apply(params, state, IMAGES, jax.random.key(3))
    inference, same = apply(params, state, IMAGES)
    np.testing.assert_array_equal(first, apply(params, state, IMAGES, KEY)[0])
    assert not np.isclose(first, other).any()
    assert not np.isclose(first, inference).any()
    jax.tree.map(np.testing.assert_array_equal, state, same)
    assert jax.tree.map(jnp.result_type, state) == jax.tree.map(jnp.result_type, updated)


def test_linen_and_nnx_give_the_same_numbers_from_the_same_weights():
    linen, other = (cnn.from_flax(module) for module in (LinenNet(dropout=0.0), functools.partial(NNXNet, dropout=0.0)))
    params, state = linen.init(KEY, IMAGES)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, other.init(KEY, IMAGES)[0])
    for key in (KEY, None):
        logits, updated = jax.jit(linen.apply)(params, state, IMAGES, key)
        theirs = jax.jit(other.apply)(params, state["batch_stats"], IMAGES, key)
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), (logits, updated["batch_stats"]), theirs)
        state = updated


@pytest.mark.parametrize(("make", "name"), [(NNXNet, "nnx"), (NNXNetWithRngs, "nnx_with_rngs")])
def test_nnx_starts_from_the_weights_that_flax_draws(make, name):
    module = make(rngs=nnx.Rngs(KEY))
    params, state = MODELS[name].init(KEY, IMAGES)
    jax.tree.map(np.testing.assert_array_equal, params, nnx.to_pure_dict(nnx.state(module, nnx.Param)))
    module.eval()
    theirs = module(IMAGES, None) if name == "nnx_with_rngs" else module(IMAGES)
    np.testing.assert_allclose(MODELS[name].apply(params, state, IMAGES)[0], theirs, atol=1e-6)


def test_linens_dropout_draws_what_flax_draws():
    """From the key under the name "dropout"."""
    params, state = MODELS["linen"].init(KEY, IMAGES)
    theirs, _ = LinenNet().apply(
        {"params": params, **state}, IMAGES, True, rngs={"dropout": KEY}, mutable=["batch_stats"]
    )
    np.testing.assert_array_equal(MODELS["linen"].apply(params, state, IMAGES, KEY)[0], theirs)


def test_params_of_another_net_are_refused():
    params, state = MODELS["nnx"].init(KEY, IMAGES)
    params["last"] = params.pop("dense")
    with pytest.raises(ValueError, match="'conv', 'dense', 'norm'"):
        MODELS["nnx"].apply(params, state, IMAGES)


@pytest.mark.parametrize("module", [LinenNet(), NNXTotal])
def test_state_keeps_its_dtype_whatever_the_inputs(x64, module):
    model = compiled(module)
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
        (lambda: cnn.from_flax(cnn.CNN), r"needs a linen module, Net\(...\), .*, not <class 'jaxnn.cnn.CNN'>"),
        (lambda: cnn.from_flax(NNXNet(rngs=nnx.Rngs(0))), r"lambda rngs: Net\(..., rngs=rngs\), not an .*NNXNet'>"),
        (lambda: cnn.from_flax("CNN"), "not an object of <class 'str'>"),
        (lambda: cnn.from_flax(lambda rngs: cnn.CNN()).init(KEY, IMAGES), "must make an NNX module, not a CNN"),
        (lambda: cnn.from_flax(lambda r: NNXNet(rngs=r)), "the function must take `rngs` alone"),
        (lambda: cnn.from_flax(lambda size, rngs: NNXNet(rngs=rngs)), "must take `rngs` alone"),
        (lambda: cnn.from_flax(LinenNetWithSwitch()), "does the argument is_eval of LinenNetWithSwitch.__call__ tell"),
        (lambda: cnn.Conv(4, (3, 3), input_dilation=2).init(KEY, jnp.ones((1, 8, 8, 1))), "in linen.Conv or nnx.Conv"),
    ],
)
def test_refuses(as_users_see_it, call, message):
    with pytest.raises(ValueError, match=message):
        call()
