"""The scripts of docs/recipes.md run as they stand there, and print what they say."""

import contextlib
import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "recipes.md").read_text()
RECIPES = dict(re.findall(r"^### ([^\n]+)\n(?:(?!^###).)*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
NUMBER = r"(?<![\w.])-?\d+\.?\d*(?:e-?\d+)?"
SAID = rf"(about|below)? ?({NUMBER})"  # such as "about 20, below 0.05"


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A folder of runs with one of mnist_cnn, as small as can be."""
    folder = tmp_path_factory.mktemp("runs")
    settings = "--channels 4 8 --hidden-size 16 --num-train 1000 --epochs 1 --eval-every 20"
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(None):
        patch.setattr(sys, "argv", ["mnist_cnn", *settings.split(), "--out", str(folder / "run")])
        runpy.run_path(str(ROOT / "experiments" / "mnist_cnn.py"), run_name="__main__")
    return folder


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_prints_what_it_says(title, tmp_path, monkeypatch, capsys, request):
    if "experiments.newest" in RECIPES[title]:
        (tmp_path / "runs").symlink_to(request.getfixturevalue("runs"))
    script = tmp_path / "my.py"
    script.write_text(RECIPES[title])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["my.py"])
    runpy.run_path(str(script), run_name="__main__")
    said = [pair for line in re.findall("# ((?:about|below).*)", RECIPES[title]) for pair in re.findall(SAID, line)]
    printed = re.findall(NUMBER, capsys.readouterr().out)
    assert said
    for (word, expected), number in zip(said, printed, strict=True):
        if word == "below":
            assert float(number) < float(expected)
        else:
            assert float(number) == pytest.approx(float(expected), rel=0.05)


def test_every_heading_has_its_script():
    assert list(RECIPES) == re.findall("^### (.*)", PAGE, re.MULTILINE)
    assert len(RECIPES) == PAGE.count("```python")
