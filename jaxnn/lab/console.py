"""What a run says on the terminal: messages, progress, the summary."""

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import rich.console
import rich.progress

_AS_IT_IS: Any = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": True}  # each line, whatever it says


@functools.cache
def stderr() -> rich.console.Console:
    """Standard error, for all who write there: only so does a message find its place above a progress bar."""
    return rich.console.Console(stderr=True, **_AS_IT_IS)


class _Printer(logging.Handler):
    """Prints messages."""

    def __init__(self, console: rich.console.Console):
        super().__init__()
        self._console = console

    def emit(self, record):
        """Above a progress bar, where there is one."""
        self._console.print(record.getMessage())


def show_log(console: rich.console.Console):
    """What jaxnn's rooms have to say goes to the terminal."""
    logger = logging.getLogger("jaxnn")
    logger.handlers = [_Printer(console)]
    logger.setLevel(logging.INFO)
    logger.propagate = False  # TFDS brings a handler of its own to the root


@contextlib.contextmanager
def progress(
    console: rich.console.Console, total: int, *, unit: str, done: int = 0, label: str = "compiling"
) -> Iterator[Callable[[int, dict[str, Any]], None]]:
    """Yields `report(done, numbers)`: a bar where there is a terminal, a line per call where there is none.

    `done` out of `total` is counted in `unit`s, whose rate is shown; so many were done before.
    `label` is shown before the first report.
    """
    started, done_before = time.perf_counter(), done

    def describe(done, numbers):
        rate = (done - done_before) / (time.perf_counter() - started)
        speed = f"{rate:,.{0 if rate >= 10 else 1 if rate >= 1 else 2}f} {unit}/s"
        digits = {
            name: f"{number:,}" if isinstance(number, int) else f"{number:.4g}" for name, number in numbers.items()
        }
        return "  ".join([speed, *(f"{name.replace('_', ' ')} {number}" for name, number in digits.items())])

    if not console.is_terminal:
        yield lambda done, numbers: console.print(f"{done / total:4.0%}  {describe(done, numbers)}")
        return
    columns = (
        rich.progress.BarColumn(bar_width=12),
        rich.progress.TaskProgressColumn(),
        rich.progress.TimeRemainingColumn(elapsed_when_finished=True),
        rich.progress.TextColumn("{task.description}"),
    )
    with rich.progress.Progress(*columns, console=console) as bar:
        task = bar.add_task(label, total=total, completed=done_before)
        yield lambda done, numbers: bar.update(task, completed=done, description=describe(done, numbers))


def print_summary(summary: dict[str, Any]):
    """The results, on standard output, a line each."""
    console, width = rich.console.Console(**_AS_IT_IS), max(map(len, summary), default=0)
    for name, value in summary.items():
        console.print(f"{name:{width}}  {f'{value:.6g}' if isinstance(value, float) else value}")
