"""A page to play with: draw a digit that a trained net reads, turn a neuron's weights, pull a learning rate.

The deck shows pictures of neurons (pages 3-8), of a descent (pages 11-12), of digits (page 18) and of a convolutional
net (page 19). Here they answer to a hand. The page is one HTML file, whole in itself: it opens from disk in any
browser, loads nothing and sends nothing. The net in it is that of a run of mnist_cnn, its weights rounded to float16.

Run:    make experiment NAME=play

Expect: a page of 674 kB; 99.52 % of 5,000 validation images read right, in float16 as in float32, with logits that
        differ by up to 0.0029 (1 net, seed 0)

Time:   8 s
"""

import jax
import jax.numpy as jnp
import numpy as np
from pydantic.dataclasses import dataclass

import experiments
from jaxnn import layers, metrics, ops
from jaxnn.lab import datasets, diagrams, page
from jaxnn.lab.config import BadUsageError, DataDir, Seed, UserPath
from jaxnn.lab.files import write_whole
from jaxnn.lab.run import Run
from jaxnn.lab.start import start


@dataclass(frozen=True)
class Config:
    """The net of the page, and where the images are on which it is measured."""

    run: UserPath | None = None  # folder of a run of mnist_cnn; None is the newest finished one on mnist in runs/
    data_dir: DataDir = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: Seed | None = None  # of the net; None is the first of the run


def fold(params, state) -> list[dict]:
    """The layers of a CNN, each as kernel, scale and shift of every channel: all that is left of batch normalisation.

    The last layer, and all of a net without it, have the scale 1 and their bias as shift.
    """
    names = [*sorted(name for name in params if name.startswith("Conv_")), "Dense_0", "Dense_1"]
    folded = []
    for number, name in enumerate(names):
        kernel, norm = params[name]["kernel"], f"BatchNorm_{number}"
        scale, shift = jnp.ones(kernel.shape[-1]), params[name].get("bias")
        if norm in params:
            zero_and_one = jnp.stack([jnp.zeros_like(scale), scale])
            running = state["batch_stats"][norm]
            shift, at_one = layers.batch_norm(params[norm], running, zero_and_one, training=False)[0]
            scale = at_one - shift
        folded.append({"kernel": kernel, "scale": scale, "shift": shift})
    return folded


def round_to_float16(folded):
    """The numbers that the page has, as float32."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float16).astype(jnp.float32), folded)


@jax.jit
def read(folded, images):
    """The logits [images, 10], computed as the page computes them; `images` uint8 [images, 28, 28, 1]."""

    def normalise(layer, x):
        return layer["scale"] * x + layer["shift"]

    *convolutions, hidden, last = folded
    x = jnp.asarray(images) / 255
    for layer in convolutions:
        x = ops.max_pool(ops.conv2d(x, layer["kernel"], padding="VALID"))
        x = jax.nn.relu(normalise(layer, x))
    x = jax.nn.relu(normalise(hidden, jax.lax.collapse(x, 1) @ hidden["kernel"]))
    return normalise(last, x @ last["kernel"])


def main(config: Config, run: Run) -> dict:
    """Writes the page, says where it is, and draws what its net misreads."""
    folder = config.run or experiments.newest("mnist_cnn", dataset="mnist")
    loaded = experiments.load_net(folder, "mnist_cnn", seed=config.seed)
    if loaded.config.dataset != "mnist":
        raise BadUsageError(f"--run: {folder} is a run on {loaded.config.dataset}, so its nets cannot read digits")
    net, (images, labels) = loaded.nets, datasets.mnist(config.data_dir).validation
    run.record(data_sha256=datasets.SHA256["mnist"])
    folded = fold(net.params, net.state)
    exact = jax.jit(lambda images: loaded.model.apply(net.params, net.state, images)[0])(images)
    logits = read(round_to_float16(folded), images)
    num_weights = sum(leaf.size for leaf in jax.tree.leaves(net.params))
    facts = {"accuracy": metrics.accuracy(logits, labels), "num_images": len(labels), "num_weights": num_weights}
    facts["label_smoothing"] = loaded.config.label_smoothing
    path = run.directory / "page.html"
    write_whole(path, page.make_page({"layers": jax.tree.map(page.pack_float16, folded), **facts}).encode())
    run.say(f"page: {path} (open it in a browser)")
    run.save_figure(
        "mistakes",
        diagrams.classified(
            images, labels, np.asarray(jax.nn.softmax(logits)), datasets.CLASS_NAMES["mnist"], worst=True
        ),
    )
    return {
        "run": str(folder),
        "net": loaded.config.seed if config.seed is None else config.seed,
        "accuracy_float32": metrics.accuracy(exact, labels),
        "accuracy_float16": facts["accuracy"],
        "largest_logit_difference": jnp.abs(logits - exact).max(),
        "num_images": len(labels),
        "num_weights": num_weights,
        "page_bytes": path.stat().st_size,
    }


if __name__ == "__main__":
    start(Config, main, quick=Config())
