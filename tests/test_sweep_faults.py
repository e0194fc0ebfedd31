"""Does a sweep go on through what befalls its runs, and is each evaluation made once, as if nothing had been?

With true runs: processes of their own where the fault ends a process, and else the command in this one.
"""

import errno
import json
import os
import time
from types import SimpleNamespace

import pytest

import crossq_wn
import helpers
from crossq_wn import files
from crossq_wn.cli import dispatch
from crossq_wn.errors import UserError, explained, may_pass, tells_of_outage
from crossq_wn.sweeps import engines, history, states, status
from crossq_wn.sweeps.driver import Need, Sweep
from crossq_wn.sweeps.driving import drive
from crossq_wn.sweeps.engines import prepared
from crossq_wn.sweeps.local import LocalEngine, LocalProcess
from crossq_wn.sweeps.plans import plan
from crossq_wn.sweeps.sheets import parse
from crossq_wn.sweeps.states import State
from crossq_wn.sweeps.watching import Watch
from hostile import command

OPTIONS = {
    **helpers.TINY_SETTINGS, "algorithm": "sac", "frames": 200, "eval_episodes": 1, "eval_every": 50,
    "checkpoint_every": 50, "log_every": 50, "diagnostics": False,
}  # fmt: skip


class Hurried:
    """A clock by which the pauses between attempts pass quickly."""

    now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        time.sleep(0.02)
        self.now += 5.0


class Here:
    """Calls what an engine does, in this process: an exception is all that can end it."""

    def __init__(self, logs):
        self.logs = logs

    def places(self):
        return 1

    def free_memory(self):
        return None

    def free(self, slots, others):
        return slots[len(others) :]

    def start(self, run, state, slot, memory):
        job = prepared(run, state, self.logs)
        done = helpers.call(*job.arguments, cwd=self.logs)
        with files.open_log(job.log) as log:
            log.write((done.stdout + done.stderr).encode())
        over = SimpleNamespace(returncode=done.returncode, poll=lambda: done.returncode, pid=os.getpid())
        return LocalProcess(over, job.log)


def swept(out, engine, text):
    """Trains the runs of a file that has OPTIONS besides; returns the sweep, its result, and what it said."""
    values = "".join(f"{name} = {json.dumps(value)}\n" for name, value in OPTIONS.items())
    runs, clock, said = plan(parse(f"[defaults]\n{values}{text}", "file"), out), Hurried(), []
    sweep = Sweep(
        runs, out, engine, 1, lambda run: Need(1.0, 1), said.append, clock=clock, watch=Watch(clock)
    )  # fmt: skip
    return sweep, drive(sweep, clock.sleep), said


def evaluations(path):
    return [
        (row["seed"], row["metric"], row["env_step"], row["value"]) for row in helpers.rows(path / "eval.csv")
    ]


def undisturbed(task, seeds, out):
    done = crossq_wn.train(task, seeds=seeds, out=out / "alone", video=False, tensorboard=False, **OPTIONS)
    return evaluations(done.path)


def causes(sweep, run):
    return [attempt.cause for attempt in sweep.history.of(sweep.key(run))]


def holds(found, wanted):
    assert len(found) == len(wanted), found
    for cause, words in zip(found, wanted, strict=True):
        assert words in cause if words else cause == ""


@pytest.fixture
def struck(tmp_path, monkeypatch):
    """Lists the faults that training meets."""

    def strike(*faults):
        (tmp_path / "faults").write_text("\n".join(faults))
        monkeypatch.setenv("STRUCK", str(tmp_path / "faults"))

    yield strike
    assert (tmp_path / "faults").read_text() == ""  # all of them were met


@pytest.mark.parametrize(
    ("seeds", "faults", "wanted", "in_workers"),
    [
        (
            [0],
            ["raised 60", "full 110"],
            ["every seed failed: seed 0: worlds:Struck raised RuntimeError: no licence", "No space left on"],
            False,
        ),
        (
            [0, 1],  # of which the other one goes on, and has finished when this one is trained on
            ["raised 60"],
            ["(exit code 3): crossq-wn: seed 0 of "],
            False,
        ),
        (
            [0, 1],  # of which a lack of memory costs none
            ["memory 60", "worker 110"],
            [
                "out of memory (MemoryError): free some",
                "out of memory (a process in which environments were stepped was killed by signal 9): free",
            ],
            True,
        ),
    ],
)
def test_a_run_goes_on_from_its_last_checkpoint_after_each_fault(
    seeds, faults, wanted, in_workers, struck, tmp_path, monkeypatch
):
    whole = undisturbed("worlds:Struck", seeds, tmp_path)
    struck(*faults)
    if in_workers:
        helpers.use_workers(monkeypatch)
    logs = history.logs(tmp_path / "sweep")
    sweep, result, _ = swept(tmp_path / "sweep", Here(logs), f"task = 'worlds:Struck'\nseeds = {seeds}")
    assert result == (None, {})
    (run,) = sweep.runs
    holds(causes(sweep, run), [*wanted, ""])
    assert evaluations(run.path) == whole
    said = engines.log_of(run, logs).read_text()
    assert ("goes on from the checkpoint at 100 frames" in said) == in_workers


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        ("killed", "killed by signal 9, as for lack of memory"),
        pytest.param("crashed", "killed by signal 11", marks=pytest.mark.slow),
        pytest.param("memory", "out of memory (MemoryError)", marks=pytest.mark.slow),
    ],
)
def test_a_process_that_ends_costs_what_came_after_its_last_checkpoint(fault, wanted, struck, tmp_path):
    whole = undisturbed("worlds:Struck", [0], tmp_path)
    struck(f"{fault} 110")
    environment = helpers.environment_variables() | {"STRUCK": str(tmp_path / "faults")}
    engine = LocalEngine(1, history.logs(tmp_path / "sweep"), environment)
    sweep, result, _ = swept(tmp_path / "sweep", engine, "task = 'worlds:Struck'\nseeds = 0")
    assert result == (None, {})
    (run,) = sweep.runs
    holds(causes(sweep, run), [wanted, ""])
    assert [attempt.after for attempt in sweep.history.of(sweep.key(run))] == [100, 200]
    assert evaluations(run.path) == whole


