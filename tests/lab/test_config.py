import json
import math
import re

import pytest

from jaxnn.lab import config


def settings_of(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--num-steps 0", "--num-steps: input should be greater than or equal to 1, not 0"),
        ("--seed 1073741824", "--seed: input should be less than 1073741824, not 1073741824"),
        ("--learning-rates 0.1 -1", "--learning-rates: input should be greater than 0, not -1.0"),
        ("--learning-rates nan", "--learning-rates: input should be less than or equal to 1000000, not nan"),
        ("--num-steps 1.5", "Error parsing --num-steps: .*'1.5' (--help names all settings)"),
        ("--learning-rates fast", "Error parsing --learning-rates: .*fast.* (--help names all settings)"),
        ("--num-stepz 2", "Unrecognized options: --num-stepz, 2: did you mean --num-steps?"),
        ("--colour 2", "Unrecognized options: --colour, 2 (--help names all settings)"),
        ("2", "Unrecognized options: 2 (--help names all settings)"),
        ("--num-steps", "Missing value for argument '--num-steps'.* (--help names all settings)"),
        ("--from", "Missing value for argument '--from'.* (--help names all settings)"),
        (
            f"--data-dir {__file__}",
            f"--data-dir: {__file__} is a file or in one: name the folder that has the data, .*",
        ),
        (f"--data-dir {__file__}/x", f"--data-dir: {__file__}/x is a file or in one: name the folder that has the .*"),
        (
            "--data-dir ~nosuchuser/data",
            "--data-dir: ~nosuchuser/data cannot be a folder (Could not determine .*)",
        ),
        (f"--data-dir {'a' * 5000}", "--data-dir: a{100} ... cannot be a folder (File name too long)"),
        (f"--seed {'9' * 4000}", "--seed: input should be less than 1073741824, not 9{100} ..."),
        ("--learning-rates 1e400", "--learning-rates: input should be less than or equal to 1000000, not inf"),
        ("--out=", "behind toy_experiment an argument is empty or no text: '--out='"),
        ("--resume \udcff", r"behind --resume an argument is empty or no text: '\\udcff'"),
        ("--quick=1", "Unrecognized options: 1 (--help names all settings)"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_a_line(call, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = call(*arguments.split())
    assert done.code == 2
    pattern = message.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")
    assert re.fullmatch(f"toy_experiment: {pattern}\n", done.err), done.err
    assert done.out == ""
    assert not list(tmp_path.iterdir())


def test_each_setting_that_cannot_be_has_its_line(call):
    assert call("--num-steps", 0, "--every", -1).err.splitlines() == [
        "toy_experiment: --num-steps: input should be greater than or equal to 1, not 0",
        "--every: input should be greater than or equal to 1, not -1",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"num_steps": 2.5}, "--num-steps: input should be a valid integer, not 2.5"),
        ({"num_steps": True}, "--num-steps: input should be a valid integer, not True"),
        ({"num_steps": "3"}, "--num-steps: input should be a valid integer, not 3"),
        ({"num_steps": 0}, "--num-steps: input should be greater than or equal to 1, not 0"),
        ({"learning_rates": 0.1}, "--learning-rates: input should be a valid array, not 0.1"),
        ({"learning_rates": [0.1, math.nan]}, "--learning-rates: input should be less than or equal to .*, not nan"),
        ({"data_dir": "a\0"}, r"--data-dir: 'a\\x00' is no path"),
        ({"data_dir": ""}, "--data-dir: '' is no path"),
        ({"seed": [1]}, r"--seed: input should be a valid integer, not \[1\]"),
        ({"colour": 3}, "--colour: unexpected keyword argument, not 3"),
        ({"experiment": "another"}, "belongs to the experiment another, not to toy_experiment"),
        ({"experiment": None}, "belongs to the experiment None, not to toy_experiment"),
        ([3], "has no settings of a run: give a run's config.json"),
    ],
)
def test_a_file_of_settings_that_cannot_be_is_refused(call, tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"experiment": "toy_experiment"} | content if isinstance(content, dict) else content))
    for arguments in (["--from", path], ["--resume", tmp_path]):
        done = call(*arguments)
        assert done.code == 2
        assert done.err.startswith(f"toy_experiment: {path}")
        assert re.search(f"{message}\n$", done.err), done.err
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_read_is_refused(call, tmp_path):
    (tmp_path / "config.json").write_bytes(b"\xff{")
    (tmp_path / "cut.json").write_text('{"experiment": ')
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for arguments, reason in [
        (["--resume", tmp_path / "nothing"], "No such file or directory"),
        (["--resume", tmp_path], "expected value.*"),
        (["--from", tmp_path], "Is a directory"),
        (["--from", tmp_path / "cut.json"], "EOF while parsing.*"),
        (["--from", tmp_path / "deep.json"], "recursion limit exceeded.*"),
    ]:
        done = call(*arguments)
        assert done.code == 2
        pattern = rf"toy_experiment: cannot read the settings of a run in {tmp_path}.* \({reason}\)\n"
        assert re.fullmatch(pattern, done.err), done.err
    assert not (tmp_path / "nothing").exists()


