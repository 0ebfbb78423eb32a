"""`python -m experiments NAME [options]` runs one experiment, `python -m experiments --list` names them all."""

import ast
import contextlib
import difflib
import os
import re
import runpy
import signal
import sys
from pathlib import Path

signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))  # no traceback while the imports take their time

# Before jaxlib loads: 0.10 logs false alarms for every program that it takes from the cache (jax-ml/jax#38445).
if not any(Path("/dev").glob("nvidia[0-9]*")):  # on a GPU its messages are worth reading
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FOLDER = Path(__file__).parent


def main():
    """Hands over to the experiment that the command line names."""
    names = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in names:
        sys.argv[:2] = [name]
        runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
    elif name in ("--list", "--help", "-h"):
        width = max(map(len, names)) + 2
        sys.stdout.write("".join(f"{name:{width}}{time_of(name):12}{first_line(name)}\n" for name in names))
    else:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f": did you mean {near[0]}?" if near else f"; there are: {', '.join(names)}"
        sys.stderr.write(f"no experiment is called '{name}'{hint}\n" if name else f"name an experiment{hint}\n")
        sys.exit(2)


def first_line(name: str) -> str:
    """What an experiment shows: the first line of its docstring."""
    return docstring(name).partition("\n")[0]


def time_of(name: str) -> str:
    """How long an experiment takes on 2 CPU cores: the `Time:` in its docstring."""
    return "".join(re.findall(r"^Time:\s+(.*)", docstring(name), re.MULTILINE))


def docstring(name: str) -> str:
    """The docstring of an experiment, read without importing it."""
    return ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text())) or ""


def open_streams():
    """Standard streams that the caller has closed lead nowhere; else the run's own files would take their numbers."""
    for name, mode in {"stdin": "r", "stdout": "w", "stderr": "w"}.items():
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


if __name__ == "__main__":
    open_streams()
    try:
        try:
            main()
        finally:
            sys.stdout.flush()
    except OSError as error:  # nobody reads the output any more, as with `| head`, or the disk is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left of it
        if not isinstance(error, BrokenPipeError):
            with contextlib.suppress(OSError):
                sys.stderr.write(f"cannot write the output ({error.strerror})\n")
        sys.exit(1)
