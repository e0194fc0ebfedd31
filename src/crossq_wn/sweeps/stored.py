"""Attempts at runs on nodes that share no folder: each fetches its run from a store, and stores it again."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from crossq_wn import files
from crossq_wn.errors import UserError, one_line
from crossq_wn.fences import LostLeaseError
from crossq_wn.files import MOST_JSON, MOST_TABLE
from crossq_wn.machine import resolved
from crossq_wn.runs.folders import SWEEP
from crossq_wn.runs.manifests import available
from crossq_wn.sweeps.engines import Job, Process, set_aside
from crossq_wn.sweeps.node import Outcome, Place, interrupts, watched
from crossq_wn.sweeps.plans import Planned, command, flat_name
from crossq_wn.sweeps.store import Claim, Snapshot, Store, unusable

_MOST_SAID = 2**16  # bytes of what a run printed that are sent back
_AGAIN = 10.0  # seconds until the next try where the store could not be reached
_LAST = 60.0  # seconds within which the last save of an attempt is tried again
_BESIDE = 8  # runs that are fetched side by side


class Stored(NamedTuple):
    """A run in a store, and what is called for it."""

    url: str  # of the store
    name: str  # of the run there
    train: tuple[str, ...]  # the arguments of crossq-wn up to the run directory, from the beginning
    frames: int  # environment frames per seed in the end


def attempt(stored: Stored, place: Place) -> Outcome:
    """Fetches a run, calls crossq-wn here, and stores the run after each checkpoint and at the end.

    Args:
        stored: which run.
        place: where to call it.

    Raises:
        UserError: another attempt at the run is alive, or the store cannot be used.
    """
    claim = Claim(Store(stored.url), stored.name)
    try:
        with tempfile.TemporaryDirectory(prefix="crossq-wn-") as scratch:
            log = Path(scratch) / "log"
            outcome = _attempt(claim, stored, place, Path(scratch) / Path(stored.name).name, log)
            return outcome._replace(said=files.read(log, MOST_TABLE)[-_MOST_SAID:])
    except LostLeaseError as lost:
        return Outcome(2, 0, 0.0, os.uname().nodename, str(lost).encode())
    finally:
        claim.end()


def _attempt(claim: Claim, stored: Stored, place: Place, folder: Path, log: Path) -> Outcome:
    snapshot = claim.store.fetch(stored.name, folder)
    if snapshot is not None and snapshot.trained:
        arguments: tuple[str, ...] = ("resume", str(folder), "--frames", str(stored.frames))
    else:
        shutil.rmtree(folder, ignore_errors=True)
        arguments = (*stored.train, str(folder))
    keeper = _Keeper(claim, folder)
    outcome = watched(Job(arguments, log), place, keeper.look)
    if folder.is_dir():
        with interrupts():  # of which another changes nothing: the run has ended
            _keep(claim, folder)
    return outcome


def _keep(claim: Claim, folder: Path) -> None:
    """Stores a run at the end of an attempt; tries it for a while, since nothing else is left of the run.

    Raises:
        LostLeaseError: there is a newer attempt.
        UserError: the store cannot be reached.
    """
    end = time.monotonic() + _LAST
    while True:
        try:
            claim.save(folder)
            return
        except LostLeaseError:
            raise
        except Exception as error:  # each kind of store has errors of its own
            if time.monotonic() >= end:
                raise UserError(f"{claim.run} cannot be stored: {one_line(error)}") from None
        time.sleep(_AGAIN)


class _Keeper:
    """Stores a run whenever it has a new checkpoint.

    Args:
        claim: on the run.
        folder: the run directory.
    """

    def __init__(self, claim: Claim, folder: Path) -> None:
        self._claim, self._folder = claim, folder
        self._kept, self._next = available(folder / "checkpoints"), 0.0

    def look(self) -> None:
        """Stores the run if there is a new checkpoint. Raises LostLeaseError if there is a newer attempt."""
        found = available(self._folder / "checkpoints")
        if found == self._kept or time.monotonic() < self._next:
            return
        try:
            self._claim.save(self._folder)
            self._kept = found
        except LostLeaseError:
            raise
        except Exception:  # each kind of store has errors of its own; the last save of all must succeed
            self._next = time.monotonic() + _AGAIN


class Mirror:
    """Keeps the sweep's folder on the machine that drives it as the store has it.

    Args:
        url: of the store.
        out: the folder of the sweep.

    Raises:
        UserError: the store cannot be used, or lies in the folder.
    """

    def __init__(self, url: str, out: Path) -> None:
        _refuse_nested(url, out)
        self._url, self._store, self._out = url, Store(url), out
        self._threads = ThreadPoolExecutor(_BESIDE)

    def stored(self, run: Planned) -> Stored:
        """What an attempt at a run has to know."""
        *train, _ = command(run)
        return Stored(self._url, self._name(run), tuple(train), run.config.options.frames)

    def refresh(self, run: Planned) -> None:
        """Brings the directory of a run here up to date; if the store does not have it yet, stores it.

        Training that was done here alone is set aside if the store has the run all the same.
        """
        name = self._name(run)
        newest, mark = self._store.newest(name), self._folder("stored", name)
        if newest is None:
            if available(run.path / "checkpoints"):
                self._give(run.path, name)
            return
        if _has_more(run.path, newest) or (available(run.path / "checkpoints") and not mark.exists()):
            set_aside(run.path)
        if run.path.exists() and mark.exists() and files.read(mark, MOST_JSON) == newest.name.encode():
            return
        fetched, old = self._folder("fetched", name), self._folder("old", name)
        snapshot = self._store.fetch(name, fetched)
        shutil.rmtree(old, ignore_errors=True)
        run.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            run.path.rename(old)
        # The mark first: a run without one counts as trained here.
        files.write_atomically(mark, snapshot.name if snapshot else "", within=self._out)
        fetched.rename(run.path)
        shutil.rmtree(old, ignore_errors=True)

    def refresh_all(self, runs: Sequence[Planned]) -> None:
        """Brings all runs up to date. Raises UserError if the store cannot be used."""
        try:
            list(self._threads.map(self.refresh, runs))
        except UserError:
            raise
        except Exception as error:
            raise unusable(self._url, error) from None

    def mirrored(self, process: Process, run: Planned) -> "MirroredProcess":
        """A process whose run is fetched once it has ended."""
        return MirroredProcess(process, lambda: self._threads.submit(self.refresh, run))

    def _give(self, folder: Path, name: str) -> None:
        """Stores a run that was trained here."""
        claim = Claim(self._store, name)
        try:
            claim.save(folder)
        finally:
            claim.end()

    def _name(self, run: Planned) -> str:
        return run.path.relative_to(self._out).as_posix()

    def _folder(self, kind: str, name: str) -> Path:
        folder = self._out / SWEEP / kind
        folder.mkdir(parents=True, exist_ok=True)
        return folder / flat_name(Path(name))


def _refuse_nested(url: str, out: Path) -> None:
    """Raises UserError if a store on this machine is the folder of the sweep, lies in it, or contains it."""
    kind, _, path = url.partition("://")
    if kind not in ("file", "local"):
        return
    store, folder = resolved(Path(path)), resolved(out)
    if store == folder or store in folder.parents or folder in store.parents:
        raise UserError(
            f"--store {url} and the sweep's folder {out} lie in one another: "
            "choose a --store beside the folder"
        )


def _has_more(folder: Path, stored: Snapshot) -> bool:
    """Whether a run here has a newer checkpoint than the store."""
    there = [-1]
    for path in stored.files:
        kind, _, rest = path.partition("/")
        name = rest.partition("/")[0]
        if kind == "checkpoints" and name.isdigit():
            there.append(int(name))
    here = [-1, *(int(path.name) for path in available(folder / "checkpoints"))]
    return max(here) > max(there)


@dataclass
class MirroredProcess:
    """A process elsewhere whose run is fetched once it has ended; see `Process`."""

    process: Process
    fetch: Callable[[], "Future[None]"]
    fetched: "Future[None] | None" = None

    def ended(self) -> bool:
        """Whether it has ended, and its run is here."""
        if not self.process.ended():
            return False
        if self.fetched is None:
            self.fetched = self.fetch()
        return self.fetched.done()

    def stop(self) -> None:
        """Asks it to end."""
        self.process.stop()

    def memory(self) -> int:
        """The bytes that it takes, or took at most."""
        return self.process.memory()

    def worked(self) -> float | None:
        """The seconds that it worked."""
        return self.process.worked()

    def node(self) -> str:
        """The name of its machine, once it has ended and was not lost."""
        return self.process.node()

    def failure(self) -> tuple[str, int]:
        """Why it ended before its run had finished, and its exit code."""
        error = self.fetched.exception() if self.fetched else None
        if error is not None:
            return f"failed, as it cannot be fetched from the store: {one_line(error)}", 1
        return self.process.failure()
