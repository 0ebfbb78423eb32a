"""Any pytree of arrays <-> a folder on disk: atomic, checked, restored only into the structure that is expected."""

import hashlib
import logging
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree


class CheckpointError(Exception):
    """The folder holds no checkpoint, a damaged one, or one of another structure."""


def save(directory: Path, tree: PyTree, *, notes: dict[str, Any] | None = None):
    """Writes the arrays of `tree`, random keys among them, into a new folder; it is there as a whole or not at all.

    `notes` is anything that JSON can hold; `load` gives it back.
    """
    arrays = {name: np.asarray(_data(leaf)) for name, leaf in _named(jax.tree.leaves(tree))}
    metadata = {"leaves": _describe(tree), "empty": _empty(tree), "sha256": _digest(arrays), "notes": notes or {}}
    _orbax().save(directory.absolute(), arrays, custom_metadata=metadata)


def load(directory: Path, like: PyTree = None) -> tuple[PyTree, dict[str, Any]]:
    """The tree that was saved, in the structure of `like`, and its notes.

    Raises CheckpointError where a leaf has another place, shape or dtype than in `like`, or another content than when
    it was saved. Without `like`, the tree is made of dicts, lists, and namespaces for what had named fields.
    """
    orbax, directory = _orbax(), directory.absolute()
    try:
        metadata: Any = orbax.metadata(directory).custom_metadata
        described = metadata["leaves"]
        if like is not None and described != _describe(like):
            raise _other_structure(directory, described, _describe(like))
        arrays = {name: np.empty(shape, jnp.dtype(dtype)) for name, (_, _, dtype, shape) in _named(described)}
        arrays = orbax.load(directory, arrays)
    except CheckpointError:
        raise
    except Exception as error:  # Orbax and its storage raise whatever their layers raise
        raise CheckpointError(f"{directory} is no readable checkpoint ({type(error).__name__}: {error})") from error
    if _digest(arrays) != metadata["sha256"]:
        raise CheckpointError(f"{directory} is damaged: its content is not what was saved")
    leaves = [
        arrays[name] if impl is None else jax.random.wrap_key_data(arrays[name], impl=impl)
        for name, (_, impl, _, _) in _named(described)
    ]
    if like is None:
        paths, empty = [path for path, _, _, _ in described], metadata.get("empty", [])
        return _grow(paths + empty, leaves + [{} for _ in empty]), metadata["notes"]
    return jax.tree.unflatten(jax.tree.structure(like), leaves), metadata["notes"]


def _other_structure(directory, found, expected) -> CheckpointError:
    def say(leaves, others):
        return [
            f"{'.'.join(str(name) for _, name in path)} {'key' if impl else dtype}{shape}"
            for path, impl, dtype, shape in leaves
            if [path, impl, dtype, shape] not in others
        ]

    surplus, missing = say(found, expected), say(expected, found)
    return CheckpointError(f"{directory} holds another structure: it has {surplus}, expected was {missing}")


def _orbax() -> Any:
    from orbax.checkpoint import v1  # takes over a second

    logging.getLogger("absl").setLevel(logging.ERROR)
    return v1


def _named(items):
    """Each item with the name under which Orbax stores it; sorted names keep the order."""
    return ((f"{number:05d}", item) for number, item in enumerate(items))


def _key_impl(leaf) -> str | None:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return str(jax.random.key_impl(leaf)) if is_key else None


def _data(leaf):
    return leaf if _key_impl(leaf) is None else jax.random.key_data(leaf)


def _describe(tree) -> list:
    """Of each leaf, its path as pairs of kind and name, how it makes random keys if it does, dtype and shape."""
    return [
        [[_step(entry) for entry in path], _key_impl(leaf), str(_data(leaf).dtype), list(_data(leaf).shape)]
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _empty(tree) -> list:
    """The paths of empty dicts, such as the state of a model that has none; they have no leaves."""
    nodes = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: isinstance(node, dict) and not node)
    return [[_step(entry) for entry in path] for path, node in nodes if isinstance(node, dict)]


def _step(entry) -> list:
    """One step of a path: into a dict, a sequence, or an object with named fields."""
    for kind, attribute in (("key", "key"), ("index", "idx"), ("field", "name")):
        if hasattr(entry, attribute):
            return [kind, getattr(entry, attribute)]
    raise TypeError(f"a checkpoint cannot hold a node of the kind {entry}")


def _grow(paths, leaves):
    """A tree of dicts, lists and namespaces with these leaves at the ends of these paths."""
    if paths == [[]]:
        return leaves[0]
    branches: dict[Any, tuple[list, list]] = {}
    for (first, *rest), leaf in zip(paths, leaves, strict=True):
        rests, below = branches.setdefault(tuple(first), ([], []))
        rests.append(rest)
        below.append(leaf)
    grown = {name: _grow(*branch) for (_, name), branch in branches.items()}
    kinds = {kind for kind, _ in branches}
    if kinds == {"index"}:
        return [grown.get(index) for index in range(max(grown) + 1)]  # empty nodes other than dicts leave no trace
    return types.SimpleNamespace(**grown) if kinds == {"field"} else grown


def _digest(arrays) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
