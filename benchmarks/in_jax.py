"""The contestants that use JAX: jaxnn, and the way of Flax's official MNIST example."""

import functools
import itertools
import resource
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks.race import serve
from jaxnn import cnn, losses, metrics, models, ops, training
from jaxnn.lab import datasets
from jaxnn.types import Batch

STEPS = 100


class Features(nn.Module):
    """C3-32 SAME, avg pool, C3-64, avg pool."""

    conv: type = cnn.Conv
    pool: object = ops.avg_pool

    @nn.compact
    def __call__(self, x):
        """A row of numbers for each image."""
        for channels in (32, 64):
            x = self.pool(nn.relu(self.conv(channels, (3, 3))(x)))
        return x.reshape(len(x), -1)


class Head(nn.Module):
    """D256, D10."""

    @nn.compact
    def __call__(self, x):
        """The logits."""
        return nn.Dense(10)(nn.relu(nn.Dense(256)(x)))


class EpochFeatures(nn.Module):
    """C5-24 VALID, max pool, ReLU, C3-32 VALID, max pool, ReLU."""

    @nn.compact
    def __call__(self, x):
        """A row of numbers for each image."""
        for channels, size in ((24, 5), (32, 3)):
            x = nn.relu(ops.max_pool(cnn.Conv(channels, (size, size), padding="VALID")(x)))
        return x.reshape(len(x), -1)


def make_model(features, transform, *, group=None, batch_size):
    """The features, `group` images at a time, and the dense layers, behind a function of the pixels."""
    features = cnn.from_flax(features)
    if group:
        features = models.in_groups(features, size=group, mesh=training.batch_mesh(batch_size))
    return models.preprocess(transform, models.chain(features, cnn.from_flax(Head())))


def make_training(model, optimizer, train, *, num_nets=1, **sizes):
    """The compiled training of some nets, one after the other, and its start, on as many devices as there are."""
    loss_fn = training.make_loss(model, losses.softmax_cross_entropy)
    mesh = training.batch_mesh(sizes["batch_size"])
    init = jax.vmap(lambda key: training.init_train_state(key, model, optimizer, train.inputs[:1]))
    nets, train = training.replicate((init(training.seed_keys(0, num_nets)), train), mesh)
    steps = jax.jit(
        lambda nets, train: lax.map(
            lambda net: training.train_steps(net, train, loss_fn, optimizer, mesh=mesh, **sizes), nets
        )
    )
    return functools.partial(steps, nets, train)


def step(group=None, batch_size=128, num_nets=1, num_images=55_000):
    """Training steps of one program; with `group`, so many images at a time go through the convolutions."""
    train = jax.tree.map(lambda leaf: leaf[:num_images], datasets.mnist().train)
    model = make_model(Features(), lambda pixels: pixels / 255, group=group, batch_size=batch_size)
    sizes = {"batch_size": batch_size, "num_steps": STEPS, "num_nets": num_nets}
    steps = make_training(model, optax.sgd(0.05, momentum=0.9), train, **sizes)
    started = time.perf_counter()
    steps()
    first = time.perf_counter() - started

    def block():
        loss = float(steps()[1]["loss"][0, -1])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"loss": loss, "first_seconds": first, "peak_mib": peak}

    serve(block, units=STEPS * num_nets)


