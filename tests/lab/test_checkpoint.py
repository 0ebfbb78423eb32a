from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import models, training
from jaxnn.lab import checkpoint

TREE = {
    "a": jnp.arange(3.0),
    "b": [jnp.array(2), jnp.ones((2, 2), jnp.bfloat16)],
    "key": jax.random.key(7),
    "keys": jax.random.split(jax.random.key(7, impl="rbg"), 2),
    "bool": np.array([True, False]),
    "double": np.array([1 / 3]),
    "long": np.int64(2**40),
    "empty": {"array": np.zeros((0, 3)), "dict": {}, "none": None},
    "turned": np.arange(6, dtype=np.int16).reshape(2, 3).T,
    "[ 'x' ]": np.float32(1),
    'back\\slash and "quotes"': np.float32(2),
    "a line\nand another": np.float32(3),
    "Ω 漢": np.uint8(4),
}


def content(tree):
    """Dtypes, shapes and bytes."""
    leaves = [jax.random.key_data(leaf) if is_key(leaf) else leaf for leaf in jax.tree.leaves(tree)]
    return [(leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()) for leaf in leaves]


def is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def test_a_tree_comes_back_bit_for_bit(tmp_path):
    checkpoint.save(tmp_path / "one", TREE, notes={"place": 3})
    tree, notes = checkpoint.load(tmp_path / "one", TREE)
    assert notes == {"place": 3}
    assert jax.tree.structure(tree) == jax.tree.structure(TREE)
    assert content(tree) == content(TREE)
    for name in ("key", "keys"):
        assert tree[name].dtype == TREE[name].dtype
        assert jax.random.key_impl(tree[name]) == jax.random.key_impl(TREE[name])
    np.testing.assert_array_equal(jax.random.normal(tree["key"]), jax.random.normal(TREE["key"]))
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("tree", [jnp.ones(3), {}, (np.zeros(1), [np.ones(1)])])
def test_trees_of_any_kind(tmp_path, tree):
    checkpoint.save(tmp_path / "one", tree)
    again, notes = checkpoint.load(tmp_path / "one", tree)
    assert (jax.tree.structure(again), content(again), notes) == (jax.tree.structure(tree), content(tree), {})


def test_a_path_may_be_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint.save("best.safetensors", np.ones(3), notes={"place": 3})
    np.testing.assert_array_equal(checkpoint.load("best.safetensors", np.ones(3))[0], 1)
    assert checkpoint.read_notes("best.safetensors") == {"place": 3}


def test_a_train_state_comes_back_where_only_shapes_are_known(tmp_path):
    def make_net():
        return training.init_train_state(jax.random.key(0), models.mlp([4], 2), optax.adam(0.1), jnp.ones((1, 3)))

    net = make_net()
    checkpoint.save(tmp_path / "net", net)
    restored, _ = checkpoint.load(tmp_path / "net", jax.eval_shape(make_net))
    assert jax.tree.structure(restored) == jax.tree.structure(net)
    assert content(restored) == content(net)


@pytest.mark.parametrize(
    "tree", [{"a": {"b": np.ones(1)}, "a.b": np.ones(1)}, {"": np.ones(1), "value": np.ones(1)}, {"__metadata__": 1}]
)
def test_leaves_without_a_name_of_their_own_are_refused(tmp_path, tree):
    with pytest.raises(ValueError, match="a name for each leaf"):
        checkpoint.save(tmp_path / "one", jax.tree.map(np.asarray, tree))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tree: {**tree, "a": jnp.arange(4.0)},
            r"it has \['a float32\[3\]'\], expected was \['a float32\[4\]'\]",
        ),
        (lambda tree: {**tree, "a": jnp.arange(3)}, r"float32\[3\].*int32\[3\]"),
        (lambda tree: {**tree, "c": jnp.ones(1)}, r"it has \[\], expected was \['c float32\[1\]'\]"),
        (lambda tree: {**tree, "b": tree["b"][:1]}, r"it has \['b.1 bfloat16\[2, 2\]'\], expected was \[\]"),
        (lambda tree: {**tree, "b": {"x": tree["b"][0], "y": tree["b"][1]}}, r"'b.0 int32\[\]'.*'b.x int32\[\]'"),
        (
            lambda tree: {**tree, **{f"d{number}": jnp.ones(1) for number in range(100)}},
            r"it has \[\], expected was \['d0 .*', 'd1 .*', 'd10 .*', '... 100 in all'\]$",
        ),
        (lambda tree: {**tree, "key": jax.random.key_data(tree["key"])}, r"key<fry>\[\].*uint32\[2\]"),
        (lambda tree: {**tree, "key": jax.random.key(7, impl="rbg")}, r"key<fry>\[\].*key<rbg>\[\]"),
    ],
)
def test_another_structure_is_refused(tmp_path, change, message):
    checkpoint.save(tmp_path / "one", TREE)
    with pytest.raises(checkpoint.CheckpointError, match=rf"one holds another structure: .*{message}"):
        checkpoint.load(tmp_path / "one", change(TREE))


def test_a_flipped_bit_in_any_byte_and_a_cut_are_found(tmp_path):
    tree = {"a": np.arange(3.0), "key": jax.random.key(0)}
    path = tmp_path / "one"
    checkpoint.save(path, tree, notes={"place": 3})
    whole = path.read_bytes()
    flipped = [whole[:n] + bytes([whole[n] ^ 1 << n % 8]) + whole[n + 1 :] for n in range(len(whole))]
    for damaged in [*flipped, *(whole[:n] for n in range(0, len(whole), 7)), whole + b"\0"]:
        path.write_bytes(damaged)
        with pytest.raises(checkpoint.CheckpointError, match=r"is damaged|is no readable checkpoint"):
            checkpoint.load(path, tree)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        lambda path: path.mkdir(),
        lambda path: path.write_text("{}"),
        lambda path: checkpoint.safetensors.numpy.save_file({"a": np.ones(1)}, path),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, make):
    make(tmp_path / "none")
    with pytest.raises(checkpoint.CheckpointError, match="none is no readable checkpoint"):
        checkpoint.load(tmp_path / "none", TREE)


def test_a_crash_between_write_and_rename_leaves_the_old_file(tmp_path, monkeypatch):
    path, tree = tmp_path / "one", {"a": np.zeros(3)}
    checkpoint.save(path, tree)

    def crash(part, target):
        assert part.parent == target.parent  # renaming is atomic within a folder
        assert checkpoint.load(part, tree)[0]["a"].tolist() == [1, 1, 1]  # and the new one is whole before that
        raise OSError("the power is off")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(OSError, match="power"):
            checkpoint.save(path, {"a": np.ones(3)})
    assert checkpoint.load(path, tree)[0]["a"].tolist() == [0, 0, 0]
    checkpoint.save(path, {"a": np.ones(3)})
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
