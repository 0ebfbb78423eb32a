"""Figures as a film that every page shows: a GIF of 1 MB at most."""

import io
from collections.abc import Iterable, Sequence

import numpy as np
import PIL.Image
from matplotlib.figure import Figure

MAX_BYTES = 1_000_000
"""What a page can ask of those who read it."""

_FIRST, _LAST = 1000, 4000  # milliseconds: one sees how it begins, and how it ends before it begins anew


def encode(figures: Iterable[Figure], *, frame_seconds: float = 0.1) -> bytes:
    """The figures, all of one size, as the frames of a GIF that plays for ever and pauses for 4 seconds at its end.

    Each figure is drawn before the next is asked for: all may be one, with other content. An inch has 100 pixels. The
    film has as many colours as go into `MAX_BYTES`: ValueError where there is no room even for 16.

    frame_seconds: how long each frame stays but the first and the last.
    """
    frames = [_draw(figure) for figure in figures]
    durations = [_FIRST, *[round(1000 * frame_seconds)] * (len(frames) - 2), _LAST][-len(frames) :]
    for num_colours in (255, 128, 64, 32, 16):
        content = _encode(frames, durations, num_colours)
        if len(content) <= MAX_BYTES:
            return content
    raise ValueError(f"gif.encode: the film has {len(content) / 1e6:.1f} MB: give fewer or smaller frames")


def _draw(figure) -> PIL.Image.Image:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100, pil_kwargs={"compress_level": 0})
    return PIL.Image.open(content).convert("RGB")


def _encode(frames: Sequence[PIL.Image.Image], durations: Sequence[int], num_colours: int) -> bytes:
    """All frames in the same colours, or what stands still would flicker."""
    some = np.vstack([np.asarray(frames[place]) for place in np.linspace(0, len(frames) - 1, 9).astype(int)])
    palette = PIL.Image.fromarray(some).quantize(num_colours, method=PIL.Image.Quantize.MAXCOVERAGE)
    first, *others = (frame.quantize(palette=palette, dither=PIL.Image.Dither.NONE) for frame in frames)
    content = io.BytesIO()
    options = {"duration": list(durations), "loop": 0, "optimize": True}  # which leaves out what has not changed
    first.save(content, format="GIF", save_all=True, append_images=others, **options)
    return content.getvalue()
