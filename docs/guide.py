"""`make guide` runs every experiment, then writes the guided pages from docs/guide/*.md, a template for each section.

Templates have the words and formulas. Their numbers are those of the runs' `summary.json`, their pictures the runs'
figures. A run in runs/guide that is younger than the code is not made again, so that a build that was interrupted goes
on; `make guide ARGS=--render` makes none, and takes the runs as they are.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import jinja2
from PIL import Image

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "runs" / "guide"
TEMPLATES = ROOT / "docs" / "guide"
PICTURES = ROOT / "docs" / "pictures"
EXPERIMENTS = sorted({path.stem for path in (ROOT / "experiments").glob("[!_]*.py")} - {"export"})  # it draws nothing
NEED_A_NET = "predict", "feature_maps", "fine_tune", "play"  # of mnist_cnn
NOT_SHOWN = {"logistic_regression/confusion_breast_cancer.png", "tabular/confusion_breast_cancer.png"}
NOT_SHOWN |= {"tabular/confusion_iris.png", "play/mistakes.png"}  # more of a kind that is shown
MAX_WIDTH, MAX_PICTURE, MAX_BYTES = 900, 1_000_000, 9_000_000


def main():
    """Runs what has to be run; then writes the pages, if all their numbers and pictures are there."""
    parser = argparse.ArgumentParser(prog="make guide", description=__doc__)
    parser.add_argument("--render", action="store_true", help="only write the pages, from the runs as they are")
    if not parser.parse_args().render:
        for name in sorted(EXPERIMENTS, key=lambda name: name != "mnist_cnn"):
            run(name)
    try:
        numbers = {name: summary(name) for name in EXPERIMENTS} | {"environment": summary("mnist_cnn", "environment")}
    except FileNotFoundError as error:
        sys.exit(f"{error.filename} is missing: make guide runs what has not run")
    shown: set[Path] = set()
    try:
        pages = {path.name: render(path.name, numbers, shown) for path in sorted(TEMPLATES.glob("*.md"))}
    except jinja2.UndefinedError as error:
        sys.exit(f"a template asks for a number that no run has: {error}")
    check(shown)
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir()
    for source in shown:
        shrink(source, PICTURES / f"{source.parts[-3]}_{source.name}")
    for name, text in pages.items():
        (ROOT / "docs" / name).write_text(text)
    shutil.copyfile(RUNS / "play" / "page.html", ROOT / "docs" / "play.html")
    weigh([*PICTURES.iterdir()])


def run(name: str):
    """Runs an experiment as it is by default, unless that was done since the code was changed."""
    folder = RUNS / name
    done, sources = folder / "summary.json", [*(ROOT / "jaxnn").rglob("*.*"), ROOT / "experiments" / f"{name}.py"]
    if name in NEED_A_NET:
        sources += [RUNS / "mnist_cnn" / "summary.json", ROOT / "experiments" / "__init__.py"]
    sources = [path for path in sources if path.suffix != ".pyc"]
    if done.exists() and done.stat().st_mtime > max(path.stat().st_mtime for path in sources):
        return
    shutil.rmtree(folder, ignore_errors=True)
    arguments = ["--run", RUNS.relative_to(ROOT) / "mnist_cnn"] if name in NEED_A_NET else []
    command = [sys.executable, "-m", "experiments", name, "--out", folder.relative_to(ROOT), *arguments]
    if subprocess.run(command, cwd=ROOT).returncode:
        sys.exit(f"{name} has failed; make guide goes on from here")


class Number(float):
    """A number of a summary, with its standard deviation over the seeds where it has one."""

    sd: float | None = None


def summary(name: str, file: str = "summary") -> dict:
    """The results of a run by their names, or what else it has written."""
    found = json.loads((RUNS / name / f"{file}.json").read_text())
    numbers = {key: Number(value) if isinstance(value, int | float) else value for key, value in found.items()}
    for key, value in numbers.items():
        if isinstance(value, Number):
            value.sd = found.get(f"{key}_sd")
    return numbers


def number(value: float | None, digits: int = 0, scale: float = 1.0) -> str:
    """Such as 5,497 or 0.16 ± 0.01."""
    if value is None:
        return "never"
    sd = getattr(value, "sd", None)
    spread = "" if sd is None else f" ± {scale * sd:,.{digits}f}"
    return f"{round(scale * value, digits) + 0.0:,.{digits}f}{spread}".replace("-", "−")  # + 0.0: no minus before 0


def percent(value: float | None, digits: int = 1) -> str:
    """A share, such as 97.56 ± 0.11 %."""
    return number(value, digits, 100) + (" %" if value is not None else "")


def points(value: float | None, digits: int = 1) -> str:
    """A difference of shares in percentage points, such as +5.1 ± 0.6."""
    return ("+" if value and round(100 * value, digits) > 0 else "") + number(value, digits, 100)


def scientific(value: float) -> str:
    """One digit and the power of ten, such as 3 · 10⁻⁵."""
    if value == 0:
        return "0"
    digit, exponent = f"{value:.0e}".split("e")
    return f"{digit} · 10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def short(value: float) -> str:
    """Without needless zeros, such as 0.003."""
    return f"{value:.2g}"


def microseconds(value: float) -> str:
    """Such as 0.97 µs."""
    return f"{value * 1e6:.{max(0, 1 - math.floor(math.log10(value * 1e6)))}f} µs"


FILTERS = {f.__name__: f for f in (number, percent, points, scientific, short, microseconds)}


def render(name: str, numbers: dict, shown: set[Path], filters: dict = FILTERS) -> str:
    """A page from its template; the pictures for which it asks are added to `shown`."""

    def picture(experiment: str, file: str, caption: str) -> str:
        shown.add(RUNS / experiment / "figures" / file)
        return f"![{caption}](pictures/{experiment}_{file})"

    templates = jinja2.FileSystemLoader(TEMPLATES)
    options = {"undefined": jinja2.StrictUndefined, "trim_blocks": True, "keep_trailing_newline": True}
    environment = jinja2.Environment(loader=templates, **options)
    environment.filters |= filters
    return environment.get_template(name).render(numbers, picture=picture)


def check(shown: set[Path]):
    """Every picture that a page shows is there, and every one that a run has drawn is shown."""
    drawn = {path for name in EXPERIMENTS for path in (RUNS / name / "figures").glob("*.*")}
    unused = {path for path in drawn - shown if f"{path.parts[-3]}/{path.name}" not in NOT_SHOWN}
    for fault, paths in (("no run has drawn", shown - drawn), ("on no page, nor in NOT_SHOWN", unused)):
        if paths:
            sys.exit(f"{fault}: {', '.join(sorted(str(path.relative_to(RUNS)) for path in paths))}")


def shrink(source: Path, target: Path):
    """A copy of a picture with fewer pixels and colours; of a film, as it is."""
    if source.suffix == ".gif":
        shutil.copyfile(source, target)
        return
    picture = Image.open(source).convert("RGB")
    picture.thumbnail((MAX_WIDTH, 10 * MAX_WIDTH), Image.Resampling.LANCZOS)
    picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(target, optimize=True)


def weigh(pictures: list[Path]):
    """Fails where the pictures have become too large for a repository."""
    sizes = {path.name: path.stat().st_size for path in pictures}
    sys.stdout.write(f"{len(sizes)} pictures of {sum(sizes.values()) / 1e6:.2f} MB in docs/pictures\n")
    large = [name for name, size in sizes.items() if size > MAX_PICTURE]
    if large or sum(sizes.values()) > MAX_BYTES:
        sys.exit(f"at most {MAX_PICTURE / 1e6:g} MB each and {MAX_BYTES / 1e6:g} MB together: {', '.join(large)}")


if __name__ == "__main__":
    main()
