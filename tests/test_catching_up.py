"""Do seeds that failed catch up whatever else there is: overlap, a lack of memory, damage, a longer run?"""

import contextlib
import shutil

import numpy as np
import pytest

import crossq_wn
from crossq_wn.errors import UserError
from crossq_wn.runs.manifests import available
from crossq_wn.runs.protocol import read_manifest
from helpers import TINY_OPTIONS, TINY_SETTINGS, Faulty, Listener, replay_rows, same_run

SEEDS = (0, 1, 2)
OPTIONS: dict = TINY_OPTIONS | TINY_SETTINGS | {
    "algorithm": "sac", "diagnostics": False, "seeds": SEEDS,
    "log_every": 37, "eval_every": 37, "checkpoint_every": 30,  # episodes have 37 frames
}  # fmt: skip


def tried(monkeypatch, faults, work, **options):
    """Trains or resumes with faults of the environment; returns the outcome, if any, and what was said."""
    said, outcome = Listener(), None
    monkeypatch.setattr(Faulty, "faults", faults)
    with contextlib.suppress(MemoryError):
        outcome = work(reporter=said, **options)
    return outcome, said.messages


@pytest.mark.parametrize("overlap", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_faults_upon_faults_in_a_run_that_is_extended_leave_no_trace(overlap, tmp_path, monkeypatch):
    options, run = OPTIONS | {"overlap": overlap}, tmp_path / "run"
    crossq_wn.train("helpers:Faulty", frames=120, out=tmp_path / "whole", **options)

    def resume(faults, **more):
        return tried(monkeypatch, faults, crossq_wn.resume, path=run, **more)

    begun = {"task": "helpers:Faulty", "frames": 80, "out": run, **options}
    # In the warm-up, and between the episodes where a row of metrics and an evaluation are due.
    outcome, _ = tried(monkeypatch, {2: ("step", 15), 1: ("reset", 30)}, crossq_wn.train, **begun)
    assert sorted(outcome.resumable) == [1, 2]
    outcome, said = resume({(2, 37): ("memory", 0)}, frames=120)
    assert outcome is None
    assert "seed 2 had stopped, and goes on at 14 frames until 37" in said
    outcome, said = resume({1: ("reset", 90), (0, 120): ("memory", 0)})
    assert outcome is None
    assert "seed 1, 2 had stopped, and goes on at 37 frames until 80" in said
    assert any(text.startswith("seed 1 stopped at") for text in said)
    outcome, said = resume({})
    assert (outcome.failed, outcome.frames) == ({}, 120)
    assert not any("new episode" in text for text in said)
    same_run(tmp_path / "whole", run, seeds=SEEDS)


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """A run with overlap whose seed 1 failed in a step after the warm-up."""
    run = tmp_path_factory.mktemp("failed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Faulty, "faults", {1: ("step", 45)})
        outcome = crossq_wn.train("helpers:Faulty", frames=80, out=run, overlap=True, **OPTIONS)
    assert "overlap loses this transition, so later numbers differ" in outcome.failed[1]
    assert list(outcome.resumable) == [1]
    return run


def test_with_overlap_the_step_that_failed_is_lost_and_its_episode_goes_on(failed, tmp_path):
    run, said = shutil.copytree(failed, tmp_path / "run"), Listener()
    assert crossq_wn.resume(run, reporter=said).failed == {}
    assert not any("new episode" in text for text in said.messages)
    rows = replay_rows(run, 1)
    assert np.count_nonzero(~rows["final"]) == 79
    assert not rows["final"][45]  # the row after the last transition before


@pytest.mark.parametrize(
    ("seed", "which"), [(1, 0), (1, -1), (0, 1)], ids=["early rows", "late rows", "of another"]
)
def test_what_is_lost_of_replay_is_recorded_whosever_it_is(seed, which, failed, tmp_path):
    run, said = shutil.copytree(failed, tmp_path / "run"), Listener()
    for older in available(run / "checkpoints")[:-1]:
        shutil.rmtree(older)
    path = sorted((run / "checkpoints" / "replay").glob(f"seed-{seed}-*"))[which]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(crossq_wn.UserError, match="--without-damaged-replay"):
        crossq_wn.resume(run)
    first, last = (int(part) for part in path.stem.split("-")[2:])
    assert crossq_wn.resume(run, without_damaged_replay=True, reporter=said).failed == {}
    assert any(text.startswith(f"seed {seed} goes on without {last - first} rows") for text in said.messages)
    begun = (
        "where the environment of seed 1 stood is not known: a new episode begins, and numbers differ from"
    )
    assert any(text.startswith(begun) for text in said.messages) == (seed == 1 and which == -1)
    lost = [{"frames": 45 if seed else 80, "seed": seed, "rows": last - first}]
    assert read_manifest(run)["lost_replay"] == lost
    assert crossq_wn.resume(run).untouched
    assert read_manifest(run)["lost_replay"] == lost


def test_without_a_reporter_python_warns_of_failed_seeds_and_how_training_ended_names_its_run(
    tmp_path, monkeypatch
):
    choices = OPTIONS | {"frames": 60, "seeds": (0, 1), "out": tmp_path / "run"}
    monkeypatch.setattr(Faulty, "faults", {1: ("step", 45)})
    with pytest.warns(
        UserWarning, match=r"^seed 1 of .*run failed: .*; once that is mended, `crossq-wn resume"
    ):
        outcome = crossq_wn.train("helpers:Faulty", **choices)
    assert crossq_wn.load(outcome, seed=1).frames < crossq_wn.load(outcome, seed=0).frames == 60
    monkeypatch.setattr(Faulty, "faults", {})
    assert not crossq_wn.resume(outcome).failed
    with pytest.raises(UserError, match=r"^path is 3: it must be a path, such as 'runs/walker-run'$"):
        crossq_wn.load(3)
    with pytest.warns(
        UserWarning, match=r"^nothing is learned: all 20 agent decisions fall into the warm-up"
    ):
        crossq_wn.train(
            "helpers:Faulty", **choices | {"frames": 20, "warmup": 20, "out": tmp_path / "random"}
        )
    assert {"train", "resume", "load"} <= set(dir(crossq_wn))  # as Tab asks
