"""`make bench`: every race, in turns and with medians, written to benchmarks/RESULTS.md; `ARGS=step` runs one alone.

Each race ends with a line of its ratios and bars; the exit status is 1 where one of them is missed.
"""

import importlib.metadata
import math
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple

from benchmarks.race import ROOT, Result, race, ratio

RESULTS = ROOT / "benchmarks" / "RESULTS.md"
BEFORE = "bfc5114"  # the commit that the race "main" is against
ROUNDS = 7
STEP = {
    "by hand, in JAX": "benchmarks.by_hand step",
    "jaxnn, 8 images at a time": "benchmarks.in_jax step_groups",
    "jaxnn": "benchmarks.in_jax step",
    "jaxnn, 1 device": "benchmarks.in_jax step 1",
    "Flax's official way": "benchmarks.in_jax flax_step",
    "PyTorch eager": "benchmarks.in_torch step_eager",
    "PyTorch channels_last": "benchmarks.in_torch step_channels_last",
    "PyTorch torch.compile": "benchmarks.in_torch step_compiled",
    "PyTorch bfloat16 autocast": "benchmarks.in_torch step_bfloat16",
    "PyTorch bfloat16 autocast, torch.compile": "benchmarks.in_torch step_bfloat16_compiled",
}
STEP_GFLOP = 3 * 2 * 128 * (14 * 14 * 9 * 32 * 64 + 3136 * 256 + 256 * 10) / 1e9 + 2 * 2 * 128 * 28 * 28 * 9 * 32 / 1e9
MAIN = {
    "5 nets": "benchmarks.mnist_cnn after_5",
    "5 nets, before": "benchmarks.mnist_cnn before_5 1",
    "1 net": "benchmarks.mnist_cnn after_1",
    "1 net, before": "benchmarks.mnist_cnn before_1 1",
}
EPOCH = {
    "jaxnn, 16 images at a time": "benchmarks.in_jax epoch_groups",
    "jaxnn": "benchmarks.in_jax epoch",
    "jaxnn, 1 device": "benchmarks.in_jax epoch 1",
    "PyTorch channels_last": "benchmarks.in_torch epoch",
    "PyTorch bfloat16 autocast": "benchmarks.in_torch epoch_bfloat16",
}
FITTING = {
    "NumPy, one net": "benchmarks.in_numpy fitting",
    "jaxnn, one net": "benchmarks.in_jax fitting_1 1",
    "jaxnn, one net, its optimizer in `optax.flatten`": "benchmarks.in_jax fitting_1_flat 1",
    "jaxnn, 512 nets, 1 device": "benchmarks.in_jax fitting_512 1",
    "jaxnn, 512 nets": "benchmarks.in_jax fitting_512",
    "jaxnn, 512 nets, shuffled": "benchmarks.in_jax fitting_512_shuffled",
}
MATMUL = {"JAX": "benchmarks.in_jax matmul 1", "PyTorch": "benchmarks.in_torch matmul"}
GROWTH = {
    "batch 128, 55,000 images, 1 net": "benchmarks.in_jax step",
    "batch 32": "benchmarks.in_jax step_batch32",
    "batch 512": "benchmarks.in_jax step_batch512",
    "batch 512, 8 images at a time": "benchmarks.in_jax step_batch512_groups",
    "5,500 images": "benchmarks.in_jax step_images5500",
    "2 nets": "benchmarks.in_jax step_nets2",
    "8 nets": "benchmarks.in_jax step_nets8",
}
SHAPES = ("128x28x28x1 * 3x3x1x32", "128x14x14x32 * 3x3x32x64", "50x12x12x24 * 5x5x24x32")


class Bar(NamedTuple):
    """A figure, such as how many times as long as another one contestant takes, and what it must be."""

    name: str
    figure: float
    at_most: float = math.inf
    at_least: float = 0.0

    def __str__(self) -> str:
        bound = f"at most {self.at_most:g}" if self.at_most < math.inf else f"at least {self.at_least:g}"
        return f"{self.name} {self.figure:.2f} ({'' if self.is_kept else 'MISSED, '}{bound})"

    @property
    def is_kept(self) -> bool:
        """Whether the figure is within its bound."""
        return self.at_least <= self.figure <= self.at_most


def main():
    """Runs the races that are named on the command line, or all."""
    races: dict[str, Callable] = {
        "step": steps,
        "main": main_job,
        "epoch": epochs,
        "scan": scans,
        "fitting": fitting,
        "growth": growth,
    }
    names = sys.argv[1:] or list(races)
    unknown = sorted({*names} - {*races})
    if unknown:
        sys.stderr.write(f"bench: no race {unknown[0]}: there are {', '.join(races)}\n")
        sys.exit(2)
    sections, missed = read_sections(), False
    sections[""] = head()
    for name in names:
        text, bars = races[name]()
        line = f"{name}: {'; '.join(map(str, bars))}" if bars else ""
        title = text.partition("\n")[0]
        sections[title] = f"{text}\n\n{line}".strip()
        sys.stdout.write(f"{line or name}\n")
        missed |= not all(bar.is_kept for bar in bars)
        RESULTS.write_text("\n\n".join(sections[key] for key in sorted(sections)) + "\n")
    sys.exit(1 if missed else 0)


