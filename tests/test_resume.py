"""Does an interrupted run end like one that was never interrupted? Bit for bit, on every kind of task."""

import contextlib
import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import crossq_wn
import helpers
from crossq_wn.cli import main
from crossq_wn.learning import evaluation
from crossq_wn.runs import checkpoints
from crossq_wn.runs.config import read_config
from crossq_wn.runs.protocol import read_manifest
from crossq_wn.sweeps.plans import Run
from crossq_wn.sweeps.states import state_of, stopped_seeds
from crossq_wn.training import logs, scoring
from helpers import TINY, TINY_OPTIONS, TINY_SETTINGS, Listener, call, clis, rows, same_run, start_cli

# Frames of a run, and those after which it is left in the middle of an episode. What follows crosses ends of
# episodes, an evaluation, a checkpoint and a row of metrics.
WHOLE, HALF = 230, 170


class Crash(Listener):
    """A reporter that ends the process's work as a power cut would, at its first row of metrics."""

    def status(self, status):
        if status.rows:
            raise InterruptedError


def quick(task, out, *, frames=WHOLE, seeds=(0,), resume=False, settings=None, **options):
    """Trains or resumes in this process; returns the outcome and the messages."""
    listener = Listener()
    if resume:
        return crossq_wn.resume(out, frames=frames, reporter=listener), listener.messages
    outcome = crossq_wn.train(
        task, frames=frames, seeds=seeds, out=out, reporter=listener,
        **(TINY_OPTIONS | options), **(TINY_SETTINGS | (settings or {})),
    )  # fmt: skip
    return outcome, listener.messages


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(task, **what `quick` takes) -> the run, trained once and not to be changed, or a copy of it."""
    known = {}

    def make(task, copy=None, **options):
        key = f"{task} {sorted(options.items())}"
        if key not in known:
            known[key] = tmp_path_factory.mktemp("run") / "run"
            quick(task, known[key], **options)
        return known[key] if copy is None else Path(shutil.copytree(known[key], copy))

    return make


def last_frames(run):
    return max(int(path.name) for path in (run / "checkpoints").glob("[0-9]*"))


PLAIN = {"algorithm": "sac", "diagnostics": False}
# What is learned does not depend on the task: elsewhere nothing is, so that nothing need be compiled.
STILL = PLAIN | {"settings": {"warmup": 1000}}
TASKS = {
    "pendulum-swingup": STILL | {"episode_frames": 60},
    "helpers:PointMass": {"seeds": (0, 1)},
    "helpers:Hardening": STILL,
    "Hopper-v5": STILL | {"eval_every": 10_000},
    "myo-key-turn-hard": STILL | {"eval_every": 10_000, "episode_frames": 40},
}


@pytest.fixture(scope="module")
def elsewhere(trained, tmp_path_factory):
    """A folder and its command lines, done by another process: resumed runs by number, and one begun there.

    The former were trained here to the middle of an episode, and resumed there.
    """
    root = tmp_path_factory.mktemp("elsewhere")
    lines = [("train", "helpers:PointMass", "--frames", HALF, "--seeds", "0,1", "--out", "run", *TINY)]
    for number, (task, options) in enumerate(TASKS.items()):
        trained(task, root / str(number), frames=HALF, **options)
        lines.append(("resume", str(number), "--frames", WHOLE))
    return root, clis(*lines, cwd=root)


@pytest.mark.parametrize("task", TASKS)
def test_training_half_and_resuming_in_another_process_equals_training_through(task, elsewhere, trained):
    root, (_, *resumed) = elsewhere
    number = list(TASKS).index(task)
    assert resumed[number].returncode == 0, resumed[number]
    whole = trained(task, **TASKS[task])
    same_run(whole, root / str(number), seeds=TASKS[task].get("seeds", (0,)))


def test_the_command_line_trains_and_resumes_like_the_python_interface(elsewhere, trained):
    root, (first, *_) = elsewhere
    assert first.returncode == 0, first.stdout + first.stderr
    second = call("resume", "run", "--frames", WHOLE, cwd=root)
    assert second.returncode == 0, second.stdout + second.stderr
    assert first.stderr + second.stderr == ""
    same_run(trained("helpers:PointMass", seeds=(0, 1)), root / "run", seeds=(0, 1))


@pytest.mark.parametrize(
    ("task", "options"),
    [
        (
            "helpers:PointMass",
            PLAIN | {"settings": {"replay_size": 90}, "terminations": False, "episode_frames": 20},
        ),
        ("pendulum-swingup", PLAIN | {"settings": {"action_repeat": 3}, "episode_frames": 100}),
        ("helpers:PointMass", PLAIN | {"overlap": True, "seeds": (0, 1)}),
    ],
    ids=["replay that wraps, no terminations", "uneven action repeat", "overlap"],
)
def test_resume_is_exact_whatever_the_options(task, options, trained, tmp_path):
    whole = trained(task, frames=260, **options)
    half = trained(task, tmp_path / "half", frames=131, **options)
    quick(task, half, frames=260, resume=True)
    for name in ("metrics.csv", "eval.csv"):
        assert (whole / name).read_bytes() == (half / name).read_bytes(), name


def test_resuming_a_finished_run_changes_nothing(trained, tmp_path):
    run = trained("helpers:PointMass", tmp_path / "run")
    before = {run / name: (run / name).read_bytes() for name in ("metrics.csv", "metrics.jsonl", "eval.csv")}
    quick("helpers:PointMass", run, frames=None, resume=True)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_an_interrupted_run_resumes_bit_for_bit(number, code, trained, tmp_path):
    run = tmp_path / "run"
    process = start_cli(
        "train", "helpers:PointMass", "--frames", 330, "--out", run, *TINY, "--algorithm", "sac",
        "--no-diagnostics", cwd=tmp_path, env={"HELPERS_SLEEP": "0.01"},
    )  # fmt: skip
    deadline = time.monotonic() + 90
    while not (run / "metrics.csv").exists() or len((run / "metrics.csv").read_text().splitlines()) < 4:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, out + err
    assert "Traceback" not in out + err
    assert 100 <= last_frames(run) < 330
    if number != signal.SIGKILL:
        assert f"{signal.Signals(number).name}: saving a checkpoint" in out
        assert f"stopped at {last_frames(run)} frames: continue with `crossq-wn resume {run}`" in out
    quick("helpers:PointMass", run, frames=None, resume=True)
    same_run(trained("helpers:PointMass", frames=330, **PLAIN), run)


def test_a_run_that_crashed_before_its_first_periodic_checkpoint_resumes_from_its_start(trained, tmp_path):
    run = tmp_path / "run"
    options = TINY_OPTIONS | {"checkpoint_every": 100_000}
    with pytest.raises(InterruptedError):
        crossq_wn.train(
            "helpers:PointMass", frames=130, out=run, reporter=Crash(), **options, **TINY_SETTINGS
        )
    assert last_frames(run) == 0
    quick("helpers:PointMass", run, frames=None, resume=True)
    same_run(trained("helpers:PointMass", frames=130, checkpoint_every=100_000), run)


def test_a_run_of_a_version_with_other_columns_is_not_mixed(trained, tmp_path, monkeypatch):
    run = trained("helpers:PointMass", tmp_path / "run")
    before = (run / "metrics.csv").read_bytes()
    monkeypatch.setattr(logs, "METRICS_COLUMNS", (*logs.METRICS_COLUMNS, "of_a_later_version"))
    _, messages = quick("helpers:PointMass", run, frames=350, resume=True)
    assert any("metrics.csv does not fit the checkpoint: set aside" in text for text in messages)
    assert (run / "metrics.csv.damaged-1").read_bytes() == before
    assert {int(row["frames"]) for row in rows(run / "metrics.csv")} == {250, 300, 350}


def test_a_run_of_a_version_with_further_columns_goes_on_with_them(trained, tmp_path, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(logs, "METRICS_COLUMNS", (*logs.METRICS_COLUMNS, "of_an_earlier_version"))
        quick("helpers:PointMass", tmp_path / "run", frames=130)
    _, messages = quick("helpers:PointMass", tmp_path / "run", frames=230, resume=True)
    assert not any("set aside" in text for text in messages)
    found = rows(tmp_path / "run" / "metrics.csv")
    assert [(int(row["frames"]), row["of_an_earlier_version"]) for row in found if row["seed"] == "0"] == [
        (frames, "") for frames in (50, 100, 150, 200)
    ]


def test_an_environment_that_cannot_be_restored_is_named_once_and_resumes_with_a_fresh_episode(tmp_path):
    run = tmp_path / "run"
    _, messages = quick("helpers:Strange", run, frames=130)
    assert sum("cannot be restored" in text and "Strange.wind" in text for text in messages) == 1
    outcome, messages = quick("helpers:Strange", run, frames=230, resume=True)
    assert outcome.finished
    assert sum("cannot be restored" in text for text in messages) == 1
    replay = helpers.replay_rows(run, 0)
    starts = np.flatnonzero(replay["final"]) + 1
    assert np.count_nonzero(~replay["final"]) == 230
    assert np.all(replay["observation"][starts[starts < len(replay["final"])], 2] == 0)  # the clock at reset
    resumed = [row for row in rows(run / "metrics.csv") if int(row["frames"]) > 130]
    assert resumed


@pytest.mark.parametrize("victim", ["manifest.json", "seed-0.safetensors", "replay"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_continues_bit_for_bit(victim, trained, tmp_path):
    run = trained("helpers:PointMass", tmp_path / "run")
    newest = run / "checkpoints" / "000000230"
    path = sorted((run / "checkpoints" / "replay").glob("*"))[-1] if victim == "replay" else newest / victim
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    _, messages = quick("helpers:PointMass", run, frames=330, resume=True)
    assert any("000000230 is damaged" in text and path.name in text for text in messages), messages
    assert any("resumed from the checkpoint at 200 frames" in text for text in messages)
    same_run(trained("helpers:PointMass", frames=330), run)
    warnings = []
    sound = checkpoints.newest(run / "checkpoints", warnings.append)  # what was written since is sound
    assert (sound.frames, warnings) == (330, [])


def test_a_damaged_last_checkpoint_is_written_anew(trained, tmp_path):
    run = trained("helpers:PointMass", tmp_path / "run")
    (run / "checkpoints" / "000000230" / "seed-0.safetensors").write_bytes(b"")
    quick("helpers:PointMass", run, resume=True)
    warnings = []
    sound = checkpoints.newest(run / "checkpoints", warnings.append)
    assert (sound.frames, warnings) == (WHOLE, [])


def test_a_seed_is_the_same_alone_and_among_others(trained):
    alone = trained("helpers:PointMass", seeds=(1,))
    among = trained("helpers:PointMass", seeds=(0, 1))
    assert rows(alone / "eval.csv") == [row for row in rows(among / "eval.csv") if row["seed"] == "1"]
    same_run(alone, among, tables=False, seeds=(1,))


def test_one_seed_s_fault_stops_that_seed_only(tmp_path):
    run = tmp_path / "run"
    outcome, messages = quick("helpers:NanForSeedOne", run, seeds=(0, 1, 2))
    assert outcome.finished
    assert list(outcome.failed) == [1]
    assert "reward nan" in outcome.failed[1]
    stopped = [text for text in messages if text.startswith("seed 1 stopped")]
    assert len(stopped) == 1
    assert f"`crossq-wn resume {run}` trains it on once that is mended" in stopped[0]
    quick("helpers:NanForSeedOne", tmp_path / "undisturbed", seeds=(0, 2))
    same_run(tmp_path / "undisturbed", run, tables=False, seeds=(0, 2))
    for name in ("metrics.csv", "eval.csv"):
        others = [row for row in rows(run / name) if row["seed"] != "1"]
        assert rows(tmp_path / "undisturbed" / name) == others
    assert crossq_wn.load(run, seed=1).frames == 120  # up to the decision that failed
    assert crossq_wn.load(run).frames == WHOLE
    outcome, messages = quick("helpers:NanForSeedOne", run, frames=260, resume=True)
    assert any("seed 1 had stopped, and goes on at 120 frames until 230" in text for text in messages)
    assert outcome.finished
    assert outcome.resumable == (1,)  # since nothing is mended


@pytest.mark.parametrize(
    "faults",
    [
        {1: ("step", 130)},
        {1: ("nan", 15)},
        {1: ("reset", 60)},
        {0: ("step", 55), 1: ("step", 160), 2: ("reset", 0)},
        {0: ("step", 225), 1: ("step", 225), 2: ("step", 225)},
    ],
    ids=["a step", "in the warm-up", "a reset", "three seeds at three times", "all seeds at once"],
)
def test_seeds_that_failed_go_on_from_their_last_decision(faults, trained, tmp_path, monkeypatch):
    """Bit for bit as if nothing had been, and beside seeds that are done."""
    run, seeds = tmp_path / "run", (0, 1, 2)
    whole = trained("helpers:Faulty", seeds=seeds)
    monkeypatch.setattr(helpers.Faulty, "faults", faults)
    if len(faults) == len(seeds):
        with pytest.raises(crossq_wn.UserError, match=r"every seed failed: .*no step today"):
            quick("helpers:Faulty", run, seeds=seeds)
    else:
        outcome, _ = quick("helpers:Faulty", run, seeds=seeds)
        assert outcome.finished
        assert (*outcome.failed,) == outcome.resumable == (*faults,)
        assert read_manifest(run)["failed"]["1"]["reason"] == outcome.failed[1]
        if faults[1][0] != "reset":
            assert crossq_wn.load(run, seed=1).frames == faults[1][1] - 1
    with contextlib.suppress(crossq_wn.UserError):  # it is not mended yet
        again, messages = quick("helpers:Faulty", run, resume=True)
        assert any("seed 1 fails again at" in text or "seed 1 stopped at" in text for text in messages)
        assert again.failed.keys() == faults.keys()
    monkeypatch.setattr(helpers.Faulty, "faults", {})
    outcome, messages = quick("helpers:Faulty", run, resume=True)
    assert outcome.finished, messages
    assert not outcome.failed
    assert not any("new episode" in text for text in messages)
    assert read_manifest(run)["failed"] == {}
    same_run(whole, run, seeds=seeds)
    assert crossq_wn.resume(run).untouched


@pytest.mark.parametrize(("seeds", "eval_every"), [((1,), 200), ((0, 1), 200), ((1,), 150), ((0, 1), 150)])
def test_a_fault_in_an_evaluation_costs_no_training(seeds, eval_every, tmp_path, monkeypatch):
    """The run goes on from there once the fault is mended, as if it had never been."""
    task, run, said = helpers.NanInEvaluationOfSeedOne, tmp_path / "run", Listener()
    everything = TINY_OPTIONS | TINY_SETTINGS | PLAIN | STILL["settings"]
    everything |= {"seeds": seeds, "frames": 200, "checkpoint_every": 100_000, "eval_every": eval_every}
    if seeds == (1,):
        with pytest.raises(crossq_wn.UserError, match=r"every seed failed: seed 1: in evaluation, ") as error:
            crossq_wn.train(task, out=run, reporter=said, **everything)
        wanted = (
            f"; once that is mended, `crossq-wn resume {run}` goes on (the last good checkpoint is at 200"
        )
        assert wanted in str(error.value)
        assert "nan" not in "".join(said.messages)  # which is said once
    else:
        assert list(crossq_wn.train(task, out=run, reporter=said, **everything).failed) == [1]
        assert sum("nan" in text for text in said.messages) == 1
    planned = Run(run, read_config(run))
    assert state_of(planned).kind == ("cut off" if seeds == (1,) else "seeds stopped")
    assert state_of(planned).frames == 200
    assert ("seed 1 stopped: in evaluation" in stopped_seeds(planned, state_of(planned))) == (seeds == (0, 1))
    assert crossq_wn.load(run, seed=1).frames == 200
    monkeypatch.setattr(task, "step", helpers.PointMass.step)  # mended
    crossq_wn.train(task, out=tmp_path / "whole", **everything)
    assert crossq_wn.resume(run).failed == {}
    same_run(tmp_path / "whole", run, seeds=seeds)
    assert crossq_wn.resume(run).untouched
    assert state_of(planned).kind == "finished"


def test_an_evaluation_that_runs_out_of_memory_costs_no_training(tmp_path, monkeypatch):
    done = []

    def evaluate(*arguments):
        done.append(arguments)
        if len(done) == 2:
            raise MemoryError
        return evaluation.evaluate(*arguments)

    monkeypatch.setattr(scoring, "evaluate", evaluate)
    with pytest.raises(MemoryError):
        quick("helpers:PointMass", tmp_path / "run", checkpoint_every=100_000, **STILL)
    assert last_frames(tmp_path / "run") == 200
    _, messages = quick("helpers:PointMass", tmp_path / "run", resume=True)
    assert any(text.startswith("nothing is learned: all 230 agent decisions ") for text in messages)
    assert [row["env_step"] for row in rows(tmp_path / "run" / "eval.csv")][::2] == ["0", "200", "230"]


@pytest.mark.parametrize("task", ["NanObservation", "Raising", "NanOnCheckpoint"])
def test_a_run_whose_every_seed_failed_exits_with_2_and_says_why(task, tmp_path, capsys):
    out = str(tmp_path / "run")
    with pytest.raises(SystemExit) as stop:
        main(["train", f"helpers:{task}", "--frames", "300", "--seeds", "0,1", "--out", out, *TINY])
    said = capsys.readouterr().err
    assert stop.value.code == 2, said
    assert len(said.splitlines()) == 1
    assert "every seed failed" in said
    assert ("RuntimeError: the motor is on fire" if task == "Raising" else "nan at index 1") in said


def test_evaluation_leaves_training_unchanged(tmp_path):
    quick("helpers:PointMass", tmp_path / "often", frames=200, eval_every=50, eval_episodes=2)
    quick("helpers:PointMass", tmp_path / "never", frames=200, eval_every=100_000)
    metrics = [rows(tmp_path / name / "metrics.csv") for name in ("often", "never")]
    assert metrics[0] == metrics[1]
    learned = [
        helpers.load_file(tmp_path / name / "checkpoints" / "000000200" / "seed-0.safetensors")
        for name in ("often", "never")
    ]
    assert learned[0].keys() == learned[1].keys()
    for key, value in learned[0].items():
        if not key.startswith("plain/evaluation_environment/"):
            np.testing.assert_array_equal(value, learned[1][key], err_msg=key)


def test_a_run_may_not_be_shortened_below_what_it_has_trained(trained, tmp_path):
    run = trained("helpers:PointMass", tmp_path / "run")
    with pytest.raises(crossq_wn.UserError, match="230"):
        quick("helpers:PointMass", run, frames=200, resume=True)
    assert json.loads((run / "config.json").read_text())["options"]["frames"] == WHOLE
