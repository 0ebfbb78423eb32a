"""`make gallery` runs every experiment and collects pictures and numbers in docs/gallery.md.

A run in runs/gallery that is younger than the code is not made again, so that a gallery that was interrupted goes on.
"""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "runs" / "gallery"
PICTURES = ROOT / "docs" / "gallery"
LOOK_INTO_A_RUN = "predict", "feature_maps", "fine_tune"  # of mnist_cnn
MAX_WIDTH, MAX_HEIGHT, MAX_BYTES = 900, 1200, 3_000_000

SECTIONS = {  # of the deck: of each experiment its pictures, and what each shows
    "1 Linear models": {
        "linear_regression": {
            "plane": "The linear neuron y = 2x₁ + 8x₂: a plane that rises along its weight vector (page 4).",
            "descent": "Gradient descent and mini-batches reach the weights of the closed form (page 3).",
        },
        "ridge_and_lasso": {
            "penalties": "What ridge and lasso make of the weights of a real table as their penalty grows.",
        },
        "logistic_regression": {
            "boundary": "The logistic neuron's boundary is straight (pages 4 and 6).",
            "descent": "Newton's method needs a few steps where gradient descent needs hundreds.",
        },
        "tabular": {
            "grid": "Cross-validated losses of a grid of learning rates and penalties, all in one program.",
        },
    },
    "2 Neural networks": {
        "neuron_surfaces": {
            "logistic_neuron": "The logistic neuron σ(0.4x₁ + 1.6x₂) (page 6).",
            "three_units": "Three logistic units and the linear neuron that adds them up (pages 7 and 8).",
            "activations": "Activation functions and their derivatives, by jax.grad (page 9).",
            "net_2_3_3_2": "A random net 2-3-3-2; without activation functions it is a plane (pages 8 and 10).",
        },
    },
    "3 Gradient descent": {
        "gradient_descent": {
            "bowl": "The tangent plane and the gradient (page 11); the path of 5,497 steps (page 12).",
            "optimizers_rosenbrock": "Seven optimizers, each at its best learning rate, in Rosenbrock's valley.",
            "minima": "Many minima: where gradient descent ends depends on where it starts (page 13).",
        },
        "information": {
            "two_outcomes": "Entropy, divergence and cross-entropy of two outcomes (page 14).",
            "three_outcomes": "The same for three outcomes.",
        },
    },
    "4 Back-propagation": {
        "backpropagation": {
            "deltas": "The Δ of each neuron flow back through the net 2-3-3-2 (page 15).",
            "training": "The norm of the gradient, layer by layer, while the net learns.",
        },
    },
    "5 Function fitting": {
        "function_fitting": {
            "fits": "Three functions, and nets with 3, 6 and 12 neurons: median seeds, with their points (page 17).",
            "errors": "Training errors of all seeds, and those of the deck's own library.",
        },
        "mentat": {
            "fits": "The same as the deck's library mentat does it: small steps, and weights that begin nearly at 0.",
        },
    },
    "6 Handwritten digits": {
        "mnist_mlp": {
            "digits": "Sixty digits of MNIST (page 18).",
            "learning_curves": "The deck's net 784-300-100-10 with ReLU and tanh, and a modern recipe.",
            "weights": "The weights of twenty neurons of the first layer, with ReLU.",
        },
        "mnist_cnn": {
            "learning_curves": "A convolutional network learns (page 19).",
            "worst_mistakes": "The test images that it reads worst: label, what was read, the label's probability.",
            "confusion_matrix": "What it takes for what.",
        },
        "predict": {
            "predictions": "It reads pictures of one's own: the picture, what the net sees, what it says.",
        },
        "fine_tune": {
            "accuracies": "It learns clothes from few images: what it knows of digits against nothing.",
        },
    },
    "7 Deep learning": {
        "convolution": {
            "functions": "The convolution of functions (page 19).",
            "convolution_and_correlation": "The convolution puts its kernel on every dot; the correlation turns it.",
            "filters": "Kernels that blur, sharpen and find edges.",
        },
        "feature_maps": {
            "maps_1": "Maps of the first convolution.",
            "patches_2": "What ten filters of the second convolution respond to most.",
            "reasons": "Where a decision comes from: red is what speaks for it, by occlusion and by ink x gradient.",
            "embedding": "Pixels and the last hidden layer as points in the plane: the net has sorted the digits.",
        },
        "weight_sharing": {
            "errors": "Neurons connected to all pixels, to a few, by shared weights; a small dense layer (page 20).",
            "shifted": "Digits shifted to the right: how far each net's knowledge of one place carries to the next.",
            "matrices": "The first layers of three nets as matrices: in the last two most weights are 0.",
        },
        "vanishing_gradients": {
            "who_learns": "Who learns in 240 steps: depth, activation, initialisation, batch normalisation (page 20).",
            "gradients": "The largest weight gradient of each hidden layer, before the first step.",
        },
        "overfitting": {
            "learning_curves": "Losses on the training digits and on others (page 20).",
            "test_set": "What each regularizer is worth: a dot for each of ten nets, a bar at their median.",
        },
        "optimizers": {
            "learning_rates": "Every optimizer has a best learning rate, and a range that works (page 20).",
            "race": "Each at the rate with which it first reaches a loss of 0.2.",
        },
    },
}


