"""`python -m experiments`, as processes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def experiments(*arguments):
    return subprocess.run([sys.executable, "-m", "experiments", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mnist_cn"], "no experiment is called 'mnist_cn': did you mean mnist_cnn?"),
        (["xyz"], "no experiment is called 'xyz'; there are: backpropagation, convolution,"),
        ([], "name an experiment; there are:"),
        (["mnist_cnn", "--batch-size", "0"], "--batch-size: input should be greater than or equal to 1, not 0"),
    ],
)
def test_bad_usage_exits_with_2(arguments, message):
    done = experiments(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_list_has_every_experiment_with_its_time_and_first_line():
    done = experiments("--list")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == sorted(path.stem for path in (ROOT / "experiments").glob("[!_]*.py"))
    assert all(re.search(r"^\w+ +(\d+ (h|min|s) ?)+ +\S.*\.$", line) for line in lines)
    assert re.search(r"^mnist_cnn +\d+ (min|s).* A convolutional network reads", done.stdout, re.MULTILINE)
