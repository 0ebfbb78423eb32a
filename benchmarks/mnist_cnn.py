"""The training of `mnist_cnn`: a chunk of 550 steps, and its evaluation. `before_...` is for a checkout of bfc5114."""

import functools
import json
import sys
import time

import jax
import jax.numpy as jnp
from jax import lax

from experiments import mnist_cnn
from jaxnn import cnn, training
from jaxnn.lab import datasets

STEPS = 550


def after(num_nets):
    """As the experiment does it."""
    from jaxnn.lab import devices  # which the checkout lacks

    model, loss_fn, optimizer, nets = mnist_cnn.make_nets(mnist_cnn.Config(num_seeds=num_nets))
    data, sizes = jax.device_put(datasets.mnist()), {"batch_size": 50, "num_steps": STEPS}
    train = jax.jit(lambda net, data: training.train_steps(net, data, loss_fn, optimizer, **sizes))
    predict = functools.partial(mnist_cnn.predict, model)

    def block():
        nonlocal nets
        nets, _ = devices.map_nets(train, nets, data.train)
        jax.block_until_ready(devices.map_nets(predict, nets, data.validation.inputs))

    return block


def before(num_nets):
    """As the experiment did it then."""
    config, data = mnist_cnn.Config(num_seeds=num_nets), jax.device_put(datasets.mnist())
    options = {"hidden_size": config.hidden_size, "batch_norm": config.batch_norm, "dropout": config.dropout}
    model = cnn.from_flax(cnn.CNN(config.channels, **options))
    optimizer, loss_fn = mnist_cnn.make_optimizer(config), mnist_cnn.make_loss(config, model)
    options = {"loss_fn": loss_fn, "optimizer": optimizer, "batch_size": 50, "num_steps": STEPS, "micro_batch": 50}

    @jax.jit
    def init(keys):
        images = mnist_cnn.scale(data.train.inputs[:1])
        return lax.map(lambda key: training.init_train_state(key, model, optimizer, images), keys)

    @jax.jit
    def train(nets, data):
        return lax.map(lambda net: training.train_steps(net, data, **options), nets)

    @jax.jit
    def predict(nets, images):
        def logits(net):
            apply = functools.partial(model.apply, net.params, net.state)
            return training.map_batches(lambda x: apply(mnist_cnn.scale(x))[0], images, batch_size=250)

        return lax.map(logits, nets)

    nets = init(jax.vmap(jax.random.key)(jnp.arange(num_nets)))

    def block():
        nonlocal nets
        nets, _ = train(nets, data.train)
        jax.block_until_ready(predict(nets, data.validation.inputs))

    return block


def serve(block, *, units):
    """As in `benchmarks.race`, which an earlier checkout may lack."""
    block()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        started = time.perf_counter()
        block()
        sys.stdout.write(json.dumps({"seconds": (time.perf_counter() - started) / units, "said": {}}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    when, number = sys.argv[1].split("_")
    serve({"after": after, "before": before}[when](int(number)), units=STEPS * int(number))
