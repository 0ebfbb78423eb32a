"""Shapes and dtypes of public functions are checked while the tests run; compiled programs are kept between runs."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jaxtyping
import pytest
from processes import experiment

jaxtyping.install_import_hook("jaxnn", "beartype.beartype")


def pytest_configure(config):
    jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


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


@pytest.fixture(scope="session")
def three_nets(tmp_path_factory):
    """The folder of a run with seeds 0, 1 and 2."""
    folder = tmp_path_factory.mktemp("runs") / "three"
    done = experiment("mnist_cnn", "--quick", "--num-seeds", 3, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def runs(request, three_nets, tmp_path_factory):
    """Of each experiment that is to be tested, what two runs left, the second with the first's compiled programs."""

    def run_twice(name):
        needed = ["--run", three_nets] if name in ("predict", "feature_maps") else []
        folders = [tmp_path_factory.mktemp(name) / "run" for _ in range(2)]
        return [(folder, experiment(name, "--quick", "--seed", 3, *needed, "--out", folder)) for folder in folders]

    names = [item.callspec.params["name"] for item in request.session.items if "runs" in item.fixturenames]
    with ThreadPoolExecutor(1) as pool:  # beside the tests, which leave a core free
        yield {name: pool.submit(run_twice, name) for name in names}
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session", autouse=True)
def runs_begin_with_the_tests(request):
    """So that they are there when they are wanted."""
    if any("runs" in item.fixturenames for item in request.session.items):
        request.getfixturevalue("runs")
