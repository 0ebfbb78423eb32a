import io

import numpy as np
import PIL.Image
import pytest
from matplotlib.figure import Figure

from jaxnn.lab import gif


def counting(number):
    """One figure, drawn on again and again."""
    figure = Figure(figsize=(1, 2))
    text = figure.text(0.5, 0.5, "", color="red")
    for frame in range(number):
        text.set_text(str(frame))
        yield figure


def noise(number, size):
    for frame in range(number):
        figure = Figure(figsize=(size, size))
        figure.figimage(np.random.default_rng(frame).uniform(size=(100 * size, 100 * size)), cmap="gray")
        yield figure


def test_a_film_shows_each_frame_and_rests_at_its_end():
    with PIL.Image.open(io.BytesIO(gif.encode(counting(4)))) as film:
        assert (film.n_frames, film.size, film.info["loop"]) == (4, (100, 200), 0)
        pictures, seconds = [], []
        for frame in range(4):
            film.seek(frame)
            pictures.append(np.asarray(film.convert("RGB"), int))
            seconds.append(film.info["duration"] / 1000)
    assert seconds == [1, 0.1, 0.1, 4]
    assert (pictures[2][0, 0] == 255).all()
    for frame, figure in enumerate(counting(4)):
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=100)
        np.testing.assert_allclose(pictures[frame], np.asarray(PIL.Image.open(drawn).convert("RGB")), atol=12)


def test_a_film_of_one_frame():
    with PIL.Image.open(io.BytesIO(gif.encode(counting(1)))) as film:
        assert film.size == (100, 200)


def test_what_stands_still_does_not_flicker():
    def frames():
        for frame in range(6):
            figure = Figure(figsize=(2, 1))
            still = np.tile(np.linspace(0, 1, 100), (100, 1))
            figure.figimage(still, cmap="viridis", vmin=0, vmax=1)
            figure.figimage(still, xo=100, cmap="coolwarm", vmin=0, vmax=1 + frame)
            yield figure

    with PIL.Image.open(io.BytesIO(gif.encode(frames()))) as film:
        stills = []
        for frame in range(film.n_frames):
            film.seek(frame)
            stills.append(np.asarray(film.convert("RGB"))[:, :100])
    assert film.n_frames == 6
    assert all((still == stills[0]).all() for still in stills)


def test_a_film_of_many_colours_gets_fewer_of_them():
    content = gif.encode(noise(4, 6))
    assert 500_000 < len(content) <= gif.MAX_BYTES


def test_a_film_without_room_is_refused():
    with pytest.raises(ValueError, match=r"gif.encode: the film has .* MB: give fewer or smaller frames"):
        gif.encode(noise(9, 6))
