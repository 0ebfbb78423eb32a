"""Figures as a film that every page shows: a GIF of 1 MB at most."""

import io
from collections.abc import Iterable, Sequence

import numpy as np
import PIL.Image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.spatial import KDTree

MAX_BYTES = 1_000_000
"""What a page can ask of those who read it."""

_FIRST, _FRAME, _LAST = 1000, 100, 4000  # milliseconds: one sees how it begins, and how it ends before it begins anew


def encode(figures: Iterable[Figure]) -> bytes:
    """The figures, all of one size, as the frames of a GIF that plays for ever and pauses for 4 seconds at its end.

    Each figure is drawn before the next is asked for: all may be one, with other content. An inch has 100 pixels. The
    film has the most frequent colours, as many as go into `MAX_BYTES`: ValueError where there is no room even for 16.
    """
    frames = np.stack([_draw(figure) for figure in figures])
    colours, counts = np.unique(frames, return_counts=True)
    frames = np.searchsorted(colours, frames)
    durations = [_FIRST, *[_FRAME] * (len(frames) - 2), _LAST][-len(frames) :]
    for num_colours in (255, 128, 64, 32, 16):
        palette = colours[np.argsort(-counts)[:num_colours]]
        content = _encode(_nearest(colours, palette)[frames], palette, durations)
        if len(content) <= MAX_BYTES:
            return content
    raise ValueError(f"gif.encode: the film has {len(content) / 1e6:.1f} MB: give fewer or smaller frames")


def _draw(figure) -> np.ndarray:
    """The colours [height, width] of a figure's pixels, as numbers 0xRRGGBB."""
    figure.set_dpi(100)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # `savefig` would draw twice
    red, green, blue, _ = np.moveaxis(np.asarray(canvas.buffer_rgba(), np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def _split(colours: np.ndarray) -> np.ndarray:
    """Red, green and blue, [colours, 3]."""
    return np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=-1).astype(np.uint8)


def _nearest(colours: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """For each colour, which one of the palette is nearest. (Pillow's own search makes white a little grey.)"""
    return KDTree(_split(palette)).query(_split(colours))[1].astype(np.uint8)


def _encode(frames: np.ndarray, palette: np.ndarray, durations: Sequence[int]) -> bytes:
    """Frames [frames, height, width] of places in the palette: one for all, or what stands still would flicker."""
    first, *others = (PIL.Image.fromarray(frame) for frame in frames)
    for picture in (first, *others):
        picture.putpalette(_split(palette).tobytes())
    content = io.BytesIO()
    options = {"duration": list(durations), "loop": 0, "optimize": True}  # which leaves out what has not changed
    first.save(content, format="GIF", save_all=True, append_images=others, **options)
    return content.getvalue()
