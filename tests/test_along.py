"""Curves over gradient updates and over hours, instead of environment frames."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossq_wn.cli import main
from crossq_wn.errors import UserError
from crossq_wn.results.along import at_equal, positions
from crossq_wn.results.curves import Curves
from crossq_wn.results.figures import FIGURES, Source
from crossq_wn.results.records import RunRecord
from crossq_wn.runs.system import System
from helpers import make_run, rows

TIMING = "frames,seconds,frames_per_second,updates_per_second\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two systems with 1 and 5 updates per 2 frames after 20 frames, and a published curve."""
    root = tmp_path_factory.mktemp("along")
    for utd in (1, 5):
        for seed in range(2):
            path = make_run(
                root / "runs" / f"{utd}-{seed}", task="dog-run", seed=seed, hyperparameters={"utd": utd},
                eval_rows=[(0, 0), (50, 100), (100, 200 + seed)],
            )  # fmt: skip
            lines = [f"{seed},{x},{utd * max(0, x - 20) // 2},{x}" for x in range(20, 101, 10)]
            (path / "metrics.csv").write_text("\n".join(["seed,frames,updates,critic_norm", *lines, ""]))
            ticks = [f"{x},{36 * x * (1 + seed)},1,{utd}" for x in range(20, 101, 20)]
            (path / "timing.csv").write_text(TIMING + "\n".join([*ticks, "100,5"]))
    (root / "rivals.csv").write_text(
        "algorithm,utd,task,seed,metric,env_step,value\nA,2,dog-run,0,return,100,300\n"
    )
    return root


@given(
    rows=st.lists(st.integers(1, 100), min_size=1, max_size=8, unique=True),
    pace=st.floats(0.1, 10),
    frames=st.lists(st.integers(0, 200), min_size=1, max_size=5),
)
def test_what_grows_evenly_is_known_everywhere(rows, pace, frames):
    steps = np.array(sorted(rows))
    clocks = [Curves(steps, ("0", "1"), np.array([pace * steps, 3 * pace * steps]))]
    found = positions(clocks, np.array(frames))
    np.testing.assert_allclose(found, 2 * pace * np.array(frames), atol=1e-9)
    np.testing.assert_allclose(
        positions(clocks, np.array(frames), "1"), 3 * pace * np.array(frames), atol=1e-9
    )


@given(
    paces=st.lists(st.floats(0.2, 40), min_size=1, max_size=3),
    slope=st.floats(-2, 2),
    along=st.sampled_from(["updates", "hours"]),
)
def test_scores_that_grow_with_updates_are_equal_at_equal_updates(paces, slope, along):
    """Whatever the paces: systems that gain alike from an update stand alike at equal updates."""
    steps, per_unit = np.arange(0, 1001, 100), 3600 if along == "hours" else 1
    scores, known = {}, {}
    for place, pace in enumerate(paces):
        system = System(f"{place}", 1)
        values = np.array([slope * pace * steps])
        scores[system] = {"dog-run": Curves(steps, ("0",), values)}
        known[system] = {"dog-run": Curves(steps, ("0",), np.array([pace * steps]))}
    table = System("published", 2)
    found, others = at_equal(along, scores, {table: scores[System("0", 1)]}, (known, {}))
    same = System("0", 1)  # a system of ours under the same name keeps its own clock
    slower = {same: {"dog-run": replace(known[same]["dog-run"], values=2 * known[same]["dog-run"].values)}}
    _, twice = at_equal(along, scores, {same: scores[same]}, (known, slower))
    at = twice[same]["dog-run"]
    there = ~np.isnan(at.values[0])
    np.testing.assert_allclose(at.values[0][there], slope * at.env_steps[there] / per_unit / 2, atol=1e-6)
    assert others == {}
    longest = max(paces) * 1000
    for pace, tasks in zip(paces, found.values(), strict=True):
        curves = tasks["dog-run"]
        marks = curves.env_steps / per_unit
        assert 2 <= len(marks) <= 10
        assert 0.7 * longest < marks[-1] <= longest * (1 + 1e-9) + 0.5 / per_unit
        there = marks <= pace * 1000
        np.testing.assert_allclose(curves.values[0, there], slope * marks[there], atol=1e-6 * pace * 1000)
        assert np.isnan(curves.values[0, marks > pace * 1000 * (1 + 1e-9)]).all()


def test_compare_has_columns_at_equal_updates(folder, capsys):
    """Of 40 and 200 updates, when scores have grown to 200 and are half as high at half the frames."""
    arguments = ["compare", folder / "runs", "--against", folder / "rivals.csv", "--x", "updates"]
    code, out, err = run(*arguments, capsys=capsys)
    assert code == 0
    assert "left out, since their gradient updates are not known: A UTD 2" in err
    title, head, *_ = out.splitlines()
    assert title.endswith("at gradient updates")
    assert head.split()[-10:] == [str(mark) for mark in range(20, 201, 20)]
    records = json.loads(run(*arguments, "--json", capsys=capsys)[1])
    medians = {(each["system"], each["updates"]): each["median"] for each in records}
    assert medians["crossq-wn UTD 1", 20] == pytest.approx(0.1 + 0.1 * (20 - 15) / (40 - 15), rel=0.01)
    assert ("crossq-wn UTD 1", 60) not in medians
    assert medians["crossq-wn UTD 5", 200] == pytest.approx(0.2, rel=0.01)
    code, out, _ = run("compare", folder / "runs", "--x", "hours", capsys=capsys)
    assert (code, out.splitlines()[0].endswith("at hours of training")) == (0, True)
    code, _, err = run("compare", folder / "rivals.csv", "--x", "hours", capsys=capsys)
    assert (code, "only run directories record them" in err) == (2, True)


