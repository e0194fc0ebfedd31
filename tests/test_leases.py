"""Can only one process write to a run, and can one that was shut out not write at all?"""

import errno
import fcntl
import os
import shutil
import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import crossq_wn
from crossq_wn import fences, files
from crossq_wn.errors import UserError
from crossq_wn.learning.replay import Replay
from crossq_wn.machine import boot
from crossq_wn.runs import checkpoints, leases
from crossq_wn.runs.checkpoints import SeedState
from crossq_wn.runs.directory import RunDirectory
from crossq_wn.runs.leases import Holder, Seen
from crossq_wn.runs.tables import Table
from crossq_wn.runs.writing import Writer
from helpers import TINY, TINY_OPTIONS, TINY_SETTINGS, same_run, start_cli

SLOW = pytest.mark.slow

# --- A run in small, with everything that training writes


class Small:
    """A run whose rows and checkpoints depend on nothing but frames."""

    def __init__(self, path, **options):
        path.mkdir(exist_ok=True)
        self.run = RunDirectory(path, **options)
        self.tables = [
            Table(path / "metrics.csv", ("a",), lines=True),
            Table(path / "eval.csv", "a", kept=True),
        ]
        self.writer, self.replay, self.frames = Writer(self.run.checkpoints), Replay(100, 2, 1), 0

    def begin(self):
        self.run.write_json("manifest.json", {"frames": 0})
        if (self.run.path / "checkpoints").exists() and checkpoints.available(self.run.checkpoints):
            saved = checkpoints.newest(self.run.checkpoints, print)
            self.writer.continue_from(saved)
            saved.fill(0, self.replay)
            self.frames = saved.frames
            for table, at in zip(self.tables, saved.common["logs"], strict=True):
                table.resume(at, print)
        else:
            for table in self.tables:
                table.begin()
            self.save()
        return self

    def train(self, until=50):
        while self.frames < until:
            self.frames += 10
            for i in range(10):
                now = self.frames + i
                self.replay.add(
                    np.full(2, now), np.full(1, now), now, np.full(2, now), terminated=False, last=False
                )
            for table in self.tables:
                table.append([{"a": self.frames}])
            if self.frames % 20 == 0:
                self.save()
        self.save()
        self.run.write_json("manifest.json", {"frames": self.frames})
        self.run.close()

    def save(self):
        state = SeedState({"w": np.full(3, self.frames)}, {"n": self.frames})
        logs = [table.position() for table in self.tables]
        self.writer.save(self.frames, {"logs": logs}, {0: state}, {0: self.replay}, set())


