"""The map of rooms in README: who may import whom, and what `import jaxnn` brings along."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PURE = {path.stem for path in (ROOT / "jaxnn").glob("*.py")} - {"__init__"}
LAB = {f"lab.{path.stem}" for path in (ROOT / "jaxnn" / "lab").glob("*.py")} - {"lab.__init__"}
ALLOWED = {  # room: the rooms that it may import
    "types": set(),
    "ops": set(),
    "layers": {"types"},
    "models": {"layers", "types"},
    "cnn": {"models", "layers", "ops"},
    "losses": {"types"},
    "metrics": set(),
    "data": {"types"},
    "augment": set(),
    "training": {"types", "data", "models"},
    "lab.datasets": {"types"},
    "lab.run": set(),
    "lab.plots": set(),
}


def imported_modules(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported_by(path: Path) -> set[str]:
    names = {name.removeprefix("jaxnn.") for name in imported_modules(path) if name.startswith("jaxnn.")}
    return {room for room in PURE | LAB if any(name == room or name.startswith(f"{room}.") for name in names)}


@pytest.mark.parametrize("room", sorted(PURE | LAB))
def test_rooms_import_only_what_the_map_allows(room):
    path = ROOT / "jaxnn" / f"{room.replace('.', '/')}.py"
    assert rooms_imported_by(path) <= ALLOWED[room]


def test_arrows_point_one_way():
    assert tuple(graphlib.TopologicalSorter(ALLOWED).static_order())
    assert all("lab" not in allowed for room in PURE for allowed in ALLOWED[room])


@pytest.mark.parametrize("room", sorted(PURE))
def test_pure_rooms_touch_nothing_and_do_not_jit(room):
    path = ROOT / "jaxnn" / f"{room}.py"
    forbidden = {"os", "sys", "time", "pathlib", "logging", "rich", "io", "subprocess", "random"}
    assert not forbidden & set(imported_modules(path))
    names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert "jit" not in names


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("[!_]*.py")), ids=lambda path: path.stem)
def test_an_experiment_imports_no_other_and_is_documented(path):
    assert not any(name.startswith("experiments") for name in imported_modules(path))
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert f"Run:    make experiment NAME={path.stem}" in docstring
    assert "Expect: " in docstring


def test_import_is_light_and_starts_no_backend():
    program = (
        "import sys, jaxnn; from jax._src import xla_bridge;"
        "heavy = {'matplotlib', 'tensorflow_datasets', 'orbax', 'flax', 'sklearn', 'rich', 'tyro'};"
        "print(sorted(heavy & set(sys.modules)), xla_bridge.backends_are_initialized())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"
