"""`make bench`: every race, in turns and with medians, written to benchmarks/RESULTS.md."""

import importlib.metadata
import math
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

from benchmarks.race import ROOT, Result, race, ratio

ROUNDS = 7
STEP = {
    "jaxnn, 1 device": "benchmarks.in_jax step",
    "jaxnn, 2 devices": "benchmarks.in_jax step 2",
    "jaxnn, 1 device, micro-batches of 16": "benchmarks.in_jax step_micro16",
    "Flax's official way": "benchmarks.in_jax flax_step",
    "PyTorch eager": "benchmarks.in_torch step_eager",
    "PyTorch channels_last": "benchmarks.in_torch step_channels_last",
    "PyTorch torch.compile": "benchmarks.in_torch step_compiled",
    "PyTorch bfloat16 autocast": "benchmarks.in_torch step_bfloat16",
    "PyTorch bfloat16 autocast, torch.compile": "benchmarks.in_torch step_bfloat16_compiled",
}
STEP_GFLOP = 3 * 2 * 128 * (14 * 14 * 9 * 32 * 64 + 3136 * 256 + 256 * 10) / 1e9 + 2 * 2 * 128 * 28 * 28 * 9 * 32 / 1e9
EPOCH = {
    "jaxnn, 1 device": "benchmarks.in_jax epoch",
    "jaxnn, 2 devices": "benchmarks.in_jax epoch 2",
    "jaxnn, 2 devices, micro-batches of 64": "benchmarks.in_jax epoch_micro64 2",
    "PyTorch channels_last": "benchmarks.in_torch epoch",
    "PyTorch bfloat16 autocast": "benchmarks.in_torch epoch_bfloat16",
}
FITTING = {
    "NumPy, one net": "benchmarks.in_numpy",
    "jaxnn, one net": "benchmarks.in_jax fitting_1",
    "jaxnn, 512 nets in one program": "benchmarks.in_jax fitting_512",
    "jaxnn, 512 nets, 2 devices": "benchmarks.in_jax fitting_512 2",
    "jaxnn, 512 nets, 2 devices, shuffled": "benchmarks.in_jax fitting_512_shuffled 2",
}
MATMUL = {"JAX": "benchmarks.in_jax matmul", "PyTorch": "benchmarks.in_torch matmul"}
GROWTH = {
    "batch 128, 55,000 images, 1 net": "benchmarks.in_jax step",
    "batch 32": "benchmarks.in_jax step_batch32",
    "batch 512": "benchmarks.in_jax step_batch512",
    "batch 512, micro-batches of 64": "benchmarks.in_jax step_batch512_micro64",
    "5,500 images": "benchmarks.in_jax step_images5500",
    "2 nets": "benchmarks.in_jax step_nets2",
    "8 nets": "benchmarks.in_jax step_nets8",
    "2 devices": "benchmarks.in_jax step 2",
}
SHAPES = ("128x28x28x1 * 3x3x1x32", "128x14x14x32 * 3x3x32x64", "50x12x12x24 * 5x5x24x32")


def main():
    """Runs the races one after the other."""
    sections = [head(), steps(), epochs(), scans(), fitting(), growth()]
    (ROOT / "benchmarks" / "RESULTS.md").write_text("\n\n".join(sections) + "\n")


def head() -> str:
    """Machine and versions."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax", "torch", "numpy"))
    return (
        "# Races\n\n"
        f"`make bench` wrote this on {date.today()}: {cpu.partition(':')[2].strip()}, shared; Python "
        f"{platform.python_version()}, {versions}. Contestants take turns, block by block, each in a process of its "
        f"own; medians of {ROUNDS} rounds. Ratios are those of the same round: median (smallest - largest)."
    )


def enter(title: str, contestants: dict[str, str], rounds: int = ROUNDS) -> dict[str, Result]:
    """One race; the results by the names of the table."""
    sys.stderr.write(f"{title}\n")
    results = race(list(contestants.values()), rounds=rounds)
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


def best(results: dict[str, Result], start: str) -> str:
    """The fastest of those whose name begins so."""
    running = [name for name, result in results.items() if name.startswith(start) and not result.problem]
    return min(running, key=lambda name: results[name].median)


def steps() -> str:
    """A training step of a convolutional net."""
    results = enter("a training step", STEP | {f"matmul {name}": command for name, command in MATMUL.items()})
    ours = best(results, "jaxnn")
    rows = []
    for name in STEP:
        result = results[name]
        if result.problem:
            rows.append([name, result.problem, "", ""])
            continue
        rate = STEP_GFLOP / result.median
        rows.append([name, f"{1e3 * result.median:.1f} ms", f"{rate:.0f}", compare(results[ours], result)])
    rates = {name: 1e-9 / results[f"matmul {name}"].median for name in MATMUL}
    matmul = ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in rates.items())
    floor = f"at JAX's rate the step would take {1e3 * STEP_GFLOP / rates['JAX']:.1f} ms"
    return (
        "## 1. A training step\n\nC3-32 SAME, average pool, C3-64, average pool, D256, D10; batch 128; SGD with "
        f"momentum. A large float32 matrix product in the same race: {matmul}; {floor}.\n\n"
        + table(["", "per step", "GFLOP/s", f"times as long as {ours}"], rows)
    )


def epochs() -> str:
    """The published recipe that reaches 99 % in one epoch."""
    results = enter("one epoch", EPOCH, rounds=5)
    ours = best(results, "jaxnn")
    rows = [
        [name, result.problem, "", ""]
        if result.problem
        else [name, f"{result.median:.2f} s", f"{result.said['accuracy']:.2%}", compare(results[ours], result)]
        for name, result in results.items()
    ]
    return (
        "## 2. One epoch to 99 %\n\nC5-24, C3-32, D256, D10; Adam, one-cycle, batch 256; training alone, 5 rounds; the "
        "accuracy on the test set is that of one run.\n\n"
        + table(["", "epoch", "accuracy", f"times as long as {ours}"], rows)
    )


def scans() -> str:
    """A convolution inside a compiled loop and outside."""
    rows = []
    for number, shape in enumerate(SHAPES):
        variants = [f"{ours}_{place}" for ours in ("jaxnn", "lax") for place in ("inside", "outside")]
        results = enter(shape, {name: f"benchmarks.in_jax {name}_{number}" for name in variants})
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
    return "## 3. Convolution, forward and backward, inside `lax.scan` and outside\n\n" + table(columns, rows)


def fitting() -> str:
    """Small nets, alone and by the hundred."""
    results = enter("small nets", FITTING)
    reference = results["NumPy, one net"]
    rows = [
        [name, result.problem or f"{1e6 * result.median:.2f} µs", compare(result, reference)]
        for name, result in results.items()
    ]
    return (
        "## 4. The function-fitting net 2-6-1\n\nBatch 40, decaying steps with momentum; the batches in the order of "
        "the data, but where it says shuffled. Per update and net.\n\n"
        + table(["", "per update and net", "times as fast as NumPy"], rows)
    )


def growth() -> str:
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
    return (
        "## 5. Growth and starts\n\nThe net of race 1 on one device, with what each row names changed; 5 rounds.\n\n"
        + table(["", "step of a net", "times as long as the first", "first call, compiled", "peak memory"], rows)
        + "\n\n"
        + table(["", "whole process"], times)
    )


def start(command: list[str]) -> float:
    """Seconds of a whole process."""
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
