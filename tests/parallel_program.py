"""Prints, as JSON, how far trainings on several virtual devices are from the same training on one."""

import json
import sys

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from jax.sharding import NamedSharding, PartitionSpec  # noqa: E402

from jaxnn import augment, cnn, losses, training  # noqa: E402
from jaxnn.types import Batch  # noqa: E402


def make(batch_norm):
    model = cnn.from_flax(cnn.CNN((4, 6), (5, 3), hidden_size=16, batch_norm=batch_norm, dropout=0.3))

    def loss_fn(params, state, batch, keys):
        shift_keys, noise_keys = jax.vmap(jax.random.split, (0, None), 1)(keys, 2)
        images = augment.random_shift(batch.inputs, shift_keys, max_pixels=1)
        logits, state = model.apply(params, state, images, noise_keys)
        return losses.softmax_cross_entropy(logits, batch.targets), state

    return model, loss_fn


def train(num_devices, dtype, num_steps, *, batch_norm=True, micro_batch=None):
    """Parameters and state after some steps, and the devices on which they lie."""
    rng = np.random.default_rng(0)
    data = Batch(jnp.asarray(rng.normal(size=(48, 16, 16, 1)), dtype), jnp.asarray(rng.integers(0, 10, 48)))
    model, loss_fn = make(batch_norm)
    optimizer = optax.sgd(0.05, momentum=0.9)
    start = training.init_train_state(jax.random.key(0), model, optimizer, data.inputs[:1])
    cast = lambda tree: jax.tree.map(lambda leaf: leaf.astype(dtype), tree)  # noqa: E731
    params, state = cast(start.params), cast(start.state)
    start = start._replace(params=params, state=state, opt_state=optimizer.init(params))
    mesh = training.batch_mesh(16, num_devices=num_devices)
    settings = {"loss_fn": loss_fn, "optimizer": optimizer, "batch_size": 16, "num_steps": num_steps}
    run = jax.jit(lambda net, data: training.train_steps(net, data, mesh=mesh, micro_batch=micro_batch, **settings))
    net, _ = run(*jax.device_put((start, data), NamedSharding(mesh, PartitionSpec())))
    leaves = jax.tree.leaves((net.params, net.state))
    assert {len(leaf.sharding.device_set) for leaf in leaves} == {num_devices}
    return np.concatenate([np.asarray(leaf).ravel() for leaf in leaves])


def evaluate(num_devices):
    """Logits of more images than fill whole batches."""
    model, _ = make(batch_norm=True)
    images = jax.random.normal(jax.random.key(1), (53, 16, 16, 1))
    params, state = model.init(jax.random.key(0), images)
    mesh = training.batch_mesh(16, num_devices=num_devices)

    def predict(*net):
        return training.map_batches(lambda images: model.apply(*net, images)[0], images, batch_size=16, mesh=mesh)

    net = jax.device_put((params, state), NamedSharding(mesh, PartitionSpec()))
    compiled = jax.jit(predict).lower(*net).compile()
    assert ("all-gather" in compiled.as_text()) == (num_devices > 1)  # each device has computed a part
    return np.asarray(compiled(*net))


def largest_difference(*trained):
    return max(float(np.abs(other - trained[0]).max()) for other in trained[1:])


once = [train(number, jnp.float32, 1) for number in (1, 2, 8)]
with jax.enable_x64(True):
    many = [train(number, jnp.float64, 100) for number in (1, 2, 8)]
    whole, *parts = (train(1, jnp.float64, 20, batch_norm=False, micro_batch=size) for size in (None, 4, 1))
    parts.append(train(2, jnp.float64, 20, batch_norm=False, micro_batch=4))
    before = train(1, jnp.float64, 0)
json.dump(
    {
        "evaluation": largest_difference(*(evaluate(number) for number in (1, 2, 8))),
        "one step, float32": largest_difference(*once),
        "100 steps, float64": largest_difference(*many),
        "micro-batches": largest_difference(whole, *parts),
        "moved": largest_difference(before, many[0]),
    },
    sys.stdout,
)
