"""The function-fitting net 2-6-1 as mentat writes it: layer by layer in NumPy, one update at a time."""

import numpy as np

from benchmarks.race import serve

UPDATES = 10_000


def train():
    """Its last loss."""
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-2, 2, (100, 2))
    targets = np.sum(inputs**2, axis=1, keepdims=True)
    weights = [rng.uniform(0, 1 / 200, shape) for shape in ((2, 6), (6, 1))]
    biases = [np.zeros(6), np.zeros(1)]
    steps = [np.zeros_like(array) for array in (*weights, *biases)]
    for update in range(1, UPDATES + 1):
        chosen = np.arange((update - 1) * 40, update * 40) % 100
        batch, wanted = inputs[chosen], targets[chosen]
        hidden = 1 / (1 + np.exp(-(batch @ weights[0] + biases[0])))
        outputs = hidden @ weights[1] + biases[1]
        delta = (outputs - wanted) / 40
        hidden_delta = delta @ weights[1].T * hidden * (1 - hidden)
        gradients = batch.T @ hidden_delta, hidden.T @ delta, hidden_delta.sum(axis=0), delta.sum(axis=0)
        rate = 0.6 / update**0.3
        for array, step, gradient in zip((*weights, *biases), steps, gradients, strict=True):
            step *= 0.7
            step -= rate * gradient
            array += step
    return {"loss": float(np.mean((outputs - wanted) ** 2) / 2)}


if __name__ == "__main__":
    serve(train, units=UPDATES)
