"""Does `sweep --status` say what has failed, what is under way and how long the rest takes?"""

import heapq
import os
import re
from pathlib import Path

import pytest

from crossq_wn.cli import standings
from crossq_wn.machine import boot
from crossq_wn.sweeps import history, on_slurm, presence, status
from crossq_wn.sweeps.plans import Run
from crossq_wn.training import api


def planned_lines(runs, side_by_side, at):
    """Lines and estimates of runs of so many hours, the longest first, at a time in hours.

    Estimates are a third of the truth, and those that ended earlier were measured, too.
    """
    line = status.Line(None, "t", "s", (0,), "waiting", 0, 1_000_000, None, None, "")
    busy = [(0.0, slot) for slot in range(side_by_side)]  # when a slot is free again
    lines, estimates = [], {}
    for number, hours in enumerate(runs):
        begin, slot = heapq.heappop(busy)
        heapq.heappush(busy, (begin + hours, slot))
        each = line._replace(run=Path(f"r{number}"))
        estimates[each.run] = hours * 3600 / 3
        if begin <= at:
            share = min(1.0, (at - begin) / hours)
            standing = "done" if share == 1 else "running"
            speed = 1e6 / (3600 * hours)
            each = each._replace(standing=standing, frames=int(1e6 * share), speed=speed)
        lines.append(each)
    return lines, estimates, max(busy)[0] - at


@pytest.mark.parametrize("at", [1.0, 50.0, 110.0, 140.0])
def test_time_left_is_told_from_the_first_day_on(at):
    lines, estimates, truth = planned_lines([100.0] * 100 + [1.0] * 2900, 64, at)
    assert status.summary(lines, estimates).hours == pytest.approx(truth, rel=0.35)
    # Nothing ends before its longest run.
    lines, estimates, truth = planned_lines([100.0] + [1.0] * 40, 2, 30.0)
    assert status.summary(lines, estimates).hours == pytest.approx(70, abs=0.01)
    assert truth == 70


def test_the_speed_of_a_warm_up_is_not_told(tmp_path):
    run = Run(tmp_path, api.configure("Pendulum-v1", seeds=[0, 1]))
    rows = ["frames,frames_per_second,updates_per_second", "1000,90000.0,0.0", "6000,50.0,100.0"]
    found = []
    for count in (2, 3):
        (tmp_path / "timing.csv").write_text("\n".join(rows[:count]) + "\n")
        found.append(status._pace(run, 0))
    assert found == [(1000, None), (6000, 25.0)]


def test_estimates_are_kept_for_the_status_once(tmp_path):
    assert history.estimates(tmp_path) == {}
    run = tmp_path / "dog-run" / "sac" / "seed-0"
    history.logs(tmp_path)
    history.keep_estimates(tmp_path, {run: 60.0})
    history.keep_estimates(tmp_path, {run: 61.0})  # measured again, of the same runs
    assert history.estimates(tmp_path) == {run: 60.0}
    for strange in ("[1]", '{"r": "x"}', '{"r": NaN, "s": -1, "t": 0}', "{"):
        (tmp_path / ".sweep" / "estimates.json").write_text(strange)
        assert history.estimates(tmp_path) == {}


def shown(lines, capsys, monkeypatch, every=False):
    monkeypatch.setenv("COLUMNS", "100")
    standings._show(lines, status.summary(lines), Path("runs/mine"), "text", every=every)
    return capsys.readouterr().out


def test_failures_come_first_and_once_per_cause(capsys, monkeypatch):
    line = status.Line(None, "dog-run", "sac", (0,), "running", 420_000, 1_000_000, 31.0, 5.2, "")
    lines = []
    for number in range(60):
        lines.append(line._replace(run=Path(f"runs/mine/dog-run/crossq-wn-utd-2/seed-{number}")))
    for number in range(60, 90):
        run = Path(f"runs/mine/dog-run/crossq-wn-utd-2/seed-{number}")
        why = f"failed (exit code 2): {run}: disk full at {number}; see runs/mine/.sweep/logs/{number}.log"
        lines.append(line._replace(run=run, standing="failed", speed=None, hours=None, why=why))
    lines.append(line._replace(run=Path("runs/mine/a"), standing="failed", why="another run is there"))
    first, second = standings.troubles(lines, Path("runs/mine"))
    assert (first.runs, first.standing, second.runs, second.why) == (30, "failed", 1, "another run is there")
    assert first.why.endswith("disk full at 60; see .sweep/logs/60.log")
    assert first.example == Path("dog-run/crossq-wn-utd-2/seed-60")
    out = shown(lines, capsys, monkeypatch)
    assert out.index("disk full at 60") < out.index("seed-0 ")
    assert out.count("seed-") == 40 + 2
    assert re.search(r"^dog-run/crossq-wn-utd-2/seed-0 +running +42 % +31 +5.2 hours$", out, re.MULTILINE)
    assert "91 runs: 60 running, 0 waiting, 0 done, 31 failed" in out
    assert "--all shows every run" in out


def test_runs_that_were_stopped_are_shown_and_nothing_leaves_no_table(capsys, monkeypatch):
    line = status.Line(Path("runs/mine/a"), "t", "s", (0,), "waiting", 50, 100, 10.0, 0.000574, "")
    out = shown([line, line._replace(frames=0, speed=None, hours=None)], capsys, monkeypatch)
    assert re.search(r"^a +stopped +50 % +10 +2 seconds$", out, re.MULTILINE)
    assert "2 waiting, 0 done, 0 failed (1 of those waiting were stopped on the way)" in out
    done = shown([line._replace(standing="done", frames=100)], capsys, monkeypatch)
    assert done == "runs/mine: 1 run: 0 running, 0 waiting, 1 done, 0 failed\n(--all shows every run)\n"


def test_a_sweep_that_has_ended_is_told_from_one_at_work(tmp_path, capsys):
    def said():
        standings.follow(tmp_path, "text", every=False, watched=False)
        return capsys.readouterr().out

    history.keep_plan(tmp_path, "[defaults]\ntask = 'Pendulum-v1'\nseeds = '0:2'\n")
    left = tmp_path / ".sweep" / "present" / "host-1"
    nobody = f"no sweep is under way here: `crossq-wn sweep {tmp_path}` goes on"
    assert nobody in said()
    with presence.present(tmp_path):
        assert "under way" not in said()
        left.write_text(boot())  # of one on this machine that was killed: nobody has its lock
    assert nobody in said()
    left.write_text("another machine")
    assert "under way" not in said()
    os.utime(left, (0, 0))
    assert nobody in said()
    on_slurm.folder(tmp_path).mkdir()
    assert "under way here (workers may wait in Slurm's queue)" in said()
    with presence.present(tmp_path):
        assert not left.exists()


@pytest.mark.parametrize(
    ("hours", "words"),
    [(None, ""), (0.001, "4 seconds"), (0.5, "30 minutes"), (5.25, "5.2 hours"), (72, "3.0 days")],
)
def test_time_left_is_written_for_people(hours, words):
    assert standings.time_left(hours) == words
