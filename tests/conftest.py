"""Shapes and dtypes of public functions are checked while the tests run; compiled programs are kept between runs."""

import gc
import importlib.metadata
import os

# To compile takes longer than to run: these two make it four times as fast.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones end at a flag that they do not know
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # which nobody reads, and which take time to write

import jax
import jaxtyping
import pytest

jaxtyping.install_import_hook("jaxnn", "beartype.beartype")
gc.set_threshold(50_000, 50, 100)  # JAX makes so many small objects that looking for garbage took a tenth of the time


def pytest_configure(config):
    jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def pytest_collection_modifyitems(items):
    """The slowest files first, so that both workers end together: experiments, recipes, then the largest."""
    slow = "test_experiments", "test_recipes.py"
    items.sort(key=lambda item: (not {*item.path.parts} & {*slow}, -item.path.stat().st_size))


@pytest.fixture
def x64():
    """Arrays are float64 inside the test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def as_users_see_it():
    """Without the hook, which finds bad shapes before the function itself does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
