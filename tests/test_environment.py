"""What jaxnn stands on: the installed JAX computes right, and the lock file is what it should be."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).parents[1]


def test_the_installed_jax_multiplies_right():
    """The case of jax-ml/jax#39103, which jaxlib 0.10.2 gets wrong on CPU."""
    first = jnp.arange(32_769.0)
    rows = jnp.stack([first, jnp.zeros_like(first), jnp.zeros_like(first)], axis=1)
    squares = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2)))(rows)
    np.testing.assert_array_equal(squares, np.arange(32_769.0, dtype=np.float32) ** 2)


def test_a_run_has_a_device_for_each_core_unless_it_is_told_otherwise():
    program = "import jax; from jaxnn.lab import environment as e; e.use_all_cores(); print(jax.device_count())"
    clean = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    for variables, expected in ({}, len(os.sched_getaffinity(0))), ({"JAX_NUM_CPU_DEVICES": "3"}, 3):
        done = subprocess.run(
            [sys.executable, "-c", program], env=clean | variables, capture_output=True, text=True, check=True
        )
        assert int(done.stdout) == expected


def test_the_lock_holds_pinned_versions_and_no_address():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+( ; [\w .*<>=!'()]+)?", line) for line in lines)
    assert not {"jax==0.10.2", "jaxlib==0.10.2", "jax==0.11.0", "jaxlib==0.11.0"} & {line.split()[0] for line in lines}


def test_the_lock_covers_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = re.findall(r"\w+", re.search(r"jaxnn\[(.*)\]", extras["dev"][0]).group(1))
    required = sum([extras[name] for name in names], project["dependencies"] + extras["dev"][1:])
    locked = {line.split("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert {re.match(r"[\w-]+", requirement).group().lower() for requirement in required} <= locked
