"""A trained network as files that others can use: its weights, and its computation for any batch size and device.

weights.safetensors has the weights under their names; model.bin the inference, weights inside, for CPU, CUDA and TPU,
as `jax.export` writes it. It is read back in a process that imports jax and NumPy alone, and must give the same logits:

    call = jax.export.deserialize(bytearray(open("model.bin", "rb").read())).call
    logits = call(images)  # uint8 [batch, 28, 28, 1], pixels 0 ... 255

Run:    make experiment NAME=export ARGS="--run runs/mnist_cnn/2026-11-23_04-26-22"

Expect: logits read back differ by 0 from those of the net (the same machine)

Time:   6 s
"""

import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax import export
from pydantic.dataclasses import dataclass

import experiments
from jaxnn.lab import datasets, diagrams
from jaxnn.lab.config import DataDir, Seed, UserPath
from jaxnn.lab.run import Run, RunFailedError
from jaxnn.lab.start import start

READ_BACK = """
import sys
import jax, numpy
model, images, logits = sys.argv[1:]
call = jax.export.deserialize(bytearray(open(model, "rb").read())).call
numpy.save(logits, call(numpy.load(images)))
"""


@dataclass(frozen=True)
class Config:
    """The net, and where the images are on which it is compared."""

    run: UserPath | None = None  # folder of a run of mnist_cnn; None is the newest finished one in runs/
    data_dir: DataDir = None  # data folder; None is $JAXNN_DATA_DIR, else ~/.cache/jaxnn
    seed: Seed | None = None  # of the net; None is the first of the run


def write(run: Run, loaded: experiments.Loaded):
    """Writes both files; the compiled inference that they hold."""
    model, net = loaded.model, loaded.nets
    leaves = jax.tree.leaves_with_path({"params": net.params, **net.state})
    weights = {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}
    (run.directory / "weights.safetensors").write_bytes(safetensors.numpy.save(weights))
    infer = jax.jit(lambda images: model.apply(net.params, net.state, images)[0])
    images = jax.ShapeDtypeStruct(export.symbolic_shape("batch, 28, 28, 1"), jnp.uint8)
    exported = export.export(infer, platforms=("cpu", "cuda", "tpu"))(images)
    (run.directory / "model.bin").write_bytes(exported.serialize())
    return infer


def read_back(run: Run, images) -> np.ndarray:
    """The logits that a process computes which knows nothing of this project."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/images.npy", images)
        paths = run.directory / "model.bin", f"{folder}/images.npy", f"{folder}/logits.npy"
        done = subprocess.run([sys.executable, "-c", READ_BACK, *paths], capture_output=True, text=True, check=False)
        if done.returncode:
            reason = done.stderr.strip().splitlines() or [f"its reader ended with {done.returncode}"]
            raise RunFailedError(f"model.bin cannot be read back: {reason[-1]}")
        return np.load(f"{folder}/logits.npy")


def main(config: Config, run: Run) -> dict:
    """Writes both files, reads them back, compares, and draws what was read."""
    folder = config.run or experiments.newest("mnist_cnn")
    loaded = experiments.load_net(folder, "mnist_cnn", seed=config.seed)
    data, class_names, _ = datasets.load_images(loaded.config.dataset, config.data_dir)
    images, labels = (leaf[:1000] for leaf in data.validation)
    infer = write(run, loaded)
    logits, arrays = read_back(run, images), safetensors.numpy.load_file(run.directory / "weights.safetensors")
    difference = np.abs(logits - infer(images)).max()
    if not difference <= 1e-4:
        raise RunFailedError(f"model.bin gives other logits than the net: they differ by up to {difference}")
    probs = np.asarray(jax.nn.softmax(logits))
    run.save_figure("read_back", diagrams.classified(images, labels, probs, class_names, worst=False))
    return {
        "run": str(folder),
        "net": loaded.config.seed if config.seed is None else config.seed,
        "num_images": len(images),
        "largest_difference": difference,
        "accuracy": np.mean(logits.argmax(axis=1) == labels),
        "num_weights": sum(array.size for array in arrays.values()),
        "weights_bytes": (run.directory / "weights.safetensors").stat().st_size,
        "model_bytes": (run.directory / "model.bin").stat().st_size,
    }


if __name__ == "__main__":
    start(Config, main, quick=Config())
