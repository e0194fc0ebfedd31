"""Does a run that dies at any step of its writing go on to the numbers of a run that never died?

Training is cut off before each call that changes the disk, as kill -9 does, and half-way through each row of
a log; or by a power cut, after which the logs have lost what nothing waited for.
"""

import os
import shutil
import signal
from pathlib import Path

import pytest

import crossq_wn
import helpers
from crossq_wn import files
from crossq_wn.learning.evaluation import _Policies
from crossq_wn.training import loop
from helpers import TINY_OPTIONS, TINY_SETTINGS, Listener, rows, same_run

CHANGES = ("replace", "fsync", "mkdir", "unlink")  # of the module os, as `files` calls it
LOGS = ("metrics.csv", "metrics.jsonl", "eval.csv", "timing.csv")
OPTIONS = TINY_OPTIONS | {"log_every": 10, "eval_every": 40, "checkpoint_every": 30}


class DeathError(BaseException):
    """Stands for the end of the process, which no handler survives."""


class Machine:
    """Counts the calls that change the disk, and dies at one of them; afterwards it does nothing more."""

    def __init__(self, dies_at=None):
        self.dies_at, self.calls, self.dead = dies_at, 0, False
        self.synced = {}  # inode -> bytes that survive a power cut

    def start(self, run):
        """Takes over what is on disk already, which survives."""
        for found in (path.stat() for path in run.glob("*") if path.is_file()):
            self.synced[found.st_ino] = found.st_size

    def __getattr__(self, name):
        real = getattr(os, name)
        return self.mortal(real) if name in CHANGES else real

    def mortal(self, real, last_act=lambda *arguments: None):
        def call(*arguments, **options):
            self.calls += not self.dead
            if self.calls == self.dies_at and not self.dead:
                self.dead = True
                last_act(*arguments)
            if self.dead:
                raise DeathError
            done = real(*arguments, **options)
            if real is os.fsync:
                found = os.fstat(arguments[0])
                self.synced[found.st_ino] = found.st_size
            return done

        return call

    def cut_power(self, run):
        """Takes from the logs what no fsync had waited for."""
        for name in LOGS:
            path = run / name
            if path.exists():
                os.truncate(path, min(path.stat().st_size, self.synced.get(path.stat().st_ino, 0)))


