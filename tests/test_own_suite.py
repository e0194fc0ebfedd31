"""A suite that is registered outside the package works everywhere, by its adapter and its record alone."""

import importlib
import json
import sys
from dataclasses import replace

import numpy as np
import pytest

import crossq_wn
from crossq_wn.environments import PAPER_TASKS, SUITES, groups, lookup, make, suite_of
from crossq_wn.environments.suite import METRICS
from crossq_wn.environments.suites import remember
from crossq_wn.errors import UserError
from crossq_wn.results import reading
from crossq_wn.results.records import RunRecord
from crossq_wn.runs import directory, protocol
from crossq_wn.runs.checks import check
from crossq_wn.runs.config import read_config
from crossq_wn.runs.schema import SuiteEntry
from helpers import TESTS, TINY, TINY_OPTIONS, TINY_SETTINGS, call, cli, clis, make_run, rows, same_run
from test_environments import assert_continues

PROGRAM = (TESTS.parent / "docs" / "your-own-suite.md").read_text().split("```python\n")[1].split("```")[0]
QUICK = TINY_OPTIONS | TINY_SETTINGS | {"algorithm": "sac", "diagnostics": False}  # few programs to compile
TASKS = [f"my_suite:{short}" for short in ("near", "far", "farther")]


@pytest.fixture
def folder(tmp_path):
    """A folder with the module of the documented suite; other processes find it there."""
    (tmp_path / "my_suite.py").write_text(PROGRAM)
    return tmp_path


