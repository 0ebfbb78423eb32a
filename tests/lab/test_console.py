import logging
import re

import pytest

from jaxnn.lab import console


@pytest.fixture
def terminal(monkeypatch):
    """Standard error is taken for a terminal."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    console.stderr.cache_clear()
    yield
    console.stderr.cache_clear()


def screen(written):
    """What a terminal shows in the end, by its lines: it knows \\r, \\n, a line up, a line cleared."""
    lines, row, column = [""], 0, 0
    for code in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", written):
        if code == "\r":
            column = 0
        elif code == "\n":
            row, column = row + 1, 0
            lines += [""] * (row - len(lines) + 1)
        elif code == "\x1b[1A":
            row -= 1
        elif code == "\x1b[2K":
            lines[row] = ""
        elif not code.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + code + lines[row][column + len(code) :]
            column += len(code)
    return [line.rstrip() for line in lines if line.strip()]


def test_messages_stand_above_the_bar(terminal, capsys):
    console.show_log(console.stderr())
    with console.progress(console.stderr(), 1000, unit="steps", done=100) as report:
        logging.getLogger("jaxnn.lab").info("a message with [brackets] and :smile:")
        report(400, {"step": 400})
        console.stderr().print("another")
        report(1000, {"step": 1000, "train_loss": 0.25})
    first, second, bar = screen(capsys.readouterr().err)
    assert (first, second) == ("a message with [brackets] and :smile:", "another")
    assert re.search(r"100%.* steps/s  step 1,000  train loss 0.25$", bar)


def test_without_a_terminal_each_report_is_a_line(capsys):
    with console.progress(console.stderr(), 1000, unit="steps", done=100) as report:
        report(400, {"step": 400, "train_loss": 0.123456})
        report(1000, {"step": 1000})
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r" 40%  [\d,.]+ steps/s  step 400  train loss 0.1235", lines[0])
    assert re.fullmatch(r"100%  [\d,.]+ steps/s  step 1,000", lines[1])