def contents(run):
    """Every file of a run by name, without what only says who holds it."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and not path.relative_to(run).parts[0].startswith(".l")
    }


@pytest.fixture
def fast(monkeypatch):
    """Signs of life in quick succession."""
    monkeypatch.setattr(leases, "RENEWED", 0.05)
    monkeypatch.setattr(leases, "PATIENCE", 0.4)
    monkeypatch.setattr(leases, "_LOOK", 0.02)


class Interrupted:
    """Stands for `os` or `shutil` in a module: calls a function after the nth call of the file system."""

    def __init__(self, module, count):
        self._module, self._count = module, count

    def __getattr__(self, name):
        found = getattr(self._module, name)
        if name not in ("open", "replace", "unlink", "mkdir", "rmtree"):
            return found

        def call(*arguments, **options):
            result = found(*arguments, **options)
            self._count()
            return result

        return call


def as_expected(place, expected):
    """Asserts that a run is as it would be undisturbed, but for older checkpoints that are still there."""
    found = contents(place)
    more = found.keys() - expected.keys()
    assert all(name.startswith(("checkpoints/0000000", "checkpoints/replay")) for name in more), more
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("first", "every"), [(0, 7), (20, 7), pytest.param(0, 1, marks=SLOW), pytest.param(20, 1, marks=SLOW)]
)
def test_who_is_shut_out_at_any_moment_changes_nothing_more(first, every, fast, tmp_path):
    """A process is stopped after one of its calls, another takes over and finishes, the first goes on."""
    Small(tmp_path / "alone").begin().train()
    expected = contents(tmp_path / "alone")
    place, moment, lost = tmp_path / "run", 1, []
    (tmp_path / "alias").symlink_to(place)  # the other process has its own name for the run
    while True:
        shutil.rmtree(place, ignore_errors=True)
        if first:
            Small(place).begin().train(until=first)
        calls = []

        def stop(moment=moment, calls=calls):
            calls.append(moment)
            if len(calls) == moment:
                Small(tmp_path / "alias", take_over=True).begin().train()
                as_expected(place, expected)

        stopped = Small(place)
        with pytest.MonkeyPatch.context() as patch:
            for module in (files, fences):
                patch.setattr(module, "os", Interrupted(os, stop))
            patch.setattr(files, "shutil", Interrupted(shutil, stop))
            try:
                stopped.begin().train()
            except fences.LostLeaseError:
                lost.append(moment)
        stopped.run.close()
        as_expected(place, expected)
        if len(calls) < moment:  # it had finished before
            break
        moment += every
    assert len(lost) > 15
    assert lost[-1] > moment - every - 20  # the last calls give the run back


# --- Who gets a run


def test_a_stopped_owner_loses_the_run_and_cannot_write_one_more_row(tmp_path, monkeypatch):
    """The command line, SIGSTOP and SIGCONT: once the owner's signs of life are old, `resume` takes over."""
    run, task = tmp_path / "run", "helpers:PointMass"
    plain = {"algorithm": "sac", "diagnostics": False}
    crossq_wn.train(task, frames=350, out=tmp_path / "alone", **TINY_SETTINGS, **TINY_OPTIONS, **plain)
    owner = start_cli(
        "train", task, "--frames", 350, "--out", run, *TINY, "--algorithm", "sac", "--no-diagnostics",
        cwd=tmp_path, env={"HELPERS_SLEEP": "0.01"},
    )  # fmt: skip
    try:
        while not list(run.glob("checkpoints/0000001*")):
            assert owner.poll() is None, owner.communicate()
            time.sleep(0.05)
        owner.send_signal(signal.SIGSTOP)
        with pytest.raises(
            UserError, match=rf"in use by another process \(process {owner.pid} on .*--take-over"
        ):
            crossq_wn.resume(run)
        monkeypatch.setattr(leases, "PATIENCE", 0.1)
        monkeypatch.setattr(leases, "RENEWED", 0.1)
        assert crossq_wn.resume(run).frames == 350
        same_run(tmp_path / "alone", run)
        before = contents(run)
        owner.send_signal(signal.SIGCONT)
        _, said = owner.communicate(timeout=120)
    finally:
        owner.kill()
    assert owner.returncode == 2
    assert said.count("was taken over by another process: this one stops") == 1
    assert "Traceback" not in said
    same_run(tmp_path / "alone", run)
    assert contents(run) == before
    assert crossq_wn.resume(run).untouched


