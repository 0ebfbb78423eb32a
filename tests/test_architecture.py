"""The map of rooms in README: who may import whom, and what `import jaxnn` brings along."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PURE = {path.stem for path in (ROOT / "jaxnn").glob("*.py")} - {"__init__"}
LAB = {f"lab.{path.stem}" for path in (ROOT / "jaxnn" / "lab").glob("*.py")} - {"lab.__init__"}
ALLOWED = {  # room: the rooms that it may import
    "types": set(),
    "deck": set(),
    "ops": set(),
    "layers": {"types"},
    "models": {"layers", "types"},
    "cnn": {"layers", "models", "ops"},
    "losses": {"types"},
    "metrics": {"data"},
    "data": {"types"},
    "augment": {"types"},
    "descent": {"data"},
    "backprop": {"layers", "types"},
    "linear_models": {"data", "descent", "layers", "losses", "types"},
    "training": {"types", "data", "losses", "models"},
    "lab.files": set(),
    "lab.sources": set(),
    "lab.splits": {"data", "types"},
    "lab.image_folders": {"types", "lab.config", "lab.console", "lab.images", "lab.splits", "lab.tables"},
    "lab.datasets": {"types", "lab.config", "lab.files", "lab.image_folders", "lab.sources", "lab.splits"},
    "lab.tables": {"lab.config", "lab.files"},
    "lab.formula": {"lab.config"},
    "lab.images": {"lab.files"},
    "lab.config": set(),
    "lab.console": set(),
    "lab.environment": {"lab.files"},
    "lab.devices": {"data"},
    "lab.checkpoint": {"lab.files"},
    "lab.chunks": {"lab.console"},
    "lab.run": {"lab.checkpoint", "lab.chunks", "lab.config", "lab.console", "lab.environment", "lab.files"},
    "lab.start": {"lab.chunks", "lab.config", "lab.console", "lab.environment", "lab.files", "lab.run", "lab.style"},
    "lab.page": {"lab.files"},
    "lab.style": set(),
    "lab.plots": {"lab.style"},
    "lab.diagrams": {"lab.plots", "lab.style"},
    "lab.net_diagrams": {"lab.plots", "lab.style"},
}
EXPERIMENTS = sorted((ROOT / "experiments").glob("[!_]*.py"))


def imported_modules(source: str):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported_by(source: str) -> set[str]:
    """The rooms; "jaxnn" or "lab" where the whole package is imported."""
    names = {name for name in imported_modules(source) if name.split(".")[0] == "jaxnn"}
    inner = {name.removeprefix("jaxnn.") for name in names}
    return {next((room for room in PURE | LAB if f"{name}.".startswith(f"{room}.")), name) for name in inner}


def names_used_by(source: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(source)))
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    used |= {node.id for node in nodes if isinstance(node, ast.Name)}
    return used | {name.split(".")[-1] for name in imported_modules(source)}


def source_of(room: str) -> str:
    return (ROOT / "jaxnn" / f"{room.replace('.', '/')}.py").read_text()


@pytest.mark.parametrize("room", sorted(PURE | LAB))
def test_rooms_import_only_what_the_map_allows(room):
    assert rooms_imported_by(source_of(room)) <= ALLOWED[room]


@pytest.mark.parametrize(
    "source",
    ["import jaxnn", "import jaxnn.lab", "from jaxnn import lab", "from jaxnn.lab import run", "import jaxnn.lab.run"],
)
def test_an_import_of_lab_is_seen(source):
    assert rooms_imported_by(source) & {"jaxnn", "lab", "lab.run"}


def test_arrows_never_go_in_a_circle():
    arrows = {room: rooms_imported_by(source_of(room)) for room in PURE | LAB}
    assert set(graphlib.TopologicalSorter(arrows).static_order()) == PURE | LAB == set(ALLOWED)


@pytest.mark.parametrize("room", sorted(PURE))
def test_pure_rooms_touch_nothing_and_do_not_jit(room):
    forbidden = {"os", "sys", "time", "pathlib", "logging", "rich", "io", "subprocess", "random"}
    assert not forbidden & {name.split(".")[0] for name in imported_modules(source_of(room))}
    assert not {"jit", "open", "print"} & names_used_by(source_of(room))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_reads_in_one_sitting(path):
    source = path.read_text()
    assert len(source.splitlines()) <= 150
    assert not any(name.startswith("experiments.") for name in imported_modules(source))
    docstring = ast.get_docstring(ast.parse(source))
    assert f"Run:    make experiment NAME={path.stem}" in docstring
    assert "Expect: " in docstring
    assert re.search(r"^Time:   (\d+ (h|min|s) ?)+$", docstring, re.MULTILINE)
    functions = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert functions[-1] == "main"


def test_no_import_waits_for_a_statement():
    asked = "noqa: " + "E402"
    assert not [path for path in ROOT.glob("[!.]*/**/*.py") if asked in path.read_text()]  # no .venv, no .venv-bench


def test_import_is_light_and_starts_no_backend():
    program = (
        "import sys, jaxnn; from jax._src import xla_bridge;"
        "heavy = {'matplotlib', 'tensorflow_datasets', 'orbax', 'flax', 'sklearn', 'rich', 'tyro'};"
        "print(sorted(heavy & set(sys.modules)), xla_bridge.backends_are_initialized())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"


def test_experiments_start_no_backend_when_imported():
    imports = "".join(f"import experiments.{path.stem};" for path in EXPERIMENTS)
    program = f"{imports} from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
