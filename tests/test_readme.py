"""README's scripts run as they stand there, one only shorter, and its map names every room."""

import json
import re
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def scripts():
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_research_script_trains_five_nets(capsys):
    (script,) = (script for script in scripts() if "1650" in script)
    exec(compile(script.replace("1650", "60"), "README", "exec"), {})
    accuracies = [float(number) for number in capsys.readouterr().out.strip("[]\n ").split()]
    assert len(set(accuracies)) == 5
    assert min(accuracies) > 0.8


def test_the_experiment_that_is_complete_runs(monkeypatch, tmp_path, capsys):
    (script,) = (script for script in scripts() if "start(Config" in script)
    (tmp_path / "coin.py").write_text(script)
    monkeypatch.setattr(sys, "argv", ["coin", "--num-throws", "10000", "--out", str(tmp_path / "run")])
    runpy.run_path(str(tmp_path / "coin.py"), run_name="__main__")
    share = json.loads((tmp_path / "run" / "summary.json").read_text())["share"]
    assert abs(share - 0.5) <= 0.005  # as its docstring lets one expect
    out, err = capsys.readouterr()
    assert out.startswith("share  0.")
    assert "expect: a share of 0.5 ± 0.005" in err
    assert (tmp_path / "run" / "figures" / "share.png").exists()


def test_the_map_names_every_room():
    (tree,) = re.findall(r"    jaxnn/ .*?(?=\n\n)", README, re.DOTALL)
    named = set(re.findall(r"(\w+)\.py", tree))
    assert named == {path.stem for path in (ROOT / "jaxnn").rglob("*.py")} - {"__init__"}


def test_every_public_name_is_listed():
    listed = set(re.findall(r"`(\w+)`", README))
    for path in [*(ROOT / "jaxnn").rglob("*.py"), ROOT / "experiments" / "__init__.py"]:
        public = re.findall(r"^(?:def |class |(?=\w+ = ))([A-Za-z]\w*)", path.read_text(), re.MULTILINE)
        assert set(public) - {"log"} <= listed, path


def test_the_gallery_shows_experiments_that_are_there_in_pictures_that_are_small():
    page = (ROOT / "docs" / "gallery.md").read_text()
    shown = re.findall(r"^### (\w+)$", page, re.MULTILINE)
    assert set(shown) <= {path.stem for path in (ROOT / "experiments").glob("[!_]*.py")}
    pictures = re.findall(r"\]\((gallery/.*?)\)", page)
    assert {f"gallery/{path.name}" for path in (ROOT / "docs" / "gallery").iterdir()} == set(pictures)
    assert sum((ROOT / "docs" / picture).stat().st_size for picture in pictures) < 3_000_000
    assert set(re.findall(r"docs/gallery/[\w.]+", README)) <= {f"docs/{picture}" for picture in pictures}
