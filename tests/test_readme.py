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
