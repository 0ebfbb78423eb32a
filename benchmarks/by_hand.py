"""The training step of the first race, written out in JAX for one net, batch and number of devices: what is possible.

On each device the convolutions go over groups of 8 images, which stay in its cache, and the dense layers over its share
of the batch; the images lie ready as floats, batch by batch. Nothing is shuffled, checked or measured.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.race import serve

STEPS, BATCH, GROUP = 100, 128, 8
OPTIMIZER = optax.sgd(0.05, momentum=0.9)


def correlate(images, kernel, padding):
    """XLA's convolution in its canonical layout."""
    return lax.conv_general_dilated(images, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@jax.custom_vjp
def convolve(images, kernel):
    """With a 3x3 kernel, the images as large as before."""
    return correlate(images, kernel, "SAME")


def convolve_backward(residuals, cotangent):
    """Both gradients are convolutions in the same layout."""
    images, kernel = residuals
    along_batch = correlate(images.transpose(3, 1, 2, 0), cotangent.transpose(1, 2, 0, 3), ((1, 1), (1, 1)))
    flipped = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    return correlate(cotangent, flipped, "SAME"), along_batch.transpose(1, 2, 0, 3)


convolve.defvjp(lambda images, kernel: (convolve(images, kernel), (images, kernel)), convolve_backward)


def pool(x):
    """Means of 2x2 blocks."""
    x = 0.5 * (x[:, ::2] + x[:, 1::2])
    return 0.5 * (x[:, :, ::2] + x[:, :, 1::2])


def init(key):
    """Kernels, weights and biases of C3-32, C3-64, D256, D10."""
    shapes = ((3, 3, 1, 32), (3, 3, 32, 64), (3136, 256), (256, 10))
    keys = jax.random.split(key, len(shapes))
    draw = jax.nn.initializers.he_normal()
    return [(draw(key, shape), jnp.zeros(shape[-1])) for key, shape in zip(keys, shapes, strict=True)]


def mean_loss(params, images, labels):
    """Softmax cross-entropy of the images of one device."""
    *convolutions, (hidden, hidden_bias), (last, last_bias) = params

    def features(group):
        for kernel, bias in convolutions:
            group = pool(jax.nn.relu(convolve(group, kernel) + bias))
        return group.reshape(len(group), -1)

    groups = images.reshape(-1, GROUP, *images.shape[1:])
    x = lax.map(features, groups).reshape(len(images), -1)
    logits = jax.nn.relu(x @ hidden + hidden_bias) @ last + last_bias
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def train(params, opt_state, images, labels):
    """All steps, on one of the devices."""

    def take_step(carry, batch):
        params, opt_state = carry
        gradient = lax.pmean(jax.grad(mean_loss)(params, *batch), "device")
        updates, opt_state = OPTIMIZER.update(gradient, opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    return lax.scan(take_step, (params, opt_state), (images, labels))[0]


def main():
    """Blocks of steps on all devices."""
    mesh, everywhere, by_batch = (
        Mesh(np.array(jax.devices()), ("device",)),
        PartitionSpec(),
        PartitionSpec(None, "device"),
    )
    rng = np.random.default_rng(0)
    images = rng.normal(size=(STEPS, BATCH, 28, 28, 1)).astype(np.float32)
    batches = jax.device_put((images, rng.integers(0, 10, (STEPS, BATCH), np.int32)), NamedSharding(mesh, by_batch))
    params = init(jax.random.key(0))
    state = jax.device_put((params, OPTIMIZER.init(params)), NamedSharding(mesh, everywhere))
    specs = {"in_specs": (everywhere, everywhere, by_batch, by_batch), "out_specs": everywhere, "check_vma": False}
    steps = jax.jit(jax.shard_map(train, mesh=mesh, **specs), donate_argnums=(0, 1))

    def block():
        nonlocal state
        state = jax.block_until_ready(steps(*state, *batches))

    serve(block, units=STEPS)


if __name__ == "__main__":
    sys.exit(main())