def read_sections() -> dict[str, str]:
    """The parts of RESULTS.md by their titles; a race that is run alone changes only its own."""
    _, *parts = re.split(r"(?m)^(?=## )", RESULTS.read_text())
    return {part.partition("\n")[0]: part.strip() for part in parts}


def head() -> str:
    """Machine and versions."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax", "torch", "numpy"))
    return (
        "# Races\n\n"
        f"`make bench` wrote this, the last time on {date.today()}: {cpu.partition(':')[2].strip()}, shared; Python "
        f"{platform.python_version()}, {versions}. Contestants take turns, block by block, each in a process of its "
        f"own; medians of {ROUNDS} rounds. Ratios are those of the same round: median (smallest - largest)."
    )


def enter(
    title: str, contestants: dict[str, str], rounds: int = ROUNDS, before: Path | None = None
) -> dict[str, Result]:
    """One race; the results by the names of the table.

    before: a checkout of earlier code, which those that begin with `before` run.
    """
    sys.stderr.write(f"{title}\n")
    results = race(list(contestants.values()), rounds=rounds, before=before)
    return {name: results[command] for name, command in contestants.items()}


def table(columns: list[str], rows: list[list[str]]) -> str:
    """In Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *rows])


def compare(result: Result, reference: Result) -> str:
    """How many times as fast as the reference; nothing where one of them did not run."""
    if result.problem or reference.problem:
        return ""
    median, low, high = ratio(reference, result)
    return f"{median:.2f} ({low:.2f} - {high:.2f})"


def times_as_long(results: dict[str, Result], slow: str, fast: str) -> float:
    """The median over the rounds."""
    return ratio(results[slow], results[fast])[0]


def fastest(results: dict[str, Result], names: list[str]) -> str:
    """The contestant with the smallest median."""
    return min((name for name in names if not results[name].problem), key=lambda name: results[name].median)


def steps() -> tuple[str, list[Bar]]:
    """A training step of a convolutional net."""
    results = enter("a training step", STEP | {f"matmul {name}": command for name, command in MATMUL.items()})
    by_hand, *others = STEP
    ours = fastest(results, [name for name in others if name.startswith("jaxnn")])
    theirs = fastest(results, [name for name in others if name.startswith("PyTorch") and "bfloat16" not in name])
    rows = []
    for name in STEP:
        result = results[name]
        if result.problem:
            rows.append([name, result.problem, "", ""])
            continue
        rate = STEP_GFLOP / result.median
        rows.append([name, f"{1e3 * result.median:.1f} ms", f"{rate:.0f}", compare(results[by_hand], result)])
    rates = {name: 1e-9 / results[f"matmul {name}"].median for name in MATMUL}
    matmul = ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in rates.items())
    floor = f"at JAX's rate the step would take {1e3 * STEP_GFLOP / rates['JAX']:.1f} ms"
    text = (
        "## 1. A training step\n\nC3-32 SAME, average pool, C3-64, average pool, D256, D10; batch 128; SGD with "
        f"momentum. A large float32 matrix product in the same race: {matmul}; {floor}.\n\n"
        + table(["", "per step", "GFLOP/s", "times as long as by hand"], rows)
    )
    return text, [
        Bar("jaxnn/by hand", times_as_long(results, ours, by_hand), at_most=1.05),
        Bar(f"{theirs}/jaxnn", times_as_long(results, theirs, ours), at_least=1.9),
    ]


