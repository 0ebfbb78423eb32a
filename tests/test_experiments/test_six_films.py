from PIL import Image

NAMES = ["bowl", "convolution", "functions", "gradients", "kernels", "spirals"]


def test_makes_six_films_of_less_than_a_megabyte(toy_run):
    toy = toy_run("films")
    films = sorted((toy.folder / "figures").iterdir())
    assert [path.stem for path in films] == NAMES
    assert all(path.stat().st_size < 1_000_000 for path in films)
    with Image.open(films[0]) as bowl:
        assert (bowl.n_frames, bowl.size[0]) == (24, 700)
    assert toy.summary["functions_error_12"] > 0
    assert 0 <= toy.summary["spirals_accuracy"] <= 1
