"""One of two processes with several devices each: how far trainings on many devices are from the same ones on one.

Both print, as JSON, what a training on the devices of both has come to; the first also prints the largest differences
between trainings on one and on several of its own devices.
"""

import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnn import augment, cnn, losses, models, training
from jaxnn.types import Batch

CNN = cnn.from_flax(cnn.CNN((4,), (3,), hidden_size=8, dropout=0.3))
MLP = models.preprocess(lambda images: images.reshape(len(images), -1) / 255, models.mlp([8], 10, dropout=0.3))
OPTIMIZER = optax.sgd(0.05, momentum=0.9)
RNG = np.random.default_rng(0)
DATA = Batch(255 * RNG.normal(size=(48, 8, 8, 1)), RNG.integers(0, 10, 48))


def init(model):
    """In float64, which Flax does not make by itself."""
    net = training.init_train_state(jax.random.key(0), model, OPTIMIZER, DATA.inputs[:1])
    params, state = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (net.params, net.state))
    return net._replace(params=params, state=state, opt_state=OPTIMIZER.init(params))


def flat(*trees):
    return np.concatenate([np.ravel(leaf.addressable_data(0)) for leaf in jax.tree.leaves(trees)])


def train(model, num_devices, *, num_chunks=1, num_steps=20, micro_batch=None):
    """Parameters and states after some chunks, with dropout and shifts; no devices mean no mesh."""

    def loss_fn(params, state, batch, key):
        shift_key, noise_key = jax.random.split(key)
        images = augment.random_shift(batch.inputs, shift_key, max_pixels=1)
        logits, state = model.apply(params, state, images, noise_key)
        return losses.softmax_cross_entropy(logits, batch.targets), state

    mesh = training.batch_mesh(16, num_devices=num_devices) if num_devices else None
    place = functools.partial(training.replicate, mesh=mesh) if mesh else lambda tree: tree
    settings = {"batch_size": 16, "num_steps": num_steps, "micro_batch": micro_batch, "mesh": mesh}
    steps = jax.jit(lambda net, data: training.train_steps(net, data, loss_fn, OPTIMIZER, **settings)[0])
    net, data = START[model], place(DATA)
    for _ in range(num_chunks):
        net = steps(place(net), data)
    leaves = jax.tree.leaves((net.params, net.state))
    assert {len(leaf.sharding.device_set) for leaf in leaves} == {num_devices or 1}
    return flat(leaves)


def evaluate(num_devices):
    """Logits of more images than fill whole batches."""
    mesh = training.batch_mesh(16, num_devices=num_devices)

    def predict(params, state, images):
        return training.map_batches(lambda x: CNN.apply(params, state, x)[0], images, batch_size=16, mesh=mesh)

    arguments = training.replicate((START[CNN].params, START[CNN].state, DATA.inputs[:37]), mesh)
    compiled = jax.jit(predict).lower(*arguments).compile()
    assert ("all-gather" in compiled.as_text()) == (num_devices > 1)  # each device has computed a part
    return flat(compiled(*arguments))


def difference(one, other):
    return float(np.abs(one - other).max())


jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", num_processes=2, process_id=int(sys.argv[2]))
jax.config.update("jax_enable_x64", True)
START = {model: jax.device_get(jax.jit(init, static_argnums=0)(model)) for model in (MLP, CNN)}
on_all_devices = train(MLP, 8)
found = {"devices": jax.device_count(), "processes": jax.process_count(), "trained": on_all_devices.tolist()}
if jax.process_index() == 0:  # whose devices come first
    alone = train(CNN, None, num_chunks=5)
    found |= {
        "20 steps, two processes": difference(train(MLP, None), on_all_devices),
        "100 steps": difference(alone, train(CNN, 4, num_chunks=5)),
        "micro-batches": difference(*(train(CNN, number, num_steps=5, micro_batch=4) for number in (None, 2))),
        "evaluation": difference(evaluate(1), evaluate(4)),
        "moved": difference(alone, flat(jax.device_put((START[CNN].params, START[CNN].state)))),
    }
sys.stdout.write(json.dumps(found) + "\n")
