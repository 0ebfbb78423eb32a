import contextlib
import gzip
import json
import math
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxnn.lab import checkpoint, console, run
from jaxnn.lab.chunks import StoppedError
from jaxnn.lab.config import TrainingOptions
from jaxnn.lab.run import Run, RunFailedError

START = {"sum": np.float32(0)}


def train(this, name="nets", total=10, start=START, **settings):
    """Adds up the steps, in chunks; the steps at which chunks ended, and the sum."""
    chunks, ends = this.chunks(start, total, every=4, name=name, **settings), []
    for step, num_steps in chunks:
        chunks.state = {"sum": chunks.state["sum"] + np.float32(num_steps)}
        this.log(training=name, step=step, sum=chunks.state["sum"])
        ends.append(step)
    return ends, chunks.state["sum"].item()


@pytest.fixture(autouse=True)
def shown():
    """What jaxnn says goes to standard error, as in a process of its own."""
    console.show_log(console.stderr())


@pytest.fixture
def trained(tmp_path):
    """A folder with the checkpoints of a training, at steps 8 and 10."""
    this = Run(tmp_path, settings={"rate": 0.1, "sizes": (3, 4), "data_dir": Path("/data")})
    assert train(this) == ([4, 8, 10], 10)
    this.close()
    return tmp_path


def again(folder, **changes):
    return Run(folder, settings={"rate": 0.1, "sizes": (3, 4), "data_dir": None} | changes)


@pytest.mark.parametrize(
    ("total", "every", "expected"),
    [(10, 4, [(4, 4), (8, 4), (10, 2)]), (8, 4, [(4, 4), (8, 4)]), (3, 4, [(3, 3)]), (0, 4, [])],
)
def test_chunks_end_at_multiples_and_at_the_total(tmp_path, total, every, expected):
    assert list(Run(tmp_path).chunks(START, total, every=every)) == expected


def test_progress_counts_in_units_and_shows_means(tmp_path, capsys):
    this = Run(tmp_path)
    for step, _ in this.chunks(START, 10, every=4, unit="images", per_step=100):
        this.log_seeds(7, step=step, train_loss=np.array([0.5, 0.25, np.nan]), kind="a", nothing=np.full(3, np.nan))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["40%", "80%", "100%"]
    assert all("images/s" in line and line.endswith("train loss 0.375") for line in lines)
    assert "  step 8  " in lines[1]


def test_a_training_goes_on_behind_its_newest_checkpoint(trained):
    (trained / "checkpoints" / "nets-00000010.safetensors").unlink()
    this = again(trained)
    assert train(this) == ([10], 10)
    assert [row["step"] for row in this.read_log()] == [4, 8, 10]
    assert train(again(trained)) == ([], 10)


def test_of_each_training_the_two_newest_checkpoints_are_kept(trained):
    train(again(trained), name="others", total=6)
    names = [f"{name}.safetensors" for name in ("nets-00000008", "nets-00000010", "others-00000004", "others-00000006")]
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == names


def test_files_that_the_user_puts_beside_the_checkpoints_stay(trained):
    folder = trained / "checkpoints"
    (folder / "nets-00000099.safetensors").mkdir()
    for name in (".DS_Store", "-.safetensors", *(f"nets-{step}.safetensors" for step in ("1", "٠٠٠٠٠٠٠١", "best"))):
        (folder / name).write_text("mine")
    before = set(folder.iterdir())
    this = again(trained)
    this.check_settings()
    assert train(this, total=20) == ([12, 16, 20], 20)
    newest = {folder / f"nets-{step:08d}.safetensors" for step in (16, 20)}
    assert set(folder.iterdir()) == before - {folder / f"nets-{step:08d}.safetensors" for step in (8, 10)} | newest


def test_two_trainings_of_one_name_are_refused(tmp_path):
    this = Run(tmp_path)
    train(this)
    with pytest.raises(ValueError, match="one training of the run is called nets already"):
        train(this)


def test_the_seconds_of_training_go_on(trained):
    saved = checkpoint.load(trained / "checkpoints" / "nets-00000008.safetensors", START)[1]["train_seconds"]
    assert saved > 0
    (trained / "checkpoints" / "nets-00000010.safetensors").unlink()
    this = again(trained)
    train(this)
    after_first = this.train_seconds
    assert after_first > saved
    train(this, name="others")
    assert this.train_seconds > after_first


def damage(path):
    path.write_bytes(path.read_bytes()[:-1])


def lose_notes(path):
    checkpoint.save(path, START)