def half_a_row(path, content, **options):
    with open(path, "ab") as file:
        file.write(content[: len(content) // 2])


def lived(machine, monkeypatch, work):
    """Whether the machine outlives some work."""
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", machine)
        patch.setattr(files, "append", machine.mortal(files.append, half_a_row))
        patch.setattr(files.shutil, "rmtree", machine.mortal(shutil.rmtree))
        try:
            work()
        except DeathError:
            return False
    return True


def begin_or_go_on(run, reporter=None):
    """What a user does after a crash: resumes, or starts again where not even a run is there."""
    if (run / "config.json").exists():
        return crossq_wn.resume(run, reporter=reporter)
    options = {"frames": 70, "seeds": (0, 1), **OPTIONS, **TINY_SETTINGS}
    return crossq_wn.train("helpers:PointMass", out=run, reporter=reporter, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that never died, and the machine that counted the calls in which it changed the disk."""
    path, machine = tmp_path_factory.mktemp("whole") / "run", Machine()
    with pytest.MonkeyPatch.context() as patch:
        assert lived(machine, patch, lambda: begin_or_go_on(path))
    return path, machine


def test_in_the_end_all_rows_and_the_names_of_all_folders_are_on_disk(whole):
    run, machine = whole
    for folder in (run.parent, run, run / "checkpoints", run / "checkpoints" / "replay"):
        assert folder.stat().st_ino in machine.synced, folder
    for name in LOGS:
        assert machine.synced[(run / name).stat().st_ino] == (run / name).stat().st_size > 0, name
    last = (run / "eval.csv").read_text().splitlines()[-1]
    assert last.split(",")[-2] == "70"  # an evaluation that came after the last checkpoint


@pytest.mark.parametrize("step", [53, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", ["kill", "power cut"])
def test_a_run_that_dies_anywhere_goes_on_bit_for_bit(how, step, whole, tmp_path, monkeypatch, capsys):
    (path, machine), deaths = whole, 0
    calls = machine.calls
    for point in range(1, calls + 1, step):
        run = tmp_path / str(point)
        for dies_at in (point, 1 + 7 * point % calls):  # the second while it begins again or goes on
            machine = Machine(dies_at)
            machine.start(run)
            if not lived(machine, monkeypatch, lambda at=run: begin_or_go_on(at)):
                deaths += 1
                if how == "power cut":
                    machine.cut_power(run)
        begin_or_go_on(run)
        same_run(path, run, seeds=(0, 1))
        # What was being made in a lease stays there until the next one is taken.
        half = [path for path in Path(run).rglob("*.partial") if ".lease-" not in str(path)]
        assert not half, point
        shutil.rmtree(run)
    assert deaths >= calls // step
    with capsys.disabled():
        print(f"\n{how}: {deaths} crash points in {calls} calls, all equal")


def interrupted(monkeypatch, work, evaluation):
    """The outcome of some work whose evaluation of this number is interrupted at its third decision."""
    counted, act = {"evaluations": 0}, _Policies.act

    def acting(self, observations):
        new = not hasattr(self, "decisions")
        counted["evaluations"] += new
        self.decisions = 1 if new else self.decisions + 1
        if (counted["evaluations"], self.decisions) == (evaluation, 3):
            os.kill(os.getpid(), signal.SIGINT)
        assert counted["evaluations"] < evaluation or self.decisions <= 3, "it went on"
        return act(self, observations)

    with monkeypatch.context() as patch:
        patch.setattr(_Policies, "act", acting)
        return work()


@pytest.mark.parametrize(("number", "frames"), [(1, 0), (2, 40), (3, 70)])
def test_an_evaluation_that_is_interrupted_ends_at_once_and_is_made_again(
    number, frames, whole, tmp_path, monkeypatch
):
    run, said = tmp_path / "run", Listener()
    outcome = interrupted(monkeypatch, lambda: begin_or_go_on(run, said), number)
    assert (outcome.signal, outcome.frames) == (signal.SIGINT, frames)
    told = f"SIGINT: the evaluation at {frames} frames is broken off, to be made again when the run goes on"
    assert said.messages.count(told) == 1
    scored = {int(row["env_step"]) for row in rows(run / "eval.csv")}
    assert scored == {0, 40, 70} - {each for each in (0, 40, 70) if each >= frames}
    again = interrupted(monkeypatch, lambda: begin_or_go_on(run), 1)  # and once more
    assert (again.signal, again.frames) == (signal.SIGINT, frames)
    assert begin_or_go_on(run).signal is None
    same_run(whole[0], run, seeds=(0, 1))


# In the second, the fault comes where a row of metrics and an evaluation are due.
FAULTS = {
    "plain": (("step", 45), {}),
    "overlap": (("reset", 30), {"overlap": True, "log_every": 37, "eval_every": 37}),
}


@pytest.fixture(scope="module", params=["plain", pytest.param("overlap", marks=pytest.mark.slow)])
def mended(request, tmp_path_factory):
    """A run whose seed 1 failed, one that nothing disturbed, and the machine that trained the first on."""
    folder, machine = tmp_path_factory.mktemp("mended"), Machine()
    fault, changed = FAULTS[request.param]
    options = {"frames": 70, "seeds": (0, 1), **OPTIONS, **TINY_SETTINGS, **changed}
    crossq_wn.train("helpers:Faulty", out=folder / "whole", **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(helpers.Faulty, "faults", {1: fault})
        assert crossq_wn.train("helpers:Faulty", out=folder / "failed", **options).resumable == (1,)
    shutil.copytree(folder / "failed", folder / "mended")
    with pytest.MonkeyPatch.context() as patch:
        assert lived(machine, patch, lambda: crossq_wn.resume(folder / "mended"))
    return folder / "failed", folder / "whole", machine


@pytest.mark.parametrize("step", [31, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", ["kill", "power cut"])
def test_a_run_that_dies_while_a_failed_seed_catches_up_goes_on_bit_for_bit(
    how, step, mended, tmp_path, monkeypatch, capsys
):
    (failed, whole, machine), deaths = mended, 0
    calls = machine.calls
    for point in range(1, calls + 1, step):
        run = shutil.copytree(failed, tmp_path / str(point))
        for dies_at in (point, 1 + 7 * point % calls):
            machine = Machine(dies_at)
            machine.start(run)
            if not lived(machine, monkeypatch, lambda at=run: crossq_wn.resume(at)):
                deaths += 1
                if how == "power cut":
                    machine.cut_power(run)
        crossq_wn.resume(run)
        same_run(whole, run, seeds=(0, 1))
        shutil.rmtree(run)
    assert deaths >= calls // step
    with capsys.disabled():
        print(f"\n{how}, while a seed catches up: {deaths} crash points in {calls} calls, all equal")


def test_a_seed_that_catches_up_makes_an_interrupted_evaluation_again(mended, tmp_path, monkeypatch):
    failed, whole, _ = mended
    run = shutil.copytree(failed, tmp_path / "run")
    assert interrupted(monkeypatch, lambda: crossq_wn.resume(run), 1).signal == signal.SIGINT
    crossq_wn.resume(run)
    same_run(whole, run, seeds=(0, 1))


def test_a_run_that_dies_when_seeds_have_caught_up_is_extended_all_the_same(mended, tmp_path, monkeypatch):
    """What is cut off is the checkpoint in which they are one with the others."""
    failed, whole, _ = mended
    runs = [shutil.copytree(path, tmp_path / path.name) for path in (whole, failed)]
    crossq_wn.resume(runs[0], frames=110)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "join", Machine(1).mortal(loop.join))
        with pytest.raises(DeathError):
            crossq_wn.resume(runs[1], frames=110)
    crossq_wn.resume(runs[1])
    same_run(*runs, seeds=(0, 1))


@pytest.mark.parametrize("name", ["mended", "failed"])
def test_a_mended_run_is_extended_as_one_that_nothing_disturbed(name, mended, tmp_path):
    """The evaluation at its end, where a longer run makes none, is not kept, mended before or after that."""
    _, whole, _ = mended
    runs = [shutil.copytree(path, tmp_path / path.name) for path in (whole, whole.parent / name)]
    for run in runs:
        crossq_wn.resume(run, frames=110)
    same_run(*runs, seeds=(0, 1))
