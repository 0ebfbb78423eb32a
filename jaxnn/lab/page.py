"""The page to play with: HTML, styles, scripts and a net's numbers in one file that needs nothing else.

Its parts are the files of the folder `page`, beside this one, and can be read there.
"""

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import ArrayLike

from jaxnn.lab.files import to_json

_FOLDER = Path(__file__).with_name("page")


def pack_float16(array: ArrayLike) -> dict[str, Any]:
    """An array as the page reads it: its shape, and its numbers as float16, little-endian, in base64.

    Raises ValueError where a number is not finite, or becomes infinite by being rounded.
    """
    with np.errstate(over="ignore"):
        rounded = np.asarray(array).astype("<f2")
    if not np.isfinite(rounded).all():
        raise ValueError(f"pack_float16: the largest float16 is 65504, but the array has {np.abs(array).max()}")
    return {"shape": list(rounded.shape), "float16": base64.b64encode(rounded.tobytes()).decode()}


def make_page(data: dict[str, Any]) -> str:
    """The whole page, with `data`, as JSON, for its scripts."""
    html = _read("index.html").replace(
        '<link rel="stylesheet" href="style.css">', f"<style>\n{_read('style.css')}</style>"
    )
    html = re.sub(r'<script src="(\w+\.js)"></script>', lambda found: f"<script>\n{_read(found[1])}</script>", html)
    numbers = to_json(data).replace("<", "\\u003c")  # so that no name in it ends the script
    start = '<script id="net" type="application/json">'
    return html.replace(start, start + numbers)


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
