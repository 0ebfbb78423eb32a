import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import models, training
from jaxnn.lab import checkpoint

TREE = {"a": jnp.arange(3.0), "b": [jnp.array(2), jnp.ones((2, 2), jnp.bfloat16)], "key": jax.random.key(7)}


def test_a_tree_comes_back_bit_for_bit(tmp_path):
    checkpoint.save(tmp_path / "one", TREE, notes={"place": 3})
    tree, notes = checkpoint.load(tmp_path / "one", jax.tree.map(lambda leaf: leaf, TREE))
    assert notes == {"place": 3}
    assert jax.tree.structure(tree) == jax.tree.structure(TREE)
    np.testing.assert_array_equal(jax.random.normal(tree["key"]), jax.random.normal(TREE["key"]))
    for name in "ab":
        for new, old in zip(jax.tree.leaves(tree[name]), jax.tree.leaves(TREE[name]), strict=True):
            assert (new.dtype, new.tobytes()) == (old.dtype, np.asarray(old).tobytes())


def test_a_train_state_comes_back(tmp_path):
    net = training.init_train_state(jax.random.key(0), models.mlp([4], 2), optax.adam(0.1), jnp.ones((1, 3)))
    checkpoint.save(tmp_path / "net", net)
    restored, _ = checkpoint.load(tmp_path / "net", net)
    assert jax.tree.structure(restored) == jax.tree.structure(net)


def test_without_a_structure_the_places_make_one(tmp_path):
    net = training.init_train_state(jax.random.key(0), models.mlp([4], 2), optax.adam(0.1), jnp.ones((1, 3)))
    checkpoint.save(tmp_path / "net", net)
    loaded, _ = checkpoint.load(tmp_path / "net")
    assert jax.tree.structure(loaded.params) == jax.tree.structure(net.params)
    assert loaded.state == {}
    np.testing.assert_array_equal(loaded.params[1]["weight"], net.params[1]["weight"])
    np.testing.assert_array_equal(loaded.opt_state[0].mu[0]["bias"], np.zeros(4))
    assert jax.random.key_data(loaded.key).tolist() == jax.random.key_data(net.key).tolist()
    checkpoint.save(tmp_path / "one", jnp.ones(3))
    np.testing.assert_array_equal(checkpoint.load(tmp_path / "one")[0], np.ones(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tree: {**tree, "a": jnp.arange(4.0)},
            r"it has \['a float32\[3\]'\], expected was \['a float32\[4\]'\]",
        ),
        (lambda tree: {**tree, "a": jnp.arange(3)}, r"float32\[3\].*int32\[3\]"),
        (lambda tree: {**tree, "c": jnp.ones(1)}, r"it has \[\], expected was \['c float32\[1\]'\]"),
        (lambda tree: {**tree, "key": jax.random.key_data(tree["key"])}, r"key\[2\].*uint32\[2\]"),
    ],
)
def test_another_structure_is_refused(tmp_path, change, message):
    checkpoint.save(tmp_path / "one", TREE)
    with pytest.raises(checkpoint.CheckpointError, match=message):
        checkpoint.load(tmp_path / "one", change(TREE))


def test_damage_is_found(tmp_path):
    checkpoint.save(tmp_path / "one", {"a": jnp.asarray(np.random.default_rng(0).normal(size=5000))})
    files = [
        path for path in (tmp_path / "one" / "state").rglob("*") if path.is_file() and path.stat().st_size > 10_000
    ]
    assert files
    for path in files:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with pytest.raises(checkpoint.CheckpointError, match=r"damaged|no readable checkpoint"):
        checkpoint.load(tmp_path / "one", {"a": jnp.zeros(5000)})


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.touch()])
def test_what_is_no_checkpoint_is_refused(tmp_path, make):
    make(tmp_path / "none")
    with pytest.raises(checkpoint.CheckpointError, match=r"is no readable checkpoint"):
        checkpoint.load(tmp_path / "none", TREE)
