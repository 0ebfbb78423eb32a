"""Convolution: what it is, what it does to pictures, and what a convolution layer computes instead.

The deck (page 19) defines (f * g)(t) = ∫ f(τ) g(t - τ) dτ and its discrete sum, which for images runs over two
indices. A convolution layer does not flip its kernel: it computes the correlation.

Run:    make experiment NAME=convolution

Expect: equal to SciPy's to 1e-12; commutative, associative, and the identity where the kernel is a single 1, to 1e-12;
        two Gaussians give a Gaussian, to 1e-12

Time:   9 s
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal
from jax.scipy.signal import convolve2d, correlate2d
from jax.scipy.stats import norm
from pydantic.dataclasses import dataclass

from jaxnn import ops
from jaxnn.lab import datasets, diagrams, plots
from jaxnn.lab.config import Count, DataDir, Seed
from jaxnn.lab.run import Run
from jaxnn.lab.start import start

MODES = ("full", "same", "valid")
FILTERS = {
    "blur": np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256,
    "sharpen": np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
    "edges": np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
    "upright edges": np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]]),
    "level edges": np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]]),
}
LETTER = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]])  # an F: no flip or turn leaves it as it is


@dataclass(frozen=True)
class Config:
    """What is convolved."""

    num_random: Count = 10  # random images and kernels whose convolutions are compared with SciPy's
    data_dir: DataDir = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: Seed = 0  # of the random images and kernels


def convolve_functions(run: Run) -> dict:
    """The continuous convolution, as a sum over a fine grid; two Gaussians and two boxes have closed forms."""
    t, step = jnp.linspace(-8, 8, 3201, retstep=True)
    box = (jnp.abs(t) < 0.5).astype(float)
    decay = jnp.where(t > 0, jnp.exp(-2 * t), 0)
    pairs = {
        "two boxes: a triangle": (box, box),
        "a box, smeared by a decay": (box, decay),
        "two Gaussians: a wider one": (norm.pdf(t, scale=0.6), norm.pdf(t, scale=0.8)),
    }
    results = [step * jnp.convolve(f, g, mode="same") for f, g in pairs.values()]
    shown = jnp.abs(t) <= 3
    panels = {
        title: (f[shown], g[shown], result[shown])
        for (title, (f, g)), result in zip(pairs.items(), results, strict=True)
    }
    run.save_figure("functions", diagrams.sliding(t[shown], panels, places=(-0.75, 0.0, 0.75)))
    triangle, _, gaussian = results
    return {
        "triangle_error": jnp.abs(triangle - jnp.maximum(1 - jnp.abs(t), 0)).max(),
        "gaussian_error": jnp.abs(gaussian - norm.pdf(t)).max(),
    }


def compare_with_scipy(config: Config, run: Run) -> dict:
    """Random images and kernels of many shapes, in each mode; a convolution layer computes the correlation."""
    rng = np.random.default_rng(config.seed)
    pairs = {"convolution": [], "correlation": [], "layer": []}  # ours and SciPy's
    for _ in range(config.num_random):
        image = jnp.asarray(rng.normal(size=rng.integers(8, 30, size=2)))
        kernel = jnp.asarray(rng.normal(size=rng.integers(1, 8, size=2)))
        for mode in MODES:
            convolved = scipy.signal.convolve2d(image, kernel, mode)
            correlated = scipy.signal.correlate2d(image, kernel, mode)
            pairs["convolution"].append((convolve2d(image, kernel, mode), convolved))
            pairs["correlation"].append((correlate2d(image, kernel, mode), correlated))
        layer = ops.conv2d(image[None, :, :, None], kernel[:, :, None, None], padding="VALID")[0, :, :, 0]
        pairs["layer"].append((layer, scipy.signal.correlate2d(image, kernel, "valid")))
    largest = {
        f"{name}_difference": max(np.abs(ours - expected).max() for ours, expected in found)
        for name, found in pairs.items()
    }
    run.log(**largest)
    return largest


def check_laws(config: Config) -> dict:
    """f * g = g * f, (f * g) * h = f * (g * h), δ * f = f; a correlation convolves with the kernel turned by 180°."""
    f, g, h = (jax.random.normal(key, (9, 7)) for key in jax.random.split(jax.random.key(config.seed), 3))
    delta = jnp.zeros((3, 3)).at[1, 1].set(1)
    pairs = {
        "commutation": (convolve2d(f, g), convolve2d(g, f)),
        "association": (convolve2d(convolve2d(f, g), h), convolve2d(f, convolve2d(g, h))),
        "identity": (convolve2d(f, delta, mode="same"), f),
        "turned_kernel": (correlate2d(f, g), convolve2d(f, g[::-1, ::-1])),
    }
    errors = {f"{law}_error": jnp.abs(left - right).max() for law, (left, right) in pairs.items()}
    return errors | {"correlation_asymmetry": jnp.abs(correlate2d(f, g) - correlate2d(g, f)).max()}


def draw_letter(run: Run):
    """At each dot the convolution draws the kernel, the correlation the kernel turned by 180°."""
    dots = jnp.zeros((12, 12)).at[3, 3].set(1).at[8, 8].set(1)
    letter = jnp.asarray(LETTER, float)
    results = {"convolution": convolve2d(dots, letter), "correlation": correlate2d(dots, letter)}
    title = "A convolution draws its kernel at each dot; a correlation draws the kernel turned by 180°"
    run.save_figure("convolution_and_correlation", diagrams.modes(dots, letter, results, title=title))


def draw_filters(config: Config, run: Run):
    """What a few kernels make of three digits."""
    train, _, _ = datasets.mnist(config.data_dir)
    run.record(data_sha256=datasets.SHA256["mnist"])
    kernels = [jnp.asarray(kernel, float) for kernel in FILTERS.values()]
    images = ["kernel", *kernels]
    for digit in jnp.asarray(train.inputs[:3, :, :, 0] / 255):
        images += [digit, *(convolve2d(digit, kernel, mode="same") for kernel in kernels)]
    num_columns = 1 + len(FILTERS)
    signed = [index % num_columns > 0 for index in range(len(images))]
    title = "Digits, convolved with the kernel above them: red is positive, blue negative, white 0"
    figure = plots.image_grid(images, ["", *FILTERS], num_columns=num_columns, heading=title, signed=signed, size=1.4)
    run.save_figure("filters", figure)


def main(config: Config, run: Run) -> dict:
    """Functions, random images against SciPy, the laws of convolution; then pictures of an F and of digits."""
    summary = convolve_functions(run) | compare_with_scipy(config, run) | check_laws(config)
    draw_letter(run)
    draw_filters(config, run)
    return summary


if __name__ == "__main__":
    start(Config, main, quick=Config(num_random=3), x64=True)