@pytest.fixture
def without_locks(monkeypatch, fast):
    """A file system that has no locks, as some network file systems."""

    def refuse(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_without_locks_a_live_owner_keeps_the_run_and_a_dead_one_loses_it(without_locks, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "alias").symlink_to("run")
    told = []
    owner = RunDirectory(tmp_path / "run")
    with pytest.raises(UserError, match="in use by another process"):
        RunDirectory(tmp_path / "alias", tell=told.append)
    assert "waiting up to 0 s for a sign of life" in told[0]
    owner._lease._ended.set()  # as if its machine had lost its power, or its network
    owner._lease._life.join()
    other = RunDirectory(tmp_path / "alias")
    with pytest.raises(fences.LostLeaseError):
        owner.write_json("manifest.json", {})
    owner.close()
    other.write_json("manifest.json", {})
    other.close()
    start = time.monotonic()
    RunDirectory(tmp_path / "run").close()  # who gives a run back leaves nothing to wait for
    assert time.monotonic() - start < leases.PATIENCE
    assert len(list((tmp_path / "run").glob(".lease-*"))) == 1


def test_who_gives_the_run_back_while_another_waits_is_not_waited_for(without_locks, tmp_path):
    (tmp_path / "alias").symlink_to("run")
    (tmp_path / "run").mkdir()
    owner = RunDirectory(tmp_path / "run")
    owner._lease._ended.set()
    threading.Timer(0.1, owner.close).start()
    RunDirectory(tmp_path / "alias").close()


def want(run, i, ready, opened, refused):
    """Opens a run under a name of its own, at the same moment as others do."""
    alias = run.with_name(f"{run.name}-alias-{i}")
    alias.symlink_to(run)
    ready.wait()
    try:
        opened.append(RunDirectory(alias))
    except UserError as reason:
        refused.append(str(reason))


def can_write(run):
    """Whether who opened a run still has it; closes it."""
    try:
        run.write_json("manifest.json", {})
    except fences.LostLeaseError:
        return False
    finally:
        run.close()
    return True


def test_of_many_that_want_a_run_at_once_one_gets_it(without_locks, tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "PATIENCE", 5)  # on a busy machine nobody may be taken for dead
    for attempt in range(10):
        run, ready, opened, refused = tmp_path / f"run-{attempt}", threading.Barrier(6), [], []
        run.mkdir()
        threads = []
        for i in range(6):
            threads.append(threading.Thread(target=want, args=(run, i, ready, opened, refused)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(opened) + len(refused) == 6
        assert sum(map(can_write, opened)) == 1
        assert all("in use by another process" in reason for reason in refused)


HOLDERS = st.none() | st.builds(
    Holder, st.just("node"), st.sampled_from([boot(), "another boot"]), st.integers(1, 9), st.booleans()
)


@given(HOLDERS, st.sampled_from(["ours", "another's", "impossible"]), st.integers(-10_000, 10_000))
def test_how_long_a_holder_is_waited_for(holder, flock, age):
    """Whatever the clocks say, nobody is shut out without a look, and nobody waits longer than needed."""
    now = 10**18
    waited = leases._patience(Seen(1, holder, now - age * 10**9), flock, lambda: now)
    if flock == "another's":
        assert waited == (3 * leases.RENEWED if holder and age > leases.PATIENCE else None)
    elif holder is None or (flock == "ours" and holder.locked and holder.boot == boot()):
        assert waited == 0
    else:
        assert waited == leases.PATIENCE >= 3 * leases.RENEWED


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"host": 1}', b"[" * 10_000, None])
def test_a_strangers_lease_is_no_lease(content, fast, tmp_path):
    folder = tmp_path / ".lease-000009"
    if content is None:
        folder.symlink_to("/")
    else:
        folder.mkdir()
        (folder / "holder.json").write_bytes(content)
    (tmp_path / ".lease-x").touch()
    assert leases.seen(tmp_path)[:2] == (9, None)
    RunDirectory(tmp_path).close()
    assert {path.name for path in tmp_path.iterdir()} == {".lock", ".lease-000010", ".lease-x"}


def test_signs_of_life_are_given_while_nothing_else_happens(fast, tmp_path):
    run = RunDirectory(tmp_path)
    first = leases.seen(tmp_path).sign
    time.sleep(0.3)
    assert leases.seen(tmp_path).sign > first
    run.close()
    assert leases.seen(tmp_path).holder is None


def test_a_lease_that_has_ended_leaves_alone_what_comes_after_it(fast, tmp_path):
    first, _ = leases.take(tmp_path)
    first.end()
    shutil.rmtree(first.folder)  # as where a run that cannot start is discarded
    second, _ = leases.take(tmp_path)
    assert second.folder == first.folder
    first.end()
    assert leases.seen(tmp_path).holder is not None
    second.end()
    assert leases.seen(tmp_path).holder is None


def test_a_lock_that_was_replaced_meanwhile_is_not_taken_for_the_run_s(tmp_path, monkeypatch):
    real, calls = fcntl.flock, []

    def replace_then_lock(file, how):
        calls.append(how)
        if len(calls) == 1:
            (tmp_path / "new").touch()
            (tmp_path / "new").replace(tmp_path / ".lock")
        real(file, how)

    monkeypatch.setattr(leases, "fcntl", SimpleNamespace(flock=replace_then_lock, LOCK_EX=2, LOCK_NB=4))
    run = RunDirectory(tmp_path)
    assert len(calls) == 2
    run.close()