def test_curves_run_over_updates(folder):
    told = []
    source = Source((), (), along="updates", warn=told.append)
    (source,) = source.each_protocol([folder / "runs"], [folder / "rivals.csv"])
    picture = FIGURES["fig7"](source)
    (axes,) = picture.figure.axes
    assert axes.get_xlabel() == "gradient updates"
    found = {(row["system"], row["frames"]): row["updates"] for row in picture.rows}
    assert found["crossq-wn UTD 1", 50] == 15
    assert found["crossq-wn UTD 1", 100] == 40
    assert found["crossq-wn UTD 5", 100] == 200
    assert not any(system == "A UTD 2" for system, _ in found)
    assert "not drawn, since only their environment frames are known, not their updates: A UTD 2" in told
    drawn = sorted(line.get_xdata().tolist() for line in axes.lines)
    assert drawn == [[0, 15, 40], [0, 75, 200]]


def test_curves_run_over_hours_of_all_sessions(folder, tmp_path):
    (source,) = Source((), (), along="hours").each_protocol([folder / "runs"])
    found = {(row["system"], row["frames"]): row["hours"] for row in FIGURES["fig3"](source).rows}
    assert found["crossq-wn UTD 1", 50] == pytest.approx((0.5 + 1.0) / 2)  # two runs, one at half the speed
    run = make_run(tmp_path / "run")
    assert RunRecord(run).hours is None
    (run / "timing.csv").write_text(
        TIMING + "100,3600,1,1\n200,7200,1,1\n150,1800,1,1\n200,3600,1,1\n300,7200,1,1\n"
    )
    hours = RunRecord(run).hours
    assert hours.frames.tolist() == [100, 150, 200, 300]
    assert hours.values.tolist() == [1, 2.5, 3, 4]  # 50 frames were trained twice


def test_only_run_directories_tell(folder):
    (source,) = Source((), (), along="updates").each_protocol([folder / "rivals.csv"])
    with pytest.raises(UserError, match="none of these systems has known gradient updates"):
        FIGURES["fig7"](source)


def run(*arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return stop.value.code, said.out, said.err


def test_the_commands_have_the_axis(folder, tmp_path, capsys):
    out = tmp_path / "curve"
    code, _, err = run("plot", folder / "runs", "--x", "updates", "--out", out, capsys=capsys)
    assert (code, err) == (0, "")
    with open(f"{out}.csv", newline="") as file:
        last = [row for row in csv.DictReader(file) if row["env_step"] == "100"]
    assert {(row["exp_name"], row["updates"]) for row in last} == {
        ("crossq-wn UTD 1", "40.0"), ("crossq-wn UTD 5", "200.0"),
    }  # fmt: skip
    code, _, err = run("figure", "fig1", folder / "runs", "--x", "hours", capsys=capsys)
    assert (code, "fig1 has none: it may go with fig3, fig6, fig7, q-bias" in err) == (2, True)
    assert (
        run("figure", "fig6", folder / "runs", "--x", "hours", "--out", tmp_path / "six", capsys=capsys)[0]
        == 0
    )
    assert float(rows(tmp_path / "six.csv")[-1]["hours"]) > 0
    page = tmp_path / "report.html"
    arguments = (
        "report",
        folder / "runs",
        "--reference",
        folder / "rivals.csv",
        "--x",
        "updates",
        "--out",
        page,
    )
    assert run(*arguments, capsys=capsys)[0] == 0
    text = page.read_text()
    assert "gradient updates" in text
    assert "these are not drawn, since only their environment frames are known: A UTD 2" in text
    assert ">environment frames</text>" not in text


def test_runs_shorter_than_a_row_of_metrics_are_told_the_cause(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, options in (("brief", {}), ("robot", {"real_time": 50, "eval_every": 0, "eval_rows": ()})):
        path = make_run(tmp_path / name, log_every=700, **options)
        (path / "metrics.csv").write_text("seed,frames,updates,critic_norm,episode_return\n")
        (path / "timing.csv").write_text(TIMING)
    for arguments in (
        "plot brief --x updates", "plot brief --x hours", "compare brief --x updates",
        "compare brief --x hours",
        "figure fig2 brief", "figure fig3 brief", "figure fig7 brief --x updates", "plot robot",
    ):  # fmt: skip
        code, out, err = run(*arguments.split(), capsys=capsys)
        name = "robot" if "robot" in arguments else "brief"
        cause = (
            f"{name} has no row of metrics or timing: there is one every 700 frames (--log-every), and it "
        )
        assert (code, out, err.count("\n")) == (2, "", 1), (arguments, err)
        assert err.startswith(f"crossq-wn: {cause}"), arguments
