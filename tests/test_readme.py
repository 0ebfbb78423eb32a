"""README's research script runs as it stands there, only shorter, and its map names every room."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_research_script_trains_five_nets():
    (script,) = (block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "1650" in block)
    done = subprocess.run([sys.executable, "-c", script.replace("1650", "60")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    accuracies = [float(number) for number in done.stdout.strip("[]\n ").split()]
    assert len(set(accuracies)) == 5
    assert min(accuracies) > 0.8


def test_the_map_names_every_room():
    (tree,) = re.findall(r"    jaxnn/ .*?(?=\n\n)", README, re.DOTALL)
    named = set(re.findall(r"(\w+)\.py", tree))
    assert named == {path.stem for path in (ROOT / "jaxnn").rglob("*.py")} - {"__init__"}


def test_every_public_name_is_listed():
    listed = set(re.findall(r"`(\w+)`", README))
    for path in (ROOT / "jaxnn").rglob("*.py"):
        public = re.findall(r"^(?:def|class) ([A-Za-z]\w*)", path.read_text(), re.MULTILINE)
        assert set(public) <= listed, path


def test_the_gallery_shows_every_experiment_in_pictures_that_are_small():
    page = (ROOT / "docs" / "gallery.md").read_text()
    shown = re.findall(r"^### (\w+)$", page, re.MULTILINE)
    assert sorted(shown) == sorted(path.stem for path in (ROOT / "experiments").glob("[!_]*.py"))
    pictures = re.findall(r"\]\((gallery/.*?)\)", page)
    assert {f"gallery/{path.name}" for path in (ROOT / "docs" / "gallery").iterdir()} == set(pictures)
    assert sum((ROOT / "docs" / picture).stat().st_size for picture in pictures) < 3_000_000
    assert set(re.findall(r"docs/gallery/[\w.]+", README)) <= {f"docs/{picture}" for picture in pictures}
