"""Any pytree of arrays <-> a folder on disk: atomic, checked, restored only into the structure that is expected."""

import hashlib
import logging
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
    leaves, described = _flatten(tree)
    metadata = {"leaves": described, "sha256": _digest(leaves), "notes": notes or {}}
    _orbax().save(directory.absolute(), leaves, custom_metadata=metadata)


def load(directory: Path, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
    """The tree that was saved, in the structure of `like`, and its notes.

    Raises CheckpointError where a leaf has another place, shape or dtype than in `like`, or another content than when
    it was saved.
    """
    expected_leaves, expected = _flatten(like)
    try:
        metadata: Any = _orbax().metadata(directory.absolute()).custom_metadata
        found = [list(leaf) for leaf in metadata["leaves"]]
        if found != expected:
            raise _other_structure(directory, found, expected)
        leaves = _orbax().load(directory.absolute(), jax.tree.map(np.empty_like, expected_leaves))
    except CheckpointError:
        raise
    except Exception as error:  # Orbax and its storage raise whatever their layers raise
        raise CheckpointError(f"{directory} is no readable checkpoint ({type(error).__name__}: {error})") from error
    if _digest(leaves) != metadata["sha256"]:
        raise CheckpointError(f"{directory} is damaged: its content is not what was saved")
    return _unflatten(leaves, like), metadata["notes"]


def _other_structure(directory, found, expected) -> CheckpointError:
    surplus, missing = (
        [f"{place} {dtype}{shape}" for place, dtype, shape in one if [place, dtype, shape] not in other]
        for one, other in ((found, expected), (expected, found))
    )
    return CheckpointError(f"{directory} holds another structure: it has {surplus}, expected was {missing}")


def _orbax() -> Any:
    from orbax.checkpoint import v1  # takes over a second

    logging.getLogger("absl").setLevel(logging.ERROR)
    return v1


def _is_key(leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _flatten(tree):
    """The leaves as NumPy arrays under running numbers, and place, dtype and shape of each."""
    leaves, described = {}, []
    for number, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(tree)):
        described.append([jax.tree_util.keystr(path), str(leaf.dtype), str(leaf.shape)])
        leaves[f"{number:05d}"] = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    return leaves, described


def _unflatten(leaves, like):
    def restore(old, new):
        return jax.random.wrap_key_data(jnp.asarray(new), impl=jax.random.key_impl(old)) if _is_key(old) else new

    structure = jax.tree.structure(like)
    return jax.tree.map(restore, like, jax.tree.unflatten(structure, [leaves[name] for name in sorted(leaves)]))


def _digest(leaves) -> str:
    digest = hashlib.sha256()
    for name in sorted(leaves):
        digest.update(np.ascontiguousarray(leaves[name]).tobytes())
    return digest.hexdigest()