def test_a_newest_checkpoint_that_is_damaged_costs_what_came_after_the_one_before(struck, tmp_path):
    class Torn(Here):
        def start(self, run, state, slot, memory):
            if state.kind == "cut off":
                newest = max((run.path / "checkpoints").glob("0*"))
                os.truncate(next(newest.glob("*.safetensors")), 100)
            return super().start(run, state, slot, memory)

    whole = undisturbed("worlds:Struck", [0], tmp_path)
    struck("raised 160")
    logs = history.logs(tmp_path / "sweep")
    sweep, result, _ = swept(tmp_path / "sweep", Torn(logs), "task = 'worlds:Struck'\nseeds = 0")
    assert result == (None, {})
    (run,) = sweep.runs
    said = engines.log_of(run, logs).read_text()
    assert "000000159 is damaged" in said
    assert evaluations(run.path) == whole


def test_a_run_that_diverges_ends_alone_with_its_cause(tmp_path):
    out = tmp_path / "sweep"
    whole = undisturbed("helpers:PointMass", [0], tmp_path)
    text = "task = 'helpers:PointMass'\nseeds = 0\n[[list]]\ninitial_temperature = 1e38\n[[list]]\nutd = 1"
    sweep, result, _ = swept(out, Here(history.logs(out)), text)
    bad, good = sweep.runs
    assert list(result.failed) == [bad.path]
    holds(causes(sweep, bad), ["every seed failed: seed 0: "])  # not again: it would be the same
    assert "the policy chose nan at index 0 of its action" in result.failed[bad.path]
    assert {line.run: line.standing for line in status.lines(sweep.runs, out)} == {
        bad.path: "failed", good.path: "done"
    }  # fmt: skip
    assert evaluations(good.path) == whole


def test_a_seed_that_diverges_is_named_where_its_run_is_done(tmp_path, monkeypatch):
    out = tmp_path / "sweep"
    whole = undisturbed("helpers:NanForSeedOne", [0], tmp_path)
    text = "task = 'helpers:NanForSeedOne'\nseeds = '0:2'"
    sweep, result, said = swept(out, Here(history.logs(out)), text)
    (run,) = sweep.runs
    (line,) = status.lines(sweep.runs, out)
    monkeypatch.setattr(states, "newest_common", None)  # a run that stays as it was is not read again
    assert status.lines(sweep.runs, out) == [line]
    assert (result, line.standing) == ((None, {}), "done")
    assert line.why.startswith("seed 1 stopped: helpers:NanForSeedOne returned the reward nan")
    assert any(f"{run.name}: not tried again: failed (exit code 3): " in text for text in said)
    assert [row for row in evaluations(run.path) if row[0] == "0"] == whole
    assert len([row for row in evaluations(run.path) if row[0] == "1"]) < len(whole)


@pytest.mark.parametrize(
    ("number", "final"),
    [
        (errno.ENOSPC, False), (errno.ENOMEM, False), (errno.EMFILE, False), (errno.EAGAIN, False),
        (errno.EIO, False), (errno.ESTALE, False), (errno.ENOTCONN, False), (errno.EROFS, False),
        (errno.EACCES, True), (errno.EISDIR, True),
    ],
)  # fmt: skip
def test_what_the_state_of_a_machine_prevents_is_tried_again_also_at_the_beginning(number, final):
    cause = f"failed (exit code 2): crossq-wn: runs/x: {explained(OSError(number, os.strerror(number)))}"
    assert engines.is_final(cause, 2, State("missing", 0)) == final


@pytest.mark.parametrize(
    ("raised", "passes", "outage"),
    [
        ("OSError: [Errno 28] No space left on device: 'frames.bin'", True, True),
        ("OSError: [Errno 12] Cannot allocate memory", True, True),
        ("OSError: [Errno 16] Device or resource busy: '/dev/video0'", True, False),
        ("TimeoutError: [Errno 110] Connection timed out", True, False),
        ("RuntimeError: CUDA out of memory", False, False),
        ("RuntimeError: only 2 grippers are free", False, False),
    ],
)
def test_the_words_of_a_users_own_exception_are_no_outage(raised, passes, outage):
    for said in (
        f"every seed failed: seed 0: reach:Arm raised {raised}",
        f"cannot import 'x' for a task: {raised}",
    ):
        cause = f"failed (exit code 2): {said}; see sweep/logs/x.log"
        assert (may_pass(cause), tells_of_outage(cause)) == (passes, outage)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 3.0 GiB"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."),
        UserError("training would take about 9.0 GiB and only 2.0 GiB are free; try fewer seeds"),
    ],
)
def test_a_lack_of_memory_is_one_line_and_no_reason_to_give_up(error, monkeypatch):
    def run(arguments):
        raise error

    monkeypatch.setattr(dispatch, "run", run)
    said = command("train")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert not engines.is_final(f"failed (exit code 2): {said.err}", 2, State("missing", 0))


def test_another_error_of_the_program_is_no_lack_of_memory(monkeypatch):
    def run(arguments):
        raise RuntimeError("INTERNAL: no such thing")

    monkeypatch.setattr(dispatch, "run", run)
    with pytest.raises(RuntimeError, match="INTERNAL"):
        command("train")
