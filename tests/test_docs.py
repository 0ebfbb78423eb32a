"""The site builds without a dead link, and its page of the API has every public name as the sources say it."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
API = (ROOT / "docs" / "api.md").read_text()


def build(source, target):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-E", "--keep-going", source, target]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_site_builds(tmp_path):
    done = build(ROOT / "docs", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} <= {path.name for path in tmp_path.iterdir()}
    page = (tmp_path / "3-gradient-descent.html").read_text()
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in page
    assert not re.findall(r'(?:src|href)="(https?:[^"]*\.(?:js|css))', page)  # formulas too are set without a network


@pytest.mark.parametrize("link", ["gone.md", "#gone", "index.md#gone"])
def test_a_dead_link_fails(tmp_path, link):
    (tmp_path / "conf.py").write_bytes((ROOT / "docs" / "conf.py").read_bytes())
    (tmp_path / "index.md").write_text(f"# Title\n\n[dead]({link})\n")
    done = build(tmp_path, tmp_path / "_build")
    assert (done.returncode, "gone" in done.stderr) == (1, True)


def test_the_api_is_what_signatures_and_docstrings_say():
    api = runpy.run_path(str(ROOT / "docs" / "api.py"))
    assert api["make_page"]() == API, "make docs writes docs/api.md anew"


def test_the_api_has_every_public_name():
    headings = re.findall(r"^### `(\S+)`$", API, re.MULTILINE)
    assert len(headings) == len({heading.lower() for heading in headings})  # else links would be ambiguous
    for path in [*(ROOT / "jaxnn").rglob("*.py"), ROOT / "experiments" / "__init__.py"]:
        room = ".".join(path.relative_to(ROOT).with_suffix("").parts).removeprefix("jaxnn.").removesuffix(".__init__")
        public = re.findall(r"^(?:def |class |(?=\w+(?:: \w+)? = ))([A-Za-z]\w*)", path.read_text(), re.MULTILINE)
        assert {f"{room}.{name}" for name in {*public} - {"log"}} <= {*headings}


def test_a_name_that_a_room_lacks_is_refused():
    with_links = runpy.run_path(str(ROOT / "docs" / "api.py"))["with_links"]
    known = {"losses.entropy"}
    assert with_links("`entropy`, `losses.entropy`", "losses", known).count("](#lossesentropy)") == 2
    with pytest.raises(SystemExit, match=r"losses\.gone"):
        with_links("`losses.gone`", "losses", known)


def test_links_in_readme_lead_to_files():
    readme = (ROOT / "README.md").read_text()
    assert not [path for path in re.findall(r"\]\((?!http)([^)#]+)", readme) if not (ROOT / path).exists()]
