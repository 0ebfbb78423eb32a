"""The long checks, one after the other: `make check-full`, over an hour on 2 cores.

They check what is committed, in a clone of its own. All run, even where one fails; exit status 1 says that one did.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRAININGS = "mnist_cnn", "mnist_mlp", "overfitting", "tabular", "weight_sharing", "backpropagation", "linear_regression"
PURE = "tests/test_[!e]*.py"  # all rooms that can be jitted


def quick(name: str, *options: str) -> str:
    """The command that runs an experiment at toy size, in a folder that goes with the clone."""
    return f"$PYTHON {' '.join(options)} -m experiments {name} --quick --out runs/{name}_$RANDOM"


PYTEST = "$PYTHON -m pytest --quiet"
CHECKS = {
    "properties with many examples": f"HYPOTHESIS_PROFILE=long {PYTEST} tests/test_properties.py",
    "crashes at every call of the system, every resume": f"{PYTEST} -m full",
    "no tracer leaks": f"JAX_CHECK_TRACER_LEAKS=1 {PYTEST} {PURE}",
    "no training meets a NaN": " && ".join(f"JAX_DEBUG_NANS=1 {quick(name)}" for name in TRAININGS),
    "warnings are errors": quick("mnist_cnn", "-W error"),
    "without docstrings and asserts": quick("mnist_cnn", "-OO"),
    "the wheel, from another folder": (
        "$PYTHON -m hatchling build -t wheel -d wheel"
        " && $PYTHON -m uv pip install --quiet --no-deps --target site wheel/*"
        " && cd / && PYTHONPATH=$OLDPWD/site $PYTHON -c 'import jaxnn.cnn, jaxnn.lab.start, pathlib;"
        ' assert "/site/" in jaxnn.__file__; assert pathlib.Path(jaxnn.__file__).with_name("py.typed").exists()\''
    ),
    "the library without its extras": (
        "$PYTHON -m venv .light && $PYTHON -m uv pip install --quiet --python .light/bin/python ."
        " && unset PYTHONPATH && cd / && $OLDPWD/.light/bin/python -c 'import jaxnn; jaxnn.models.mlp([2], 1)'"
    ),
    "the lowest versions that pyproject.toml allows": (
        "$PYTHON -m venv .lowest"
        " && $PYTHON -m uv pip install --quiet --python .lowest/bin/python --resolution lowest-direct -e .[dev]"
        " && .lowest/bin/python -m pytest --quiet"
    ),
    "Python 3.12": "make test PYTHON=python3.12",
    "Python 3.13": "make test PYTHON=python3.13",
}


def main():
    """Runs the checks whose titles have one of the words of the command line, or all."""
    failed = []
    for title, command in CHECKS.items():
        if sys.argv[1:] and not any(word in title for word in sys.argv[1:]):
            continue
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["git", "clone", "--quiet", str(ROOT), folder], check=True)
            started = time.perf_counter()
            environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": folder}  # not what .venv knows of
            done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
        outcome = "failed" if done.returncode else "passed"
        print(f"{outcome} in {time.perf_counter() - started:4.0f} s: {title}", flush=True)  # noqa: T201
        if done.returncode:
            failed.append(title)
            print(f"  {command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")  # noqa: T201
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
