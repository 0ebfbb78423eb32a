"""Neural networks as pure functions over pytrees of parameters.

`import jaxnn` brings the pure rooms below. `jaxnn.cnn` (Flax) and `jaxnn.lab` (data sets, runs, pictures) are imported
by name where they are wanted.
"""

from jaxnn import (
    augment,
    backprop,
    data,
    deck,
    descent,
    layers,
    linear_models,
    losses,
    metrics,
    models,
    ops,
    training,
    types,
)

__version__ = "0.1.0"

__all__ = [
    "augment",
    "backprop",
    "data",
    "deck",
    "descent",
    "layers",
    "linear_models",
    "losses",
    "metrics",
    "models",
    "ops",
    "training",
    "types",
]
