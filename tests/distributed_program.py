"""One of two processes that share each batch; prints how far their training is from one on a single device."""

import sys

import jax

jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", num_processes=2, process_id=int(sys.argv[2]))

import numpy as np  # noqa: E402
import optax  # noqa: E402
from jax.sharding import NamedSharding, PartitionSpec  # noqa: E402

from jaxnn import layers, losses, models, training  # noqa: E402
from jaxnn.types import Batch  # noqa: E402

rng = np.random.default_rng(0)
data = Batch(rng.normal(size=(48, 5)).astype(np.float32), rng.integers(0, 3, 48))
model, optimizer = models.mlp([8], 3), optax.adam(0.01)


def loss_fn(params, state, batch, keys):
    inputs = layers.dropout(batch.inputs, keys, rate=0.3)
    logits, state = model.apply(params, state, inputs)
    return losses.softmax_cross_entropy(logits, batch.targets), state


def train(mesh):
    def init():
        return training.init_train_state(jax.random.key(0), model, optimizer, data.inputs)

    def steps(net, data):
        settings = {"loss_fn": loss_fn, "optimizer": optimizer, "batch_size": 16, "num_steps": 20, "mesh": mesh}
        return training.train_steps(net, data, **settings)[0].params

    start = jax.jit(init, out_shardings=mesh and NamedSharding(mesh, PartitionSpec()))()
    return [np.asarray(leaf.addressable_data(0)) for leaf in jax.tree.leaves(jax.jit(steps)(start, data))]


mesh = training.batch_mesh(16)
difference = max(np.abs(ours - alone).max() for ours, alone in zip(train(mesh), train(None), strict=True))
sys.stdout.write(f"{mesh.size} {jax.process_count()} {difference}\n")
