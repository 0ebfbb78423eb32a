"""Any pytree of arrays <-> one safetensors file: atomic, checked, restored only into the structure that is expected.

Safetensors (https://github.com/huggingface/safetensors) is a header in JSON and the bytes of the arrays: reading it
runs no code of the file's.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import PyTree

from jaxnn.lab.files import write_whole

_BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}  # in which every dtype is kept, bfloat16 too


class CheckpointError(Exception):
    """The file holds no checkpoint, a damaged one, or one of another structure."""


def save(path: str | os.PathLike, tree: PyTree, *, notes: dict[str, Any] | None = None):
    """Writes the arrays of `tree`, random keys among them: after a crash the file is there as a whole or not at all.

    notes: whatever JSON can hold; `load` gives it back.
    """
    arrays = {name: _bits(leaf) for name, leaf in _named(tree).items()}
    generators = {name: str(jax.random.key_impl(leaf)) for name, leaf in _named(tree).items() if _is_key(leaf)}
    header = json.dumps({"leaves": _describe(tree), "keys": generators, "notes": notes or {}})
    metadata = {"header": header, "sha256": _digest(header, arrays)}
    write_whole(Path(path), safetensors.numpy.save(arrays, metadata))


def load(path: str | os.PathLike, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
    """The tree that was saved and its notes; of `like`, arrays or their shapes, only the structure counts.

    Raises CheckpointError where a leaf has another place, shape or dtype than in `like`, or another content than when
    it was saved.
    """
    content, arrays = _read(path)
    expected = _describe(like)
    if content["leaves"] != expected:
        raise CheckpointError(
            f"{path} holds another structure: it has {_differences(content['leaves'], expected)}, expected was "
            f"{_differences(expected, content['leaves'])}"
        )
    leaves = [
        jax.random.wrap_key_data(arrays[name], impl=content["keys"][name])
        if _is_key(leaf)
        else arrays[name].view(leaf.dtype)
        for name, leaf in _named(like).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves), content["notes"]


def read_notes(path: str | os.PathLike) -> dict[str, Any]:
    """The notes alone, whatever the tree. Raises CheckpointError where the file is damaged."""
    return _read(path)[0]["notes"]


def _read(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the arrays."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
        header, digest = metadata["header"], metadata["sha256"]
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} is no readable checkpoint ({type(error).__name__}: {error})") from error
    if _digest(header, arrays) != digest:
        raise CheckpointError(f"{path} is damaged: its content is not what was saved")
    return json.loads(header), arrays


def _named(tree: PyTree) -> dict[str, Any]:
    """The leaves by their places, such as "params.Conv_0.kernel"."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") or "value" for path, _ in leaves]
    if len(set(names)) < len(names) or "__metadata__" in names:
        raise ValueError(f"a checkpoint needs a name for each leaf, of its own and none of safetensors', not {names}")
    return {name: leaf for name, (_, leaf) in zip(names, leaves, strict=True)}


def _describe(tree: PyTree) -> dict[str, str]:
    """Of each leaf, dtype and shape."""
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in _named(tree).items()}


def _differences(leaves: dict[str, str], others: dict[str, str]) -> list[str]:
    """The leaves that the others lack; of many, the first three and their number."""
    found = [f"{name} {kind}" for name, kind in leaves.items() if others.get(name) != kind]
    return found if len(found) <= 4 else [*found[:3], f"... {len(found)} in all"]


def _is_key(leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _bits(leaf) -> np.ndarray:
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf, order="C")
    return array.view(_BITS[array.dtype.itemsize])


def _digest(header: str, arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape}".encode())
        digest.update(arrays[name].data if arrays[name].size else b"")
    return digest.hexdigest()