@pytest.fixture
def forgotten(monkeypatch):
    """What this process loads of the suite goes with the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = dict(SUITES)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("my_suite", None)
    SUITES.clear()
    SUITES.update(known)


@pytest.fixture
def suite(folder, forgotten, monkeypatch):
    """The documented suite, loaded in this process."""
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module("my_suite").SUITES["slide"]


def runs(folder, task, best):
    """Two seeds of a task in run directories; the last return is `best`, or half as much."""
    for seed, most in enumerate((best, best / 2)):
        name = f"{task.replace(':', '-')}-{seed}"
        make_run(folder / "runs" / name, task=task, seed=seed, eval_rows=((100, most / 2), (200, most)))


# --- Names


def test_its_tasks_are_found_by_short_and_full_names(suite):
    assert lookup("my_suite:far") == lookup("far") == lookup("my_suite:FAR")
    task = lookup("far")
    assert (task.name, task.suite, task.identifier) == ("my_suite:far", "slide", "0.8")
    assert (task.action_repeat, task.episode_frames, task.discount) == (2, 20, 0.9)
    assert task.metric == "return"
    assert suite_of("my_suite:far") is suite
    assert suite_of("my_suite:Slide").name == "gymnasium"  # a factory beside the suite


def test_its_module_is_imported_for_a_task_and_not_for_its_results(folder, forgotten, monkeypatch):
    monkeypatch.chdir(folder)
    assert suite_of("my_suite:far").name == "gymnasium"
    assert "my_suite" not in sys.modules
    assert lookup("my_suite:far").suite == "slide"


@pytest.mark.parametrize("change", [{"metric": "profit"}, {"scale": 0.0}])
def test_a_wrong_record_is_refused(suite, change):
    with pytest.raises(UserError, match="the suite 'slide' has the"):
        replace(suite, **change)


def test_a_record_under_another_name_is_refused(suite, monkeypatch):
    monkeypatch.setitem(SUITES, "slides", suite)
    del SUITES["slide"]
    with pytest.raises(UserError, match=r"SUITES\['slides'\] holds a suite called 'slide'"):
        lookup("far")


# --- Training


def test_it_trains_evaluates_and_explains_misspelt_tasks_from_the_command_line(folder, forgotten):
    """Trained in another process and used in this one: neither has loaded the module before."""
    # A warm-up without an end: what is learned is the same on every task, and takes long to compile.
    quick = ("--algorithm", "sac", "--no-diagnostics", "--warmup", 1000)
    wrong, done = clis(
        ("train", "my_suite:fast", "--frames", 40, *TINY),
        ("train", "my_suite:far", "--frames", 120, *TINY, *quick, "--out", "run"), cwd=folder,
    )  # fmt: skip
    assert wrong.returncode == 2
    assert "unknown task 'my_suite:fast': did you mean 'my_suite:far'?" in wrong.stderr
    assert done.returncode == 0, done.stderr
    run = folder / "run"
    config = read_config(run)
    assert (config.task, config.metric, config.action_repeat) == ("my_suite:far", "return", 2)
    assert (config.episode_frames, config.discount) == (20, 0.9)
    assert {row["metric"] for row in rows(run / "eval.csv")} >= set(METRICS)
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["protocol"]["numpy"] == np.__version__
    assert "mujoco" not in manifest["protocol"]
    assert "my_suite" not in sys.modules
    lines = (
        ("eval", "run", "--episodes", 1), ("resume", "run", "--frames", 160),
        ("video", "run", "--out", "far.mp4"), ("list", "runs", "."),
    )  # fmt: skip
    later = [call(*line, cwd=folder) for line in lines]
    assert [each.returncode for each in later] == [0, 0, 0, 0], later
    listed = later[-1].stdout
    logged = [row["value"] for row in rows(run / "eval.csv") if row["metric"] == "return"]
    assert f"{float(logged[-1]):.3g}" in listed  # as it was logged, not scaled


def test_it_resumes_bit_for_bit(suite, tmp_path):
    whole = crossq_wn.train("my_suite:far", frames=400, out=tmp_path / "whole", **QUICK).path
    half = crossq_wn.train("my_suite:far", frames=200, out=tmp_path / "half", **QUICK).path
    crossq_wn.resume(half, frames=400)
    same_run(whole, half)


def test_its_environments_continue_a_snapshot(suite):
    original, _ = assert_continues(lambda: make("my_suite:far"), 4, 20)
    assert original.frames < 20
    original.close()


def test_a_run_needs_its_module_only_to_make_environments(suite, folder):
    crossq_wn.train("my_suite:far", frames=100, out=folder / "run", **QUICK)
    (folder / "my_suite.py").unlink()
    refused = cli("eval", "run", cwd=folder)
    assert refused.returncode == 2
    assert "cannot import 'my_suite'" in refused.stderr


# --- Results


@pytest.mark.parametrize(("metric", "scale"), [("return", 20.0), ("success_rate", 1.0)])
def test_a_score_is_what_the_record_says(suite, metric, scale, monkeypatch, tmp_path):
    monkeypatch.setitem(SUITES, "slide", replace(suite, metric=metric, scale=scale))
    run = crossq_wn.train("my_suite:near", frames=200, out=tmp_path / "run", **QUICK).path
    curves = reading.check(RunRecord(run))
    logged = [float(row["value"]) for row in rows(run / "eval.csv") if row["metric"] == metric]
    np.testing.assert_array_equal(curves.values, [np.array(logged) / scale])


def test_its_groups_are_groups(suite):
    there = ["Ant-v5", "my_suite:farther", "my_suite:far", "dog-run", "my_suite:near"]
    grouped = {
        "DMC dog & humanoid": ("dog-run",),
        "Slide near": ("my_suite:near",),
        "Slide far": ("my_suite:farther", "my_suite:far"),
        "Ant-v5": ("Ant-v5",),
    }
    assert groups.by_group(there) == grouped
    assert groups.by_suite(there) == {
        "DMC": ("dog-run",),
        "Slide": ("my_suite:near", "my_suite:farther", "my_suite:far"),
        "Ant-v5": ("Ant-v5",),
    }
    assert groups.groups_and_all(there) == grouped
    assert groups.tasks_and_groups(there)["all"] == ("dog-run",)
    assert [groups.size(title) for title in ("Slide far", "Slide", "all", "nothing")] == [2, 3, 25, None]
    assert len(PAPER_TASKS) == 25


def test_another_version_of_its_packages_is_another_protocol(suite, tmp_path, monkeypatch):
    make_run(tmp_path / "a", task="my_suite:near")
    monkeypatch.setattr(directory, "version", lambda name: "another")
    make_run(tmp_path / "b", task="my_suite:near", seed=1)
    (conflict,) = protocol.protocol_conflicts(protocol.read_terms([tmp_path]))
    assert conflict.startswith(f"my_suite:near: numpy is {np.__version__} in ")


PANELS = {"fig1": {"Slide near", "Slide far"}, "fig6": {"Slide"}, "fig7": set(TASKS)}


@pytest.mark.parametrize("loaded", [True, False])
def test_figures_compare_and_report_know_it(suite, loaded, folder):
    """With its module in this process; and in others without it, because runs say what their suite is."""
    for task, best in zip(TASKS, (18.0, 12.0, 6.0), strict=True):
        runs(folder, task, best)
    (folder / "my_suite.py").unlink()
    lines = [("figure", figure, "runs", "--out", figure) for figure in PANELS]
    lines += [("report", "runs", "--out", "page.html"), ("compare", "runs")]
    done = [call(*line, cwd=folder) for line in lines] if loaded else clis(*lines, cwd=folder)
    assert [each.returncode for each in done] == [0] * len(lines), done
    for figure, panels in PANELS.items():
        drawn = rows(folder / f"{figure}.csv")
        assert {row["panel"] for row in drawn} == panels
        assert "return / 20" in (folder / f"{figure}.svg").read_text()
    ends = {row["panel"]: float(row["value"]) for row in drawn if row["frames"] == "200"}
    assert ends == pytest.approx({"my_suite:near": 0.675, "my_suite:far": 0.45, "my_suite:farther": 0.225})
    assert "0.675" in done[-1].stdout
    page = (folder / "page.html").read_text()
    assert "Slide far (2 tasks)" in page
    assert "return / 20" in page


def test_a_manifest_may_hold_all_that_a_suite_says_of_itself(suite):
    assert suite.description().keys() == SuiteEntry.__annotations__.keys()
    check(json.loads(json.dumps(suite.description())), SuiteEntry, "suite")


def test_a_suite_that_is_loaded_counts_for_more_than_a_run_s_copy(suite):
    copy = json.loads(json.dumps(suite.description())) | {"scale": 1.0}
    remember(copy)
    assert suite_of("my_suite:far").scale == 20.0
    del SUITES["slide"]
    remember(copy)
    copied = suite_of("my_suite:far")
    assert copied.description() == suite.description() | {"scale": 1.0}
    assert groups.by_group(TASKS) == {"Slide near": (TASKS[0],), "Slide far": (TASKS[1], TASKS[2])}