def main_job() -> tuple[str, list[Bar]]:
    """The training of mnist_cnn, a chunk and its evaluation, against the code of an earlier commit."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", folder, BEFORE], cwd=ROOT, check=True)
        try:
            results = enter("mnist_cnn", MAIN, rounds=5, before=Path(folder))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", folder], cwd=ROOT, check=True)
    rows = [
        [
            name,
            result.problem or f"{1e3 * result.median:.2f} ms",
            compare(results[f"{name.partition(',')[0]}, before"], result),
        ]
        for name, result in results.items()
    ]
    text = (
        f"## 2. The main job\n\n`mnist_cnn`, 550 steps of batch 50 and their evaluation, now and at commit {BEFORE}; 5 "
        "rounds. Per step and net.\n\n" + table(["", "per step and net", "times as long as before"], rows)
    )
    bars = {"5 nets": 0.55, "1 net": 0.7}
    return text, [Bar(f"{n}/before", times_as_long(results, n, f"{n}, before"), at_most=b) for n, b in bars.items()]


def epochs() -> tuple[str, list[Bar]]:
    """The published recipe that reaches 99 % in one epoch."""
    results = enter("one epoch", EPOCH, rounds=5)
    ours = fastest(results, [name for name in EPOCH if name.startswith("jaxnn")])
    rows = [
        [name, result.problem, "", ""]
        if result.problem
        else [name, f"{result.median:.2f} s", f"{result.said['accuracy']:.2%}", compare(results[ours], result)]
        for name, result in results.items()
    ]
    text = (
        "## 3. One epoch to 99 %\n\nC5-24, C3-32, D256, D10; Adam, one-cycle, batch 256; training alone, 5 rounds; the "
        "accuracy on the test set is that of one run.\n\n"
        + table(["", "epoch", "accuracy", f"times as long as {ours}"], rows)
    )
    return text, [Bar("jaxnn/channels_last", times_as_long(results, ours, "PyTorch channels_last"), at_most=0.8)]


def scans() -> tuple[str, list[Bar]]:
    """A convolution inside a compiled loop and outside."""
    rows = []
    for number, shape in enumerate(SHAPES):
        variants = [f"{ours}_{place}" for ours in ("jaxnn", "lax") for place in ("inside", "outside")]
        results = enter(shape, {name: f"benchmarks.in_jax {name}_{number} 1" for name in variants})
        times = [f"{1e3 * results[name].median:.1f} ms" for name in variants]
        rows.append([shape, *times, compare(results["jaxnn_inside"], results["jaxnn_outside"])])
    columns = [
        "images * kernel",
        "jaxnn inside",
        "jaxnn outside",
        "lax inside",
        "lax outside",
        "jaxnn: outside / inside",
    ]
    title = "## 4. Convolution, forward and backward, inside `lax.scan` and outside, 1 device\n\n"
    return title + table(columns, rows), []


def fitting() -> tuple[str, list[Bar]]:
    """Small nets, alone and by the hundred."""
    results = enter("small nets", FITTING)
    reference = results["NumPy, one net"]
    rows = [
        [name, result.problem or f"{1e6 * result.median:.2f} µs", compare(result, reference)]
        for name, result in results.items()
    ]
    text = (
        "## 5. The function-fitting net 2-6-1\n\nBatch 40, decaying steps with momentum; the batches in the order of "
        "the data, but where it says shuffled. Per update and net.\n\n"
        + table(["", "per update and net", "times as fast as NumPy"], rows)
    )
    shuffled = times_as_long(results, "jaxnn, 512 nets, shuffled", "jaxnn, 512 nets")
    one_net = min(results[name].median for name in FITTING if name.startswith("jaxnn, one net"))
    return text, [
        Bar("shuffled/in order", shuffled, at_most=1.5),
        Bar("microseconds of one net", 1e6 * one_net, at_most=2.0),
    ]


def growth() -> tuple[str, list[Bar]]:
    """Batch size, images, nets, devices; what a start costs."""
    results = enter("growth", GROWTH, rounds=5)
    reference = next(iter(results.values()))
    rows = [
        [
            name,
            result.problem or f"{1e3 * result.median:.1f} ms",
            compare(reference, result),
            f"{result.said.get('first_seconds', math.nan):.1f} s",
            f"{result.said.get('peak_mib', math.nan):,.0f} MiB",
        ]
        for name, result in results.items()
    ]
    starts = {
        "`import jaxnn`": [sys.executable, "-c", "import jaxnn"],
        "`import jax` alone": [sys.executable, "-c", "import jax"],
        "`mnist_cnn --quick`, programs compiled before": [sys.executable, "-m", "experiments", "mnist_cnn", "--quick"],
    }
    times = [[name, f"{statistics.median(start(command) for _ in range(3)):.1f} s"] for name, command in starts.items()]
    text = (
        "## 6. Growth and starts\n\nThe net of race 1, with what each row names changed; 5 rounds.\n\n"
        + table(["", "step of a net", "times as long as the first", "first call, compiled", "peak memory"], rows)
        + "\n\n"
        + table(["", "whole process"], times)
    )
    first = next(iter(results))
    per_image = [times_as_long(results, f"batch {size}", first) * 128 / size for size in (32, 512)]
    return text, [Bar("an image in batches of 32, 128, 512, slowest/fastest", spread(per_image), at_most=1.15)]


def spread(ratios: list[float]) -> float:
    """Of times by which others take as long as the first, the largest to the smallest, the first's 1 among them."""
    return max(*ratios, 1.0) / min(*ratios, 1.0)


def start(command: list[str]) -> float:
    """Seconds of a whole process."""
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
