"""Numbers that the deck and its library print, which several places draw, compute or are held against."""

import numpy as np

PRINTED_SURFACE = [
    {"weight": np.array([[0.98, 1.8, 0.67], [-1.3, 0.2, 1.5]]), "bias": np.array([-3.5, 3.4, -3.5])},
    {"weight": np.array([[-7.7], [7.4], [-7.6]]), "bias": np.zeros(1)},
]
"""Params of an `mlp` of three logistic units (page 8); where its text has 1.3, the deck prints and draws 1.5."""

FUNCTIONS = ("x1**2 + x2**2", "x1**2 - x2**2", "cos(1.2*x1) * cos(1.2*x2)")
"""What the networks of page 17 fit, on [-2, 2]²."""

TEX = ("$x_1^2 + x_2^2$", "$x_1^2 - x_2^2$", r"$\cos 1.2x_1 \, \cos 1.2x_2$")
"""`FUNCTIONS` as pictures show them."""

MENTAT_ERRORS = {
    FUNCTIONS[0]: {3: (0.246, 0.508), 6: (0.0030, 0.0004), 12: (0.0016, 0.0003)},
    FUNCTIONS[1]: {3: (0.697, 0.653), 6: (0.0016, 0.0004), 12: (0.0007, 0.0003)},
    FUNCTIONS[2]: {3: (0.107, 0.007), 6: (0.104, 0.017), 12: (0.103, 0.012)},
}
"""Training errors of the deck's library mentat by function and neurons: mean and standard deviation of six seeds."""