def main():
    """Runs what has to be run, then writes the pictures and the page."""
    names = [name for experiments in SECTIONS.values() for name in experiments]
    for name in sorted(names, key=lambda name: name != "mnist_cnn"):  # whose nets others look into
        run(name)
    shutil.rmtree(PICTURES, ignore_errors=True)
    parts = [introduction()]
    for section, experiments in SECTIONS.items():
        parts.append(f"## {section}")
        parts += [describe(name, pictures) for name, pictures in experiments.items()]
    (ROOT / "docs" / "gallery.md").write_text("\n\n".join(parts) + "\n")
    size = sum(path.stat().st_size for path in PICTURES.rglob("*.png"))
    sys.stdout.write(f"docs/gallery.md, pictures of {size / 1e6:.2f} MB\n")
    if size > MAX_BYTES:
        sys.exit(f"the pictures must have less than {MAX_BYTES / 1e6:g} MB together: show fewer")


def run(name: str):
    """Runs an experiment as it is by default, unless that was done since the code was changed."""
    folder = RUNS / name
    summary, sources = folder / "summary.json", [*(ROOT / "jaxnn").rglob("*.py"), ROOT / "experiments" / f"{name}.py"]
    if name in LOOK_INTO_A_RUN:
        sources.append(RUNS / "mnist_cnn" / "summary.json")
    if summary.exists() and summary.stat().st_mtime > max(path.stat().st_mtime for path in sources):
        return
    shutil.rmtree(folder, ignore_errors=True)
    arguments = ["--run", RUNS.relative_to(ROOT) / "mnist_cnn"] if name in LOOK_INTO_A_RUN else []
    command = [sys.executable, "-m", "experiments", name, "--out", folder.relative_to(ROOT), *arguments]
    subprocess.run(command, cwd=ROOT, check=True)


def read(name: str, file: str) -> dict:
    """One of the files that a run has written."""
    return json.loads((RUNS / name / f"{file}.json").read_text())


def introduction() -> str:
    """What ran where."""
    environment = read("mnist_cnn", "environment")
    python, versions = environment["python"], environment["packages"]
    return (
        "# Gallery\n\n"
        "What `make gallery` drew and measured: every experiment as it is by default, in the deck's order. All numbers "
        f"are those of `summary.json`, from {environment['num_cores']} CPU cores, Python {python} and JAX "
        f"{versions['jax']}; ± is one standard deviation over the seeds. Those that end in `_seconds` depend on what "
        "else the machine did."
    )


def describe(name: str, pictures: dict[str, str]) -> str:
    """The part of the page about one experiment."""
    docstring = ast.get_docstring(ast.parse((ROOT / "experiments" / f"{name}.py").read_text()))
    arguments = ' ARGS="--run runs/gallery/mnist_cnn"' if name in LOOK_INTO_A_RUN else ""
    parts = [f"### {name}", docstring.partition("\n")[0], f"    make experiment NAME={name}{arguments}"]
    for picture, caption in pictures.items():
        shrink(RUNS / name / "figures" / f"{picture}.png", PICTURES / f"{name}_{picture}.png")
        parts.append(f"{caption}\n\n![{caption}](gallery/{name}_{picture}.png)")
    rows = "\n".join(f"| `{key}` | {value} |" for key, value in numbers(read(name, "summary")).items())
    parts.append(f"<details><summary>its numbers</summary>\n\n| | |\n|---|---|\n{rows}\n\n</details>")
    return "\n\n".join(parts)


def numbers(summary: dict) -> dict[str, str]:
    """Numbers with five digits, and where there is a standard deviation, ± it with two."""
    said = {key: f"{value:.5g}" if isinstance(value, float) else str(value) for key, value in summary.items()}
    for key in summary:
        sd = f"{key}_sd"
        if sd in said:
            del said[sd]
            said[key] += "" if summary[sd] is None else f" ± {summary[sd]:.2g}"
    return said


def shrink(source: Path, target: Path):
    """A copy of a picture with fewer pixels and colours."""
    picture = Image.open(source).convert("RGB")
    picture.thumbnail((MAX_WIDTH, MAX_HEIGHT), Image.Resampling.LANCZOS)
    target.parent.mkdir(exist_ok=True)
    picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(target, optimize=True)


if __name__ == "__main__":
    main()
