"""Which run a folder stands for, and where what is made of several runs lands."""

import json
import shutil
from pathlib import Path

import pytest

from crossq_wn.acting.interface import PolicyError
from crossq_wn.acting.policy import Policy
from crossq_wn.cli import main
from crossq_wn.cli.arguments import path
from crossq_wn.errors import UserError
from crossq_wn.results.reading import inputs
from crossq_wn.runs.folders import find, named, run_in
from crossq_wn.runs.options import RunOptions
from helpers import make_run


@pytest.fixture
def said(capsys, tmp_path, monkeypatch):
    """(arguments) -> (exit code, stdout, stderr) of the command line, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return run


def test_a_tilde_is_the_home_folder_in_python_and_in_values_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    home = [*map(str, (tmp_path, tmp_path / "x"))]
    assert [str(named("out", each)) for each in ("~", Path("~/x"))] == home
    assert [str(path(each)) for each in ("~", "~/x")] == home  # of --out=~/x, which bash leaves as it is
    assert RunOptions(prefill="~/x").prefill == RunOptions(prefill=[Path("~/x")]).prefill == (home[1],)
    assert [table.path for table in inputs([Path("~/x")])] == [tmp_path / "x"]
    with pytest.raises(PolicyError, match=f"{tmp_path}/x"):
        Policy("~/x")
    assert path("a~/~b") == Path("a~/~b")


def test_a_folder_with_one_run_stands_for_it_and_several_are_named(tmp_path):
    run = make_run(tmp_path / "a" / "b" / "one")
    (run / "checkpoints" / "000000000").mkdir(parents=True)
    (run / "checkpoints" / "000000000" / "manifest.json").touch()
    for given in (tmp_path, tmp_path / "a", run.parent, run):
        assert run_in(given) == run
    for lost in ("manifest.json", "eval.csv", "config.json"):  # what is left of a run is still the run
        (run / lost).unlink()
        assert run_in(run) == run
    assert run_in(tmp_path / "nowhere") == tmp_path / "nowhere"
    many = [make_run(tmp_path / "many" / str(number)) for number in range(7)]
    with pytest.raises(UserError) as refused:
        run_in(tmp_path / "many")
    assert str(refused.value).endswith(
        f"holds 7 runs: name one of {', '.join(map(str, many[:5]))} and 2 more"
    )


def test_a_copy_that_a_sweep_keeps_for_itself_is_no_run(tmp_path):
    run = make_run(tmp_path / "dog-run" / "seed-0")
    for kind in ("fetched", "old"):
        make_run(tmp_path / ".sweep" / kind / "dog-run--seed-0")
    assert find(tmp_path) == [run]
    assert run_in(tmp_path) == run


@pytest.mark.parametrize("verb", ["eval", "video", "export --to numpy", "resume", "diagnose"])
def test_every_command_on_one_run_takes_the_only_one_and_names_several(verb, said, tmp_path):
    one = make_run(tmp_path / "runs" / "one")
    words = verb.split()
    code, _, err = said(*words, "runs")
    assert code == 2  # it has no checkpoint and no diagnostics, and that is what is told of it
    assert "runs/one" in err
    assert "is not a run directory" not in err
    shutil.copytree(one, tmp_path / "runs" / "two")
    code, _, err = said(*words, "runs")
    assert code == 2
    assert err == "crossq-wn: runs holds 2 runs: name one of runs/one, runs/two\n"


def test_a_picture_of_several_runs_is_none_of_theirs(said, tmp_path):
    for number in range(2):
        make_run(tmp_path / f"run-{number}", seed=number, eval_rows=[(0, 1), (100, 5)])
    assert said("plot", "run-0")[1].splitlines()[0] == "run-0/plots/learning_curve.png"
    before = sorted((tmp_path / "run-0").rglob("*"))
    code, out, _ = said("plot", "run-0", "run-1")
    assert code == 0
    assert out.split() == [f"learning_curves.{suffix}" for suffix in ("png", "svg", "csv")]
    assert sorted((tmp_path / "run-0").rglob("*")) == before
    code, out, err = said("plot", "run-0", "run-1", "--out", "new/folder/joint")
    assert (code, out.split()[0]) == (0, "new/folder/joint.png")
    assert "made the folder new/folder" in err
    assert "made the folder" not in said("plot", "run-0", "run-1", "--out", "new/folder/joint")[2]


def test_the_reason_stands_last_where_nothing_is_left(said, tmp_path):
    for number in range(3):
        run = make_run(tmp_path / "runs" / str(number))
        (run / "eval.csv").unlink()
    for verb in (["compare"], ["plot"], ["report", "--out", "x.html"]):
        code, _, err = said(*verb, "runs")
        *lines, last = [line for line in err.splitlines() if "reading" not in line]
        assert code == 2
        assert [line.split(" is skipped: ")[0] for line in lines] == [
            f"crossq-wn: runs/{number}" for number in range(3)
        ]
        assert "all 3 runs are skipped, such as runs/0: there is no eval.csv" in last


def test_a_place_that_takes_no_files_is_named(said, tmp_path):
    make_run(tmp_path / "run", eval_rows=[(0, 1), (100, 5)])
    for arguments in (
        ["plot", "run", "--out", "/proc/x"],
        ["report", "run", "--out", "/proc/x.html"],
        ["train", "cheetah-run", "--out", "/proc/x", "--no-video"],
    ):
        code, _, err = said(*arguments)
        assert code == 2
        assert "nothing can be made in /proc; choose another place" in err.splitlines()[-1]


def test_a_folder_without_runs_is_said_to_have_none(said, tmp_path):
    (tmp_path / "runs").mkdir()
    assert said("list", "runs")[1] == "no run below runs has been evaluated yet\n"
    assert json.loads(said("list", "runs", "--json")[1]) == []


def test_too_few_diagnostics_are_counted(said, tmp_path):
    run = make_run(tmp_path / "run", frames=5000, log_every=500)
    for rows, says in (
        (0, ["has no row of metrics or timing", "every 500 frames"]),
        (4, ["has 4 rows of diagnostics, and 6 are needed", "resume run --frames 6000"]),
    ):
        lines = [f"0,{500 * (row + 1)},1.0\n" for row in range(rows)]
        (run / "metrics.csv").write_text("seed,frames,critic_norm\n" + "".join(lines))
        code, _, err = said("diagnose", "run")
        assert code == 2
        assert all(text in err for text in says), err
    off = make_run(tmp_path / "off", diagnostics=False)
    assert "trained with --no-diagnostics" in said("diagnose", off)[2]


def test_a_run_without_evaluations_is_plotted_by_its_training_episodes(said, tmp_path):
    run = make_run(tmp_path / "run", real_time=50, eval_every=0, eval_rows=())
    (run / "metrics.csv").write_text("seed,frames,episode_return\n0,100,\n0,200,-5\n0,300,-2\n")
    table = run / "plots" / "learning_curve.csv"
    code, out, err = said("plot", "run")
    assert (code, err, "run/plots/learning_curve.png" in out) == (0, "", True)
    about = '"crossq-wn UTD 2",cheetah-run,0,episode_return,'.replace('"', "")
    assert table.read_text().splitlines()[1:] == [f"{about}200,-5.0", f"{about}300,-2.0"]
    assert said("plot", "run")[2] == "crossq-wn: replaced an earlier picture: run/plots/learning_curve.png\n"
    code, _, err = said("plot", "run", "--x", "hours")
    assert (code, err.count("\n"), "over frames alone" in err) == (2, 1, True)
    code, _, err = said("compare", "run")
    assert (code, err.count("\n")) == (2, 1)
    assert (
        "trained without evaluations (--eval-every 0): `crossq-wn plot run` draws its training episodes"
        in err
    )


def test_pictures_and_reports_that_are_made_again_are_told_of(said, tmp_path):
    make_run(tmp_path / "run")
    for words in (("plot", "run", "--out", "both"), ("report", "run", "--out", "both.html")):
        assert "replaced" not in said(*words)[2]
        code, _, err = said(*words)
        assert (code, err.count("replaced an earlier ")) == (0, 1), err


def test_systems_without_a_common_task_are_not_compared_and_that_is_said(said, tmp_path):
    for name, task in (("a", "cheetah-run"), ("b", "walker-run")):
        make_run(tmp_path / name, task=task)
    told = "nothing is compared: cheetah-run, walker-run have a single system each"
    for form in ((), ("--json",)):
        assert told in said("compare", "a", "b", *form)[2]
    make_run(tmp_path / "c", task="walker-run", algorithm="simba")
    assert "nothing is compared" not in said("compare", "a", "b", "c")[2]
    assert "nothing is compared" not in said("compare", "a")[2]