def flax_step():
    """Two compiled functions a step and a Python loop, stock layers."""
    train = datasets.mnist().train
    images, labels = jnp.asarray(train.inputs, jnp.float32) / 255, jnp.asarray(train.targets)
    net = nn.Sequential([Features(conv=nn.Conv, pool=lambda x: nn.avg_pool(x, (2, 2), strides=(2, 2))), Head()])
    optimizer = optax.sgd(0.05, momentum=0.9)
    params = net.init(jax.random.key(0), images[:1])
    opt_state = optimizer.init(params)

    @jax.jit
    def gradient(params, images, labels):
        def loss(params):
            logits = net.apply(params, images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        return jax.value_and_grad(loss)(params)

    @jax.jit
    def update(params, opt_state, gradient):
        updates, opt_state = optimizer.update(gradient, opt_state)
        return optax.apply_updates(params, updates), opt_state

    def block():
        order = np.random.default_rng(0).permutation(len(labels))
        now, state = params, opt_state
        for index in range(STEPS):
            batch = order[index * 128 : (index + 1) * 128]
            loss, grads = gradient(now, images[batch], labels[batch])
            now, state = update(now, state, grads)
        return {"loss": float(jax.block_until_ready((now, loss))[1])}

    serve(block, units=STEPS)


def epoch(group=None):
    """One epoch of the published fast recipe, from the start, and its test accuracy."""
    data = datasets.mnist(num_validation=0)
    model = make_model(EpochFeatures(), lambda pixels: (pixels / 255 - 0.1307) / 0.3081, group=group, batch_size=256)
    num_steps = 60_000 // 256
    schedule = optax.cosine_onecycle_schedule(num_steps, 1e-2, pct_start=0.3)
    optimizer = optax.adam(schedule, b1=0.7, b2=0.9)
    train = make_training(model, optimizer, data.train, batch_size=256, num_steps=num_steps)
    net = jax.tree.map(lambda leaf: leaf[0], jax.device_get(train()[0]._replace(key=None)))
    logits = training.map_batches(
        lambda images: model.apply(net.params, net.state, images)[0], data.test.inputs, batch_size=500
    )
    accuracy = float(metrics.accuracy(logits, data.test.targets))

    def block():
        jax.block_until_ready(train())
        return {"accuracy": accuracy}

    serve(block, units=1)


SHAPES = {  # images, kernel
    "128x28x28x1 * 3x3x1x32": ((128, 28, 28, 1), (3, 3, 1, 32)),
    "128x14x14x32 * 3x3x32x64": ((128, 14, 14, 32), (3, 3, 32, 64)),
    "50x12x12x24 * 5x5x24x32": ((50, 12, 12, 24), (5, 5, 24, 32)),
}


def convolution(shape, *, ours, inside):
    """A convolution and both its gradients, inside `lax.scan` or one compiled call after the other."""
    images, kernel = (jax.random.normal(jax.random.key(0), size) for size in SHAPES[shape])

    def lax_conv2d(images, kernel):
        return lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def step(carry):
        images, kernel = carry
        conv2d = ops.conv2d if ours else lax_conv2d
        gradients = jax.grad(lambda images, kernel: jnp.mean(conv2d(images, kernel) ** 2), (0, 1))(images, kernel)
        return jax.tree.map(lambda leaf, gradient: leaf - 1e-3 * gradient, (images, kernel), gradients)

    loop = jax.jit(lambda carry: lax.scan(lambda carry, _: (step(carry), None), carry, length=STEPS)[0])
    once = jax.jit(step)

    def block():
        carry = images, kernel
        if inside:
            carry = loop(carry)
        else:
            for _ in range(STEPS):
                carry = once(carry)
        jax.block_until_ready(carry)

    serve(block, units=STEPS)


def matmul():
    """The machine's rate: a large product in float32."""
    size = 2048
    matrix = jnp.ones((size, size))
    product = jax.jit(lambda matrix: matrix @ matrix)

    def block():
        product(matrix).block_until_ready()

    serve(block, units=2 * size**3)


def fitting(num_nets, shuffle=False, flatten=False):
    """`num_nets` nets 2-6-1 side by side, spread over the devices, on mentat's data, batches and step size."""
    updates = 10_000
    inputs = jax.random.uniform(jax.random.key(0), (100, 2), minval=-2, maxval=2)
    data = Batch(inputs, jnp.sum(inputs**2, axis=1, keepdims=True))
    model = models.mlp([6], 1, activation=jax.nn.sigmoid)
    optimizer = optax.sgd(lambda step: 0.6 / (step + 1) ** 0.3, momentum=0.7)
    if flatten:
        optimizer = optax.flatten(optimizer)

    def loss_fn(params, state, batch, key):
        outputs, state = model.apply(params, state, batch.inputs)
        return losses.squared_error(outputs, batch.targets) / 2, state

    def train(key, data):
        net = training.init_train_state(key, model, optimizer, inputs)
        sizes = {"batch_size": 40, "num_steps": updates}
        return training.train_steps(net, data, loss_fn, optimizer, shuffle=shuffle, **sizes)[1]["loss"][-1]

    mesh = jax.make_mesh((jax.device_count(),), ("nets",), axis_types=(jax.sharding.AxisType.Auto,))
    keys = jax.device_put(jax.random.split(jax.random.key(0), num_nets), NamedSharding(mesh, PartitionSpec("nets")))
    data = jax.device_put(data, NamedSharding(mesh, PartitionSpec()))
    trainings = jax.jit(jax.vmap(train, (0, None)))

    def block():
        return {"loss": float(jnp.median(trainings(keys, data)))}

    serve(block, units=updates * num_nets)


CONTESTANTS = {
    "step": step,
    "step_groups": functools.partial(step, 8),
    "step_batch32": functools.partial(step, batch_size=32),
    "step_batch512": functools.partial(step, batch_size=512),
    "step_batch512_groups": functools.partial(step, 8, batch_size=512),
    "step_nets2": functools.partial(step, num_nets=2),
    "step_nets8": functools.partial(step, num_nets=8),
    "step_images5500": functools.partial(step, num_images=5500),
    "flax_step": flax_step,
    "epoch": epoch,
    "epoch_groups": functools.partial(epoch, 16),
    "matmul": matmul,
    "fitting_1": functools.partial(fitting, 1),
    "fitting_1_flat": functools.partial(fitting, 1, flatten=True),
    "fitting_512": functools.partial(fitting, 512),
    "fitting_512_shuffled": functools.partial(fitting, 512, shuffle=True),
}
for number, shape in enumerate(SHAPES):
    for ours, inside in itertools.product((True, False), repeat=2):
        name = f"{'jaxnn' if ours else 'lax'}_{'inside' if inside else 'outside'}_{number}"
        CONTESTANTS[name] = functools.partial(convolution, shape, ours=ours, inside=inside)

if __name__ == "__main__":
    CONTESTANTS[sys.argv[1]]()
