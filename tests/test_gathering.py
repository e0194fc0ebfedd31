"""Learning curves to publish: what runs say, kept when the runs are gone."""

import csv
import io
import shlex
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossq_wn.cli import main
from crossq_wn.cli.arguments import Parser
from crossq_wn.cli.train import configured
from crossq_wn.results import reading
from crossq_wn.results.gathering import ABOUT, CURVES, command_of, merged
from crossq_wn.runs.system import System
from crossq_wn.runs.tables import records_as_csv
from crossq_wn.training import api
from helpers import make_run, rows

RIVALS = (
    "algorithm,utd,task,seed,metric,env_step,value\n"
    "Rival,2,dog-run,0,return,100,321\nRival,2,dog-run,0,return,200,432\n"
    "Unwanted,1,dog-run,0,return,100,5\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of dog-run with seeds 0 and 1 and of DR.Q on walker-run, the last one not at its end."""
    root = tmp_path_factory.mktemp("gathering")
    for seed in range(2):
        run = make_run(
            root / "runs" / f"dog-{seed}", task="dog-run", seed=seed, frames=400,
            eval_rows=[(0, 1), (100, 50.25 + seed), (200, 99)],
        )  # fmt: skip
        lines = ["seed,frames,updates,critic_norm", f"{seed},100,0,1", f"{seed},200,100,1", ""]
        (run / "metrics.csv").write_text("\n".join(lines))
    make_run(root / "runs" / "drq", task="walker-run", algorithm="drq", hyperparameters={"width": 64})
    (root / "rivals.csv").write_text(RIVALS)
    return root


def said(*arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return stop.value.code, out.split(), err


def test_a_table_a_picture_and_the_conditions_outlive_the_runs(folder, capsys):
    out = folder / "curves"
    code, written, err = said(
        "curves", folder / "runs" / "dog-0", folder / "runs" / "drq", "--reference", folder / "rivals.csv",
        "--systems", "Rival", "Rivals UTD 2", "--frames", 200, "--out", out, capsys=capsys,
    )  # fmt: skip
    assert code == 0, err
    names = [f"{task}.{kind}" for task in ("dog-run", "walker-run") for kind in ("png", "svg", "csv")]
    assert written == [str(out / name) for name in ("runs.csv", *names)]
    drawn = (out / "dog-run.svg").read_text()
    assert ("Rival UTD 2" in drawn, "Unwanted" in drawn) == (True, False)  # and not among our numbers
    assert all(row["algorithm"] != "Rival" for row in rows(out / "dog-run.csv"))
    assert "dog-run: no system 'Rivals UTD 2': did you mean 'Rival UTD 2'?" in err
    assert "walker-run: no published curves of this task" in err
    code, _, err = said("curves", folder / "runs" / "dog-1", "--out", out, capsys=capsys)
    assert code == 0, err
    dog, about = rows(out / "dog-run.csv"), rows(out / "runs.csv")
    assert [(row["seed"], row["env_step"], row["value"], row["updates"]) for row in dog[:4]] == [
        ("0", "0", "1", "0"), ("0", "100", "50.25", "0"), ("0", "200", "99", "100"), ("1", "0", "1", "0"),
    ]  # fmt: skip
    (walk,) = rows(out / "walker-run.csv")
    assert walk["algorithm"] == "drq (width=64)"
    assert [walk[name] for name in CURVES[8:]] == ["2", "256", "2", "5"]
    assert [(row["task"], row["seed"]) for row in about] == [
        ("dog-run", "0"), ("dog-run", "1"), ("walker-run", "0"),
    ]  # fmt: skip
    assert "mujoco" in about[0]["versions"]
    assert about[0]["simulators"] in ("published", "current")
    read = reading.scores(reading.inputs([out / "dog-run.csv"]))[System("crossq-wn", 2)]["dog-run"]
    runs = reading.scores(reading.inputs([folder / "runs"]))[System("crossq-wn", 2)]["dog-run"]
    np.testing.assert_array_equal(read.values, runs.values)
    again = {path.name: path.read_bytes() for path in out.glob("*.csv")}
    for runs in ([folder / "runs"], []):  # all of them once more; and pictures alone
        assert said("curves", *runs, "--out", out, capsys=capsys)[0] == 0
        assert {path.name: path.read_bytes() for path in out.glob("*.csv")} == again


def test_files_of_others_and_tables_without_runs_are_refused(folder, tmp_path, capsys):
    (tmp_path / "runs.csv").write_text("a,b\n1,2\n")
    code, _, err = said("curves", folder / "runs" / "drq", "--out", tmp_path, capsys=capsys)
    assert (code, "runs.csv was not written by this command: choose another folder" in err) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs.csv"]
    code, _, err = said("curves", "--out", tmp_path / "new", capsys=capsys)
    assert (code, "holds no curves to draw anew" in err) == (2, True)
    code, _, err = said("curves", folder / "rivals.csv", "--out", tmp_path / "new", capsys=capsys)
    assert (code, "of them: it is a file: give published curves to --reference" in err) == (2, True)


def test_a_task_that_is_refused_does_not_hide_the_others(folder, tmp_path, capsys):
    (tmp_path / "dog-run.csv").write_text("a,b\n1,2\n")
    code, written, err = said("curves", folder / "runs", "--out", tmp_path, capsys=capsys)
    assert (code, err.count("was not written by this command: choose another folder")) == (2, 1)
    names = ["runs.csv", *(f"walker-run.{kind}" for kind in ("png", "svg", "csv"))]
    assert written == [str(tmp_path / name) for name in names]
    assert {row["task"] for row in rows(tmp_path / "runs.csv")} == {"dog-run", "walker-run"}
    (tmp_path / "dog-run.csv").unlink()  # with it gone, the same command makes good what is missing
    assert said("curves", folder / "runs", "--out", tmp_path, capsys=capsys)[0] == 0
    assert len(rows(tmp_path / "dog-run.csv")) == 6


seeds_of = st.fixed_dictionaries({
    "task": st.just("t"), "algorithm": st.sampled_from(["a", "b (x=1, y=2)"]),
    "utd": st.sampled_from(["1", "20"]), "seed": st.sampled_from(["0", "10", "9"]),
    "metric": st.just("return"), "env_step": st.integers(0, 3).map(str), "value": st.integers(0, 9).map(str),
})  # fmt: skip


def key(row):
    return [row[name] for name in ABOUT[:4]]


@given(old=st.lists(seeds_of, max_size=6), new=st.lists(seeds_of, max_size=6))
def test_a_seed_that_is_gathered_again_is_replaced_whole_and_others_are_kept(old, new):
    found = merged(old, new)
    fresh = [key(row) for row in new]
    kept = [row for row in old if key(row) not in fresh]
    assert sorted(map(str, found)) == sorted(map(str, [*new, *kept]))
    assert merged(found, new) == merged(merged(found, new), new)
    filled = [dict.fromkeys(CURVES, "") | row for row in found]
    assert list(csv.DictReader(io.StringIO(records_as_csv(filled, CURVES)))) == filled


CHOICES = {
    "frames": st.sampled_from([4_000, 1_000_000]),
    "seeds": st.sampled_from([(0,), (3, 7)]),
    "terminations": st.booleans(),
    "episode_frames": st.sampled_from([None, 50]),
    "frame_stack": st.sampled_from([1, 3]),
    "video": st.booleans(),
    "utd": st.integers(1, 5),
    "discount": st.sampled_from([0.9, 0.99]),
    "resets": st.sampled_from([(), (15_001, 50_001)]),
}
TYPED = {
    "commands": [["/usr/bin/crossq-wn", "train", "--config", "/home/me/config.json"], ["crossq-wn", "resume"]]
}


@given(choices=st.fixed_dictionaries({}, optional=CHOICES))
def test_the_published_command_trains_the_same_run(choices):
    config = api.configure("dog-run", algorithm="bro", wandb="secret", **choices)
    program, verb, *arguments = shlex.split(command_of(config, TYPED))
    plain = replace(config, options=replace(config.options, wandb=None))
    assert (program, configured(Parser(verb), arguments)) == ("crossq-wn", (plain, None))
    assert command_of(config, {"commands": [["python", "script.py"]]}) == command_of(config, {}) == ""


def test_the_published_command_names_no_place_of_a_machine(tmp_path):
    config = api.configure("pendulum-swingup")
    config = replace(
        config, options=replace(config.options, prefill=(str(tmp_path / "x.npz"), "D4RL/door-v2"))
    )
    told = shlex.split(command_of(config, TYPED))
    assert told[told.index("--prefill") + 1 :] == ["x.npz", "D4RL/door-v2"]
