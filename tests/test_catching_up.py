"""Do seeds that failed catch up whatever else there is: overlap, a lack of memory, damage, a longer run?"""

import contextlib
import shutil
from random import Random
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

import crossq_wn
from crossq_wn.errors import UserError
from crossq_wn.runs.manifests import available
from crossq_wn.runs.manifests import read_manifest as checkpoint
from crossq_wn.runs.protocol import read_manifest
from crossq_wn.training import saving, scoring, stopping
from crossq_wn.training.seeds import Stream, integer, stream
from helpers import TINY_OPTIONS, TINY_SETTINGS, Faulty, Listener, replay_rows, rows, same_run

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
    assert "seeds 1, 2 had stopped, and go on at 37 frames until 80" in said
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


# --- nothing is learned from here on, so that runs are cheap; seeds fail in several runs, one after the other

FRAMES = 90  # no multiple of the evaluations' interval, and one of the checkpoints'
STILL: dict = OPTIONS | {"warmup": 1000, "log_every": 25}
STEADY = "test_catching_up:Steady"


class Steady(Faulty):
    """Its episodes end at 37 frames, never before."""

    def step(self, action):
        observation, reward, _, *rest = super().step(action)
        return observation, reward, False, *rest


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing disturbed."""
    return crossq_wn.train(STEADY, frames=FRAMES, out=tmp_path_factory.mktemp("whole"), **STILL).path


@pytest.fixture
def play(monkeypatch, tmp_path):
    """(faults, options) -> the run, trained or resumed with these faults, its outcome and what was said."""
    run = tmp_path / "run"

    def playing(faults, **options):
        if run.exists():
            return run, *tried(monkeypatch, faults, crossq_wn.resume, path=run, **options)
        begun = {"task": STEADY, "frames": FRAMES, "out": run, **STILL, **options}
        return run, *tried(monkeypatch, faults, crossq_wn.train, **begun)

    return playing


def undisturbed(whole, run):
    """Asserts that a run equals one that nothing disturbed, also in what later numbers may depend on."""
    same_run(whole, run, seeds=SEEDS)
    ours, theirs = (checkpoint(available(each / "checkpoints")[-1])["seeds"] for each in (whole, run))
    assert list(ours) == list(theirs)
    for seed, entry in ours.items():
        for name in ("environment", "evaluation_environment"):
            assert entry["plain"][name] == theirs[seed]["plain"][name], (seed, name)
    assert crossq_wn.resume(run).untouched


def evaluated(run):
    """The environment frames and the seed of every evaluation of a run."""
    found = [row for row in rows(run / "eval.csv") if row["metric"] == "return"]
    return [(int(row["env_step"]), int(row["seed"])) for row in found]


def ends(seed, frames):
    """A callback that asks for an end."""
    return SimpleNamespace(on_decision=lambda done: (done.seed, done.frames) == (seed, frames))


class Killed(BaseException):
    """Stands for the end of the process."""


def dying(*_, **__):
    raise Killed


@pytest.mark.parametrize(
    "faults",
    [
        [{(1, 90): ("step", 0)}, {(1, 90): ("step", 0)}],
        [{1: ("step", 45)}, {1: ("step", 90)}],
        pytest.param([{1: ("step", 45), 2: ("step", 50)}, {2: ("step", 60)}], marks=pytest.mark.slow),
        [{1: ("reset", 37)}, {(1, 37): ("step", 0)}],
        [{1: ("step", 45), (0, 90): ("memory", 0)}],
        [{(1, 0): ("step", 0)}],
    ],
    ids=["last evaluation", "last decision", "one of two", "reset", "memory", "first evaluation"],
)
def test_seeds_that_fail_again_and_again_leave_no_trace(faults, whole, play):
    for each in faults:
        run, _, _ = play(each)
        assert ((90, 0) in evaluated(run)) == ((0, 90) not in each)
    assert play({})[1].failed == {}
    undisturbed(whole, run)
    assert crossq_wn.load(run).seed == 0
    assert len(read_manifest(run)["commands"]) == len(faults) + 1


def test_the_last_evaluation_is_made_though_a_checkpoint_was_there_and_another_seed_catches_up(
    whole, play, monkeypatch
):
    record = scoring.record
    with monkeypatch.context() as patch:
        patch.setattr(
            scoring,
            "record",
            lambda session, found: (session.frames == 90 and dying(), record(session, found)),
        )
        with pytest.raises(Killed):
            play({1: ("step", 45)})
    run, outcome, _ = play({})
    assert outcome.failed == {}
    undisturbed(whole, run)


def test_a_longer_run_keeps_no_evaluation_of_a_shorter_one_though_a_seed_still_waits(play):
    for more in ({}, {"frames": 120}):
        run, outcome, said = play({1: ("step", 45)}, **more)
        assert list(outcome.failed) == [1]
    assert [frames for frames, seed in evaluated(run) if seed == 0] == [0, 37, 74, 111, 120]
    assert not any("altered" in text for text in said)


class Unrestorable(Steady):
    """Has no state that can be captured, and may not begin where training goes on at some frames."""

    down: ClassVar[tuple[int, ...]] = ()

    def __init__(self):
        super().__init__()
        self.wind = iter(int, 1)

    def reset(self, *, seed=None, options=None):
        if seed in [integer(stream(0, Stream.ENVIRONMENT, frames)) for frames in self.down]:
            raise RuntimeError("the simulator does not answer")
        return super().reset(seed=seed, options=options)


def test_a_seed_that_cannot_begin_again_keeps_its_replay_and_the_evaluation_that_is_due(play, monkeypatch):
    with pytest.raises(crossq_wn.UserError, match="every seed failed"):
        play({(0, 30): ("step", 0)}, task=Unrestorable, seeds=(0,), eval_every=30)
    monkeypatch.setattr(Unrestorable, "down", (30,))
    with pytest.raises(crossq_wn.UserError, match="does not answer"):
        play({}, task=Unrestorable)
    monkeypatch.setattr(Unrestorable, "down", ())
    run, _, said = play({}, task=Unrestorable)
    assert any("a new episode begins" in text for text in said)
    assert evaluated(run) == [(0, 0), (30, 0), (60, 0), (90, 0)]
    # 90 decisions and where two episodes end: once, where the first one was given up, and at its limit.
    assert len(replay_rows(run, 0)["final"]) == 92


@pytest.mark.parametrize("behind", [False, True], ids=["ahead of another", "while it catches up"])
def test_the_last_good_policy_of_a_seed_that_diverges_is_kept(behind, play, monkeypatch):
    """Also where its checkpoint is not older than those that come, and where others are ahead in it."""
    fails, seeds = {1: ("step", 45)}, (0, 1)
    diverges = 1 if behind else 0
    finite = saving._sound_learners

    def diverging(session):
        if session.frames >= FRAMES:
            stopping.drop(session, {diverges: "its parameters are no longer finite"})
        return finite(session)

    if behind:
        play(fails, seeds=seeds)
    with monkeypatch.context() as patch:
        patch.setattr(saving, "_sound_learners", diverging)
        if behind:
            run, outcome, said = play({})
            assert list(outcome.failed) == [1]
            assert any("its last good state is in the checkpoint at 90 frames" in text for text in said)
        else:
            with pytest.raises(crossq_wn.UserError, match="every seed failed"):
                play(fails, seeds=seeds)
    run, outcome, _ = play({})  # seed 1 catches up, and leaves checkpoints of its own
    assert list(outcome.failed) == [diverges]
    assert crossq_wn.load(run, seed=diverges).frames == 60
    assert crossq_wn.load(run).seed == 1 - diverges


@pytest.mark.parametrize("newer_first", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_of_two_folders_of_one_checkpoint_all_read_the_same(newer_first, whole, play, tmp_path):
    run, _, _ = play({1: ("step", 45)})
    older = shutil.copytree(available(run / "checkpoints")[-1], tmp_path / "older")
    play({}, callbacks=[ends(1, 62)])
    newer = available(run / "checkpoints")[-1].rename(tmp_path / "newer")
    names = ("000000090", "0000000090")
    for folder, name in zip((newer, older) if newer_first else (older, newer), names, strict=True):
        folder.rename(run / "checkpoints" / name)
    play({1: ("step", 10 if newer_first else 8)})  # steps of its own since it was restored
    _, outcome, said = play({})
    assert not any("new episode" in text for text in said)
    assert outcome.failed == {}
    undisturbed(whole, run)


# --- faults, stops and deaths at random


def drawn(random):
    """Faults of training and of evaluations."""
    faults: dict = {}
    for seed in SEEDS:
        if random.random() < 0.5:
            usual = [1, 30, 31, 37, 38, 60, 61, 74, 75, 89, 90]
            when = random.choice([random.randint(1, 90), random.choice(usual)])
            faults[seed] = (random.choice(["step", "step", "nan", "reset"]), when)
        if random.random() < 0.25:
            faults[seed, random.choice([0, 37, 74, 90])] = ("step", 0)
        if random.random() < 0.05:
            faults[seed, random.choice([37, 74, 90])] = ("memory", 0)
    return faults


def disturbance(random):
    """What may end a resumed run, besides faults."""
    number = random.randint(1, 150)
    decisions = iter(range(number))
    stop = SimpleNamespace(on_decision=lambda _: next(decisions, None) is None)
    options: dict = {"callbacks": [stop]} if random.random() < 0.4 else {}
    return options | ({"dies": random.randint(3, 8)} if random.random() < 0.3 else {})


class Mortal(Listener):
    """Dies at one of the messages."""

    def __init__(self, dies):
        super().__init__()
        self.left = dies

    def message(self, text):
        super().message(text)
        self.left -= 1
        if self.left == 0:
            raise Killed


def stormy(number, run, monkeypatch):
    """Trains a run and goes on with it, and what happened."""
    random, told = Random(number), []
    for first in (True, *[False] * random.randint(1, 3)):
        faults, options = drawn(random), disturbance(random)
        dies = options.pop("dies", 0)
        monkeypatch.setattr(Faulty, "faults", faults)
        told.append((faults, list(options), dies))
        with contextlib.suppress(crossq_wn.UserError, MemoryError, Killed):
            if first:
                crossq_wn.train(STEADY, frames=FRAMES, out=run, **STILL, **options)
            else:
                crossq_wn.resume(run, reporter=Mortal(dies), **options)
    monkeypatch.setattr(Faulty, "faults", {})
    return told


@pytest.mark.parametrize(
    "numbers", [range(2), pytest.param(range(2, 60), marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_whatever_happens_the_run_becomes_one_that_nothing_disturbed(numbers, whole, tmp_path, monkeypatch):
    for number in numbers:
        run, said = tmp_path / str(number), Listener()
        told = stormy(number, run, monkeypatch)
        outcome = crossq_wn.resume(run, reporter=said)
        assert outcome.failed == {}, (number, told)
        assert not any("new episode" in text for text in said.messages), (number, told)
        try:
            undisturbed(whole, run)
        except AssertionError as error:
            raise AssertionError(f"round {number}: {told}: {said.messages}") from error
        shutil.rmtree(run)
