"""The guided pages: their templates with numbers in them; their code runs, their pictures and commands exist."""

import ast
import importlib
import itertools
import re
import shlex
import sys
from pathlib import Path

import jinja2
import pytest

from jaxnn.lab import config

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in (DOCS / "guide").glob("*.md"))
TOKEN = r"(?<![\w.])(?:-?\d+\.?\d*(?:e[+-]?\d+)?|-?inf|nan|True|False)"
COMMANDS = sorted(
    {
        found
        for page in PAGES
        for found in re.findall(r"make experiment NAME=\w+(?: ARGS=\".*?\")?", (DOCS / page).read_text())
    }
)


@pytest.fixture
def guide():
    spec = importlib.util.spec_from_file_location("guide", DOCS / "guide.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Anything:
    """Stands for every number of a summary; in the page it is a null character."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, name):
        return self

    def __truediv__(self, other):
        return self

    def __str__(self):
        return "\0"


def render(guide, page):
    """The page with null characters for numbers, and its pictures."""
    shown, numbers = set(), {name: Anything() for name in [*guide.EXPERIMENTS, "environment"]}
    return guide.render(page, numbers, shown, {name: lambda *_: "\0" for name in guide.FILTERS}), shown


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_its_template_with_numbers(page, guide):
    expected, _ = render(guide, page)
    lines = (DOCS / page).read_text().splitlines(), expected.splitlines()
    for line, pattern in itertools.zip_longest(*lines, fillvalue=""):
        said = ".{1,30}?".join(re.escape(part) for part in pattern.split("\0"))
        assert re.fullmatch(said, line), "make guide writes the pages anew"


def test_pictures_are_those_of_the_pages_and_small(guide):
    shown = set().union(*(render(guide, page)[1] for page in PAGES))
    paths = [*(DOCS / "pictures").iterdir()]
    assert {path.name for path in paths} == {f"{source.parts[-3]}_{source.name}" for source in shown}
    assert max(path.stat().st_size for path in paths) < guide.MAX_PICTURE
    assert sum(path.stat().st_size for path in paths) < guide.MAX_BYTES
    used = {*re.findall(r"docs/pictures/([\w.]+)", (ROOT / "README.md").read_text())}
    assert used <= {path.name for path in paths}


def statements(block):
    """Each statement of a block, with the results that comments on its prints, or on lines of their own, state."""
    lines, nodes = block.splitlines(), ast.parse(block).body
    ends = [node.lineno - 1 for node in nodes[1:]] + [len(lines)]
    for node, end in zip(nodes, ends, strict=True):
        own = lines[node.lineno - 1 : end]
        comments = [found for line in own for found in re.findall(r"(?:^|^\s*print\(.*\)  )# (.*)", line)]
        yield "\n".join(own), [pair for said in comments for pair in re.findall(rf"(about|below)? ?({TOKEN})", said)]


def agrees(word, said, printed):
    if word == "below":
        return float(printed) < float(said)
    if said in ("True", "False"):
        return printed == said
    return float(printed) == pytest.approx(float(said), rel=0.05 if word else 1e-3, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_gives_what_it_says(page, capsys):
    namespace = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        for code, expected in statements(block):
            exec(compile(code, page, "exec"), namespace)
            printed = re.findall(TOKEN, capsys.readouterr().out)
            if expected:
                assert len(printed) == len(expected), code
                assert all(agrees(*said, number) for said, number in zip(expected, printed, strict=True)), (
                    code,
                    printed,
                )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_a_page_is_one_that_can_be_given(command, monkeypatch):
    name, arguments = re.fullmatch(r"make experiment NAME=(\w+)(?: ARGS=\"(.*)\")?", command).groups()
    settings = importlib.import_module(f"experiments.{name}").Config
    monkeypatch.setattr(sys, "argv", [name, *shlex.split(arguments or "")])
    config.parse_command_line(name, settings, settings(), resumable=False)


@pytest.mark.parametrize("place", ["README.md", "docs/index.md"])
def test_every_experiment_has_its_place(place):
    text = (ROOT / place).read_text()
    assert not [p.stem for p in (ROOT / "experiments").glob("[!_]*.py") if f"`{p.stem}`" not in text]


def test_every_item_has_formula_or_picture_and_a_question():
    for page in PAGES:
        for item in re.split(r"^##+ ", (DOCS / page).read_text(), flags=re.MULTILINE)[1:]:
            title, text = item.split("\n", 1)
            assert "```math" in text or "![" in text or "```python" in text, title
            assert "<details><summary><b>Question.</b>" in text, title


@pytest.mark.parametrize("text", ["{{ information.gone | number }}", "{{ gone.entropy_fair | percent }}"])
def test_an_unknown_number_is_refused(text, tmp_path, guide):
    guide.TEMPLATES = tmp_path
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(jinja2.UndefinedError, match="gone"):
        guide.render("page.md", {"information": {"entropy_fair": guide.Number(1)}}, set())


def test_missing_and_unused_pictures_are_refused(tmp_path, guide):
    guide.RUNS = tmp_path
    drawn = tmp_path / "information" / "figures" / "two_outcomes.png"
    drawn.parent.mkdir(parents=True)
    drawn.touch()
    guide.check({drawn})
    with pytest.raises(SystemExit, match=r"on no page.*two_outcomes"):
        guide.check(set())
    with pytest.raises(SystemExit, match=r"no run has drawn.*three_outcomes"):
        guide.check({drawn, drawn.with_name("three_outcomes.png")})


def test_numbers_are_written_with_their_spread(guide):
    share = guide.Number(0.97564)
    share.sd = 0.0011
    assert guide.percent(share, 2) == "97.56 ± 0.11 %"
    assert guide.points(guide.Number(0.0514)) == "+5.1"
    assert guide.points(guide.Number(-0.0003)) == "0.0"
    assert guide.number(guide.Number(5497)) == "5,497"
    assert guide.number(guide.Number(-6.7985), 3) == "−6.798"
    assert guide.number(None) == guide.percent(None) == guide.points(None) == "never"
    assert guide.scientific(2.69e-5) == "3 · 10⁻⁵"
    assert guide.short(0.003) == "0.003"
    assert [guide.microseconds(x) for x in (9.726e-7, 2.848e-5)] == ["0.97 µs", "28 µs"]