def change_structure(path):
    checkpoint.save(path, {"sum": np.float64(0)})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damage, "is no readable checkpoint"),
        (lose_notes, "was made with other settings: rate, sizes"),
        (change_structure, "holds another structure: it has ['sum float64[]'], expected was ['sum float32[]']"),
    ],
)
def test_checkpoints_that_cannot_be_gone_on_with_are_passed_over(trained, capsys, spoil, message):
    older, newer = sorted((trained / "checkpoints").iterdir())
    spoil(newer)
    assert train(again(trained)) == ([10], 10)
    said = capsys.readouterr().err
    assert str(newer) in said
    assert message in said
    spoil(older)
    spoil(newer)
    with pytest.raises(RunFailedError, match=f"none of the checkpoints of nets in {trained} can be resumed from"):
        train(again(trained))
    assert sorted((trained / "checkpoints").iterdir()) == [older, newer]
    assert len((trained / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_checkpoint_of_other_settings_is_refused(trained, capsys):
    with pytest.raises(RunFailedError):
        train(again(trained, rate=0.2, new=1))
    assert "nets-00000010.safetensors was made with other settings: new, rate" in capsys.readouterr().err


@pytest.mark.parametrize("cut", [lambda path: path.write_bytes(path.read_bytes()[:-1]), lambda path: path.unlink()])
def test_a_checkpoint_whose_log_is_lost_is_refused(trained, capsys, cut):
    (trained / "checkpoints" / "nets-00000008.safetensors").unlink()
    cut(trained / "metrics.jsonl")
    with pytest.raises(RunFailedError):
        train(again(trained))
    assert (
        "metrics.jsonl is damaged: its rows are not those that nets-00000010.safetensors came after"
        in capsys.readouterr().err
    )


def test_a_checkpoint_half_written_is_none(trained):
    newest = trained / "checkpoints" / "nets-00000010.safetensors"
    newest.rename(newest.with_name(f".{newest.name}.part"))
    assert train(again(trained)) == ([10], 10)
    assert not list(newest.parent.glob("*.part"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_the_next_checkpoint(tmp_path, capsys, number):
    usual = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    this = Run(tmp_path)
    this.log = lambda training, step, **row: signal.raise_signal(number) if step == 8 else None
    with pytest.raises(StoppedError, match="stopped after step 8; all is saved") as stopped:
        train(this)
    assert stopped.value.signal_number == number
    assert "stopping at the next checkpoint (the same signal again: at once)" in capsys.readouterr().err
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == usual
    assert train(Run(tmp_path))[0] == [10]


def test_a_signal_behind_the_last_chunk_is_not_lost(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def progress(*settings, **options):
        yield lambda *numbers: None
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(console, "progress", progress)
    with pytest.raises(StoppedError, match="after step 10"):
        train(Run(tmp_path))


def test_the_same_signal_again_stops_at_once(tmp_path):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    this = Run(tmp_path)
    this.log = lambda **row: [signal.raise_signal(signal.SIGINT) for _ in range(2)]
    with pytest.raises(KeyboardInterrupt):
        train(this)
    this.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert train(Run(tmp_path))[0] == [4, 8, 10]


def test_signals_wait_for_checkpoints_only_while_there_are_more_to_come(trained):
    usual = signal.getsignal(signal.SIGTERM)
    this, handlers = again(trained), []
    for name in ("nets", "others"):
        for _ in this.chunks(START, 10, every=10, name=name):
            handlers.append(signal.getsignal(signal.SIGTERM) is usual)
        handlers.append(signal.getsignal(signal.SIGTERM) is usual)
    assert handlers == [True, False, True]


@pytest.mark.parametrize("total", [12, 3])
def test_profile_traces_the_second_chunk_or_the_only_one(tmp_path, capsys, total):
    this = Run(tmp_path, TrainingOptions(profile=True))
    for step, _ in this.chunks(START, total, every=4):
        with jax.profiler.TraceAnnotation(f"chunk_to_{step}"):
            jnp.ones(3)
    (path,) = (tmp_path / "profile").rglob("perfetto_trace.json.gz")
    assert f"open {path} with" in capsys.readouterr().err
    names = {event.get("name") for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]}
    assert [name for name in names if name and name.startswith("chunk_to_")] == [f"chunk_to_{8 if total > 4 else 3}"]


def test_the_log_keeps_numbers_as_they_are(tmp_path):
    this = Run(tmp_path)
    row = {"loss": jnp.float32(0.1), "matrix": np.eye(2, dtype=np.float32), "nan": math.nan, "worst": -np.inf}
    this.log(step=np.int64(3), **row)
    expected = {"step": 3, "loss": 0.1, "matrix": [[1.0, 0.0], [0.0, 1.0]], "nan": None, "worst": "-inf"}
    assert this.read_log() == [expected]
    assert Run(tmp_path).read_log() == [expected]
    assert Run(tmp_path / "nothing").read_log() == []


def test_rows_that_no_checkpoint_counts_are_cut_off_at_the_end_and_not_before(trained):
    def steps():
        return [json.loads(line)["step"] for line in (trained / "metrics.jsonl").read_text().splitlines()]

    again(trained).log(step=11)
    this = again(trained)
    assert len(this.read_log()) == 4
    this.begin()
    assert this.read_log() == []
    this.close()  # as where a run fails: other checkpoints count on the log
    assert steps() == [4, 8, 10, 11]
    train(this)
    this.finish()
    assert steps() == [4, 8, 10]


def test_log_seeds_writes_a_row_for_each_net(tmp_path):
    this = Run(tmp_path)
    this.log_seeds(7, step=4, kind="a", loss=jnp.array([0.1, jnp.nan]), counts=np.array([[1, 2], [3, 4]]))
    assert this.read_log() == [
        {"seed": 7, "step": 4, "kind": "a", "loss": 0.1, "counts": [1, 2]},
        {"seed": 8, "step": 4, "kind": "a", "loss": None, "counts": [3, 4]},
    ]


def test_an_animation_is_a_gif_among_the_figures(tmp_path):
    Run(tmp_path).save_animation("digits", [Figure(figsize=(1, 2))])
    assert (tmp_path / "figures" / "digits.gif").read_bytes().startswith(b"GIF89a")


@pytest.mark.parametrize(
    ("values", "mean", "sd"),
    [
        (np.array([0.5, 0.75, 1.0]), 0.75, 0.25),
        (np.array([0.5], np.float32), 0.5, math.nan),
        (jnp.array([0.5, jnp.nan]), math.nan, math.nan),
        (np.array([0.5, np.inf]), math.nan, math.nan),
    ],
)
def test_mean_and_sd(values, mean, sd):
    found = run.mean_and_sd("accuracy", values)
    assert list(found) == ["accuracy", "accuracy_sd"]
    np.testing.assert_array_equal(list(found.values()), [mean, sd])
