"""Contestants are processes of their own that run a block of work whenever they are told to, in turns."""

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass
class Result:
    """What a contestant took: seconds per unit of work, one per round; what else it said; why it did not run."""

    seconds: list[float]
    said: dict
    problem: str = ""

    @property
    def median(self) -> float:
        """Seconds per unit."""
        return statistics.median(self.seconds)


def serve(block: Callable[[], dict | None], *, units: int):
    """The contestant's side: each line on standard input is answered by one more block of `units` units, timed."""
    said = block() or {}  # compiles and warms up
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        started = time.perf_counter()
        said = block() or said
        sys.stdout.write(json.dumps({"seconds": (time.perf_counter() - started) / units, "said": said}) + "\n")
        sys.stdout.flush()


def race(contestants: Sequence[str], *, rounds: int, before: Path | None = None) -> dict[str, Result]:
    """Runs the contestants in turns, one block at a time.

    contestants: each is "module name", as `python -m` takes it, or "module name number": of JAX's devices, else one for
        each core.
    before: a checkout of earlier code, which is that of contestants whose name begins with "before".
    """
    processes = {name: _start(name, before) for name in contestants}
    results = {name: Result([], {}) for name in contestants}
    for number in range(rounds):
        for name, process in processes.items():
            if not results[name].problem:
                _take_turn(process, results[name])
        sys.stderr.write(f"\r  round {number + 1} of {rounds}")
    sys.stderr.write("\n")
    for process in processes.values():
        with contextlib.suppress(BrokenPipeError):  # of one that has died
            process.stdin.close()
        process.wait()
    return results


def _start(contestant, before):
    pipe = subprocess.PIPE
    module, name, *number = contestant.split()
    num_devices = number[0] if number else str(len(os.sched_getaffinity(0)))
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_NUM_CPU_DEVICES": num_devices}
    command, folder = [sys.executable, "-m", module, name], ROOT
    if name.startswith("before"):  # whose jaxnn and experiments are those of the checkout
        command, folder = [sys.executable, ROOT / f"{module.replace('.', '/')}.py", name], before
        environment["PYTHONPATH"] = str(before)
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    )
    process.stdout.readline()  # ready: nobody's start disturbs a race
    return process


def _take_turn(process, result):
    try:
        process.stdin.write("go\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
    except (OSError, ValueError):
        process.wait()
        result.problem = f"did not run (exit status {process.returncode})"
        return
    result.seconds.append(answer["seconds"])
    result.said = answer["said"]


def ratio(slow: Result, fast: Result) -> tuple[float, float, float]:
    """How many times longer `slow` takes: the median over the rounds, the smallest and the largest."""
    ratios = [a / b for a, b in zip(slow.seconds, fast.seconds, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)
