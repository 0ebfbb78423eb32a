"""Convolution: what it is, what it does to pictures, and what a convolution layer computes instead.

The deck (page 19) defines (f * g)(t) = ∫ f(τ) g(t - τ) dτ and its discrete sum, which for pictures runs over two
indices. A convolution layer does not flip its kernel: it computes the correlation.

Run:    make experiment NAME=convolution

Expect: equal to SciPy's to 1e-12; commutes, associates and leaves all as it is with a single 1, to 1e-12; two Gaussians
        give a Gaussian, to 1e-12

Time:   9 s
"""

from dataclasses import dataclass
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import scipy.signal  # noqa: E402
from jax.scipy.signal import convolve2d, correlate2d  # noqa: E402
from jax.scipy.stats import norm  # noqa: E402

from jaxnn import ops  # noqa: E402
from jaxnn.lab import datasets, plots  # noqa: E402
from jaxnn.lab.config import require, require_seeds  # noqa: E402
from jaxnn.lab.run import Run, start  # noqa: E402

MODES = ("full", "same", "valid")
FILTERS = {
    "blur": np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256,
    "sharpen": np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
    "edges": np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
    "upright edges": np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]]),
    "level edges": np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]]),
}
LETTER = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]])  # an F, which tells flips and turns


@dataclass(frozen=True)
class Config:
    """What is convolved."""

    num_digits: int = 3  # digits of the picture of filters
    num_random: int = 10  # random pictures and kernels that are compared with SciPy's
    data_dir: Path | None = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: int = 0  # of the random pictures and kernels

    def __post_init__(self):
        """Refuses what cannot be."""
        require(self, "num_digits", 1 <= self.num_digits <= 20, "in 1 ... 20")
        require(self, "num_random", 1 <= self.num_random <= 1000, "in 1 ... 1000")
        require_seeds(self)


def main(config: Config, run: Run) -> dict:
    """Functions, then random pictures against SciPy, then digits."""
    summary = convolve_functions(run) | compare_with_scipy(config, run) | check_laws(config)
    draw_letter(run)
    draw_filters(config, run)
    return summary


def convolve_functions(run: Run) -> dict:
    """The continuous convolution, as a sum over a fine grid; two Gaussians and two boxes have closed forms."""
    t, step = jnp.linspace(-8, 8, 3201, retstep=True)

    def box(t):
        return (jnp.abs(t) < 0.5).astype(float)

    def decay(t):
        return jnp.where(t > 0, jnp.exp(-t), 0)

    pairs = {
        "two boxes: a triangle": (box, box),
        "a decay, smeared by a box": (decay, box),
        "two Gaussians: a wider one": (lambda t: norm.pdf(t, scale=0.6), lambda t: norm.pdf(t, scale=0.8)),
    }
    results = {title: step * jnp.convolve(f(t), g(t), mode="same") for title, (f, g) in pairs.items()}
    near = slice(1000, 2201)  # -3 ... 3
    panels = {
        title: {name: (t[near], y[near]) for name, y in (("f", f(t)), ("g", g(t)), ("f * g", results[title]))}
        for title, (f, g) in pairs.items()
    }
    run.save_figure("functions", plots.lines(panels, num_columns=3, xlabel="$t$"))
    triangle = jnp.maximum(1 - jnp.abs(t), 0)
    return {
        "triangle_error": jnp.abs(results["two boxes: a triangle"] - triangle).max().item(),
        "gaussian_error": jnp.abs(results["two Gaussians: a wider one"] - norm.pdf(t)).max().item(),
    }


def compare_with_scipy(config: Config, run: Run) -> dict:
    """Random pictures and kernels of many shapes, each way and mode; and the layer's convolution."""
    rng = np.random.default_rng(config.seed)
    differences = {"convolution": [], "correlation": [], "layer": []}
    for _ in range(config.num_random):
        shapes = rng.integers(8, 30, 2), rng.integers(1, 8, 2)
        image, kernel = (jnp.asarray(rng.normal(size=shape)) for shape in shapes)
        for mode in MODES:
            expected = scipy.signal.convolve2d(image, kernel, mode)
            differences["convolution"].append(np.abs(convolve2d(image, kernel, mode) - expected).max())
            expected = scipy.signal.correlate2d(image, kernel, mode)
            differences["correlation"].append(np.abs(correlate2d(image, kernel, mode) - expected).max())
        layer = ops.conv2d(image[None, :, :, None], kernel[:, :, None, None], padding="VALID")[0, :, :, 0]
        expected = scipy.signal.correlate2d(image, kernel, "valid")
        differences["layer"].append(np.abs(layer - expected).max())
    largest = {f"{name}_difference": np.max(values).item() for name, values in differences.items()}
    run.log(**largest)
    return largest


def check_laws(config: Config) -> dict:
    """f * g = g * f, (f * g) * h = f * (g * h), δ * f = f; the correlation is a convolution with a turned kernel."""
    f, g, h = (jax.random.normal(key, (9, 7)) for key in jax.random.split(jax.random.key(config.seed), 3))
    delta = jnp.zeros((3, 3)).at[1, 1].set(1)
    pairs = {
        "commutation": (convolve2d(f, g), convolve2d(g, f)),
        "association": (convolve2d(convolve2d(f, g), h), convolve2d(f, convolve2d(g, h))),
        "identity": (convolve2d(f, delta, mode="same"), f),
        "turned_kernel": (correlate2d(f, g), convolve2d(f, g[::-1, ::-1])),
    }
    errors = {f"{law}_error": jnp.abs(left - right).max().item() for law, (left, right) in pairs.items()}
    return errors | {"correlation_asymmetry": jnp.abs(correlate2d(f, g) - correlate2d(g, f)).max().item()}


def draw_letter(run: Run):
    """On each dot the convolution puts the kernel, and the correlation the kernel upside down and mirrored."""
    letter = jnp.asarray(LETTER, float)
    dots = jnp.zeros((12, 12)).at[3, 3].set(1).at[8, 8].set(1)
    pictures = {"picture": dots, "kernel": letter}
    pictures |= {f"convolution,\n{mode}": convolve2d(dots, letter, mode=mode) for mode in MODES}
    pictures |= {f"correlation,\n{mode}": correlate2d(dots, letter, mode=mode) for mode in MODES}
    titles = [f"{title}\n{image.shape[0]}x{image.shape[1]}" for title, image in pictures.items()]
    run.save_figure("convolution_and_correlation", plots.image_grid(list(pictures.values()), titles, num_columns=8))


def draw_filters(config: Config, run: Run):
    """What a few kernels make of digits."""
    train, _, _ = datasets.mnist(config.data_dir)
    run.record(data_sha256=datasets.SHA256["mnist"])
    images, titles = [], []
    for digit in train.inputs[: config.num_digits, :, :, 0] / 255:
        digit = jnp.asarray(digit)
        images += [digit, *(convolve2d(digit, jnp.asarray(kernel, float), mode="same") for kernel in FILTERS.values())]
        titles += ["digit", *FILTERS]
    figure = plots.image_grid(images, titles, num_columns=1 + len(FILTERS), signed=True)
    run.save_figure("filters", figure)


if __name__ == "__main__":
    start(Config, main, quick=Config(num_random=3))
