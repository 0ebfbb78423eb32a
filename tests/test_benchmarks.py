"""The races are too long for tests; but what they call in jaxnn is there."""

import ast
import importlib
from pathlib import Path

import pytest

PROGRAMS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_what_the_races_call_in_jaxnn_is_there(path):
    nodes = list(ast.walk(ast.parse(path.read_text())))
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module in ("jaxnn", "jaxnn.lab")]
    names = {alias.name: f"{node.module}.{alias.name}" for node in imports for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
            assert hasattr(importlib.import_module(names[node.value.id]), node.attr), f"line {node.lineno}"
