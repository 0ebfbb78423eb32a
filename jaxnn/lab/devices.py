"""Several nets at once, each on a device of its own."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxnn.data import num_examples


def map_nets(fn: Callable, nets: PyTree, *shared: PyTree) -> PyTree:
    """`fn(net, *shared)` for each of the nets [n, ...]: the results [n, ...].

    Each net has a device of this process for itself, and takes its turn where they are fewer than the nets: on CPU, two
    nets on two cores need less time than one after the other on both.

    fn: jitted, or the devices would wait for each other.
    """
    devices = jax.local_devices()
    places = [devices[number % len(devices)] for number in range(num_examples(nets))]
    copies = {place: jax.device_put(shared, place) for place in places}
    single = jax.device_put(_unstack(nets), places)  # all of them before the first begins, or they would wait for it
    results = [fn(net, *copies[place]) for net, place in zip(single, places, strict=True)]
    return _stack(jax.device_put(results, devices[0]))


@jax.jit
def _unstack(trees):
    return [jax.tree.map(lambda leaf, number=number: leaf[number], trees) for number in range(num_examples(trees))]


@jax.jit
def _stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
