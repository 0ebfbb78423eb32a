import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnn import losses, models, training
from jaxnn.lab import devices
from jaxnn.types import Batch


def test_nets_on_devices_of_their_own_are_nets_alone():
    assert jax.device_count() > 1
    rng = np.random.default_rng(0)
    data = Batch(jnp.asarray(rng.normal(size=(24, 3)), jnp.float32), jnp.asarray(rng.integers(0, 4, 24)))
    model, optimizer = models.mlp([8], 4), optax.adam(0.01)
    loss_fn = training.make_loss(model, losses.softmax_cross_entropy)
    train = jax.jit(lambda net, data: training.train_steps(net, data, loss_fn, optimizer, batch_size=8, num_steps=5))
    keys = training.seed_keys(0, 3)
    singles = [training.init_train_state(key, model, optimizer, data.inputs) for key in keys]
    ends, metrics = devices.map_nets(train, jax.tree.map(lambda *leaves: jnp.stack(leaves), *singles), data)
    for number, net in enumerate(singles):
        alone, (end, own_metrics) = train(net, data), jax.tree.map(lambda leaf: leaf[number], (ends, metrics))  # noqa: B023
        jax.tree.map(np.testing.assert_array_equal, (alone[0].params, alone[1]), (end.params, own_metrics))
        assert end.step == 5
    assert {leaf.devices() == {jax.devices()[0]} for leaf in jax.tree.leaves(ends)} == {True}
