"""README's script runs, only shorter, and its map names every room."""

import re
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


def test_the_map_names_every_room():
    (tree,) = re.findall(r"    jaxnn/ .*?(?=\n\n)", README, re.DOTALL)
    named = set(re.findall(r"(\w+)\.py", tree))
    assert named == {path.stem for path in (ROOT / "jaxnn").rglob("*.py")} - {"__init__"}


def test_the_gallery_shows_experiments_that_are_there_in_pictures_that_are_small():
    page = (ROOT / "docs" / "gallery.md").read_text()
    shown = re.findall(r"^### (\w+)$", page, re.MULTILINE)
    assert set(shown) <= {path.stem for path in (ROOT / "experiments").glob("[!_]*.py")}
    pictures = re.findall(r"\]\((gallery/.*?)\)", page)
    assert {f"gallery/{path.name}" for path in (ROOT / "docs" / "gallery").iterdir()} == set(pictures)
    assert sum((ROOT / "docs" / picture).stat().st_size for picture in pictures) < 3_000_000
    assert set(re.findall(r"docs/gallery/[\w.]+", README)) <= {f"docs/{picture}" for picture in pictures}