def test_quick_is_a_default_that_flags_override(call, tmp_path):
    call("--quick", "--out", tmp_path / "quick")
    assert settings_of(tmp_path / "quick")["num_steps"] == 4
    call("--quick", "--num-steps", 5, "--out", tmp_path / "five")
    assert settings_of(tmp_path / "five")["num_steps"] == 5
    call("--quick", "--no-quick", "--learning-rates", 0.1, "--out", tmp_path / "whole")
    assert settings_of(tmp_path / "whole")["num_steps"] == 20


def test_from_repeats_a_run(call, tmp_path, left_by):
    assert call("--seed", 5, "--learning-rates", 0.3, 0.1, "--data-dir", "/data", "--out", tmp_path / "first").code == 0
    assert call("--from", tmp_path / "first" / "config.json", "--out", tmp_path / "again").code == 0
    assert left_by(tmp_path / "first") == left_by(tmp_path / "again")
    assert settings_of(tmp_path / "first") == settings_of(tmp_path / "again")
    assert call("--from", tmp_path / "first" / "config.json", "--seed", 6, "--out", tmp_path / "other").code == 0
    assert settings_of(tmp_path / "other") == settings_of(tmp_path / "first") | {"seed": 6}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--learning-rates", "0.5"],
            "cannot go on with other settings: --learning-rates (0.5,) (the run has (0.1, 0.2))",
        ),
        (["--num-steps", "40"], "cannot go on with other settings: --num-steps 40 (the run has 20); begin a new run"),
        (["--quick"], "--resume and --quick exclude each other: give one of them"),
        (["--out", "new"], "--resume and --out exclude each other"),
        (["--from", "{run}/config.json"], "--resume and --from exclude each other"),
    ],
)
def test_a_run_goes_on_as_it_began_or_not_at_all(call, whole, arguments, message):
    before = sorted(whole.rglob("*"))
    done = call("--resume", whole, *(argument.format(run=whole) for argument in arguments))
    assert (done.code, message in done.err) == (2, True), done.err
    assert sorted(whole.rglob("*")) == before


def test_the_data_may_have_moved(call, whole):
    (whole / "summary.json").unlink()
    assert call("--resume", whole, "--data-dir", "/elsewhere").code == 0


def test_help_shows_comments_and_only_what_the_experiment_can_do(call):
    resumable, other = call("--help"), call("--help", resumable=False)
    assert (resumable.code or 0, other.code or 0) == (0, 0)
    assert "A small experiment of two trainings" in resumable.out
    assert "steps of a chunk (default: 4)" in resumable.out
    for flag in ("--resume", "--tensorboard", "--profile"):
        assert flag in resumable.out
        assert flag not in other.out
        assert call(flag, "/tmp", resumable=False).code == 2


def test_tensorboard_without_its_package_is_refused(call, monkeypatch, tmp_path, whole):
    monkeypatch.setattr(config.importlib.util, "find_spec", lambda name: None)
    (whole / "tensorboard").mkdir()
    for arguments in (["--tensorboard", "--out", tmp_path / "run"], ["--resume", whole]):
        done = call(*arguments)
        assert (done.code, "pip install tensorboardX" in done.err) == (2, True)
    assert not (tmp_path / "run").exists()
