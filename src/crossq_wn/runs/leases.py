"""The lease on a run directory: which process may write to it, on this machine or on any other.

RUN/
  .lock              held with flock, for a quick answer between the processes of one machine
  .lease-000003/     made by the third process that opened the run; the folder of its fence (`fences`)
    holder.json      who that is; its time of change is a sign of life, and without it nobody holds the run

Making a folder is exclusive on every file system, so of several processes one gets the next number. It then
removes the folders of earlier numbers, and their holders have lost the run. Whether a holder is alive is told
by watching its signs of life for a while: clocks of different machines are never compared. The last folder
stays, empty, when a run is given back: if numbers began again, a process that was cut off could find its own.
"""

import contextlib
import fcntl
import json
import os
import platform
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from crossq_wn import fences, files
from crossq_wn.errors import UserError, option
from crossq_wn.machine import boot

RENEWED = 5.0  # seconds between signs of life; a thread gives them, also while programs compile
PATIENCE = 60.0  # seconds without one after which a holder counts as gone
_LOOK = 0.5  # seconds between looks at a holder
_TRIES, _TRY = 4, 0.02  # attempts to lock, and seconds between them

_HOLDER = "holder.json"
_MOST = 4096  # bytes of it that are read
_NAME = re.compile(r"\.lease-(\d{1,9})")
Tell = Callable[[str], None]
Flock = Literal["ours", "another's", "impossible"]


class Holder(NamedTuple):
    """The process that holds a lease."""

    host: str
    boot: str  # which start of which machine
    pid: int
    locked: bool  # whether it has locked the run with flock, too

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Seen(NamedTuple):
    """What was found of leases on a run."""

    number: int  # of the newest; 0: none has ever been taken
    holder: Holder | None  # None: nobody holds it
    sign: int  # of the holder's life: changes while it lives; nanoseconds of the file server's clock


class Lease:
    """A lease that this process holds, until `end` or until another process takes the run over.

    Args:
        run: the run directory.
        number: of the lease, whose folder is there.
        lock: the open file `.lock`.
    """

    def __init__(self, run: Path, number: int, lock: BinaryIO) -> None:
        self.run, self.number, self.folder, self._lock = run, number, _folder(run, number), lock
        self._ended = threading.Event()
        self._life = threading.Thread(target=self._live, name=f"lease on {run}", daemon=True)

    def begin(self, holder: Holder) -> None:
        """Fences the run, names its holder, and shuts earlier holders out.

        Raises:
            LostLeaseError: another process was faster.
        """
        fences.enclose(self.run, self.folder)
        try:
            files.write_atomically(self.folder / _HOLDER, json.dumps(holder._asdict()), within=self.run)
            if seen(self.run).number > self.number:
                raise fences.LostLeaseError(self.run)
            _shut_out(self.run, self.folder)
        except FileNotFoundError:  # who was faster has removed the folder of this lease
            fences.open_up(self.run)
            raise fences.LostLeaseError(self.run) from None
        except BaseException:
            fences.open_up(self.run)
            raise
        self._life.start()

    def end(self) -> None:
        """Gives the run back; a second call does nothing, because the lease may then be another's."""
        if self._ended.is_set():
            return
        self._ended.set()
        try:
            with contextlib.suppress(fences.LostLeaseError, OSError):
                files.remove(self.folder / _HOLDER, within=self.run)
        finally:
            fences.open_up(self.run)
            self._lock.close()

    def _live(self) -> None:
        while not self._ended.wait(RENEWED):
            try:
                os.utime(self.folder / _HOLDER, follow_symlinks=False)  # by the file server's clock
            except FileNotFoundError:
                return  # lost, as the next write will find
            except OSError:
                continue  # the next sign may get through


def take(run: Path, *, over: bool = False, tell: Tell = lambda text: None) -> tuple[Lease, str | None]:
    """Takes the lease on a run.

    Args:
        run: the run directory, which exists.
        over: whether to take it over from a holder that may be alive.
        tell: is told in one line if that takes a while.

    Returns:
        The lease, and why the file system has no locks; None if it has.

    Raises:
        UserError: another process holds it and is alive.
    """
    lock, flock, unlocked = _locked(run)
    try:
        number = 1 + (seen(run) if over else _wait(run, flock, lock, tell)).number
        try:
            _folder(run, number).mkdir()
        except FileExistsError:
            raise in_use(run, seen(run).holder) from None
        if flock == "another's":  # of a process that is stopped, and must not keep later ones out
            lock.close()
            lock = _new_lock(run, _folder(run, number))
        lease = Lease(run, number, lock)
        try:
            lease.begin(Holder(platform.node(), boot(), os.getpid(), flock != "impossible"))
        except fences.LostLeaseError:
            raise in_use(run, seen(run).holder) from None
    except BaseException:
        lock.close()
        raise
    return lease, unlocked


def refuse_if_used(run: Path) -> None:
    """Raises UserError if another process certainly holds a run; does not wait to find out."""
    before = seen(run)
    if is_used(run, before):
        raise in_use(run, before.holder)


def is_used(run: Path, before: Seen) -> bool | None:
    """Whether another process certainly works on a run; None if only waiting for a sign of life would tell.

    Args:
        run: the run directory.
        before: what `seen` found there.
    """
    try:
        lock, flock, _ = _locked(run)
        with lock:
            seconds = _patience(before, flock, lambda: _now(lock))
    except OSError:  # of a run that this user may only read, or of a disk that is gone
        return None if before.holder else False
    return True if seconds is None else None if seconds else False


def seen(run: Path, names: Sequence[str] | None = None) -> Seen:
    """Looks at the leases on a run.

    Args:
        run: the run directory.
        names: those in it, if they are known.
    """
    number = 0
    for name in files.names(run) if names is None else names:
        if match := _NAME.fullmatch(name):
            number = max(number, int(match[1]))
    file_of_holder = _folder(run, number) / _HOLDER
    if not os.path.lexists(file_of_holder):  # the usual case, quickly
        return Seen(number, None, 0)
    try:
        with files.opened(file_of_holder, within=run) as file:
            return Seen(number, _read(file), os.fstat(file.fileno()).st_mtime_ns)
    except (FileNotFoundError, files.RefusedError):  # what we do not write, such as a link, holds nothing
        return Seen(number, None, 0)
    except OSError:
        return Seen(number, Holder("an unknown machine", "", 0, False), 0)


def alive(run: Path, found: Seen) -> bool:
    """Whether a process works on a run; on another machine, as far as the clocks of both agree."""
    if found.holder is None:
        return False
    used = is_used(run, found)
    return time.time() - found.sign / 1e9 < PATIENCE if used is None else used


def is_lease(name: str) -> bool:
    """Whether a name in a run directory is that of a lease."""
    return _NAME.fullmatch(name) is not None


def in_use(run: Path, holder: Holder | None) -> UserError:
    """The error for a run that another process holds."""
    who = f" ({holder})" if holder is not None and holder.pid else ""
    return UserError(
        f"{run} is in use by another process{who}: wait for it, stop it, or choose another {option('out')}; "
        f"if it is cut off, `crossq-wn resume {run} --take-over` shuts it out"
    )


def _wait(run: Path, flock: Flock, lock: BinaryIO, tell: Tell) -> Seen:
    """Waits until the holder of a run is known to be gone; returns what there is of its lease.

    Raises:
        UserError: it is alive.
    """
    before = seen(run)
    seconds = _patience(before, flock, lambda: _now(lock))
    if seconds is None:
        raise in_use(run, before.holder)
    if seconds:
        tell(f"{run} is held by {before.holder}: waiting up to {seconds:.0f} s for a sign of life from it")
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(_LOOK, left))
        now = seen(run)
        if now.holder is None and flock != "another's":
            return now  # it has given the run back
        if now != before:
            raise in_use(run, now.holder)
    return before


def _patience(before: Seen, flock: Flock, now: Callable[[], int]) -> float | None:
    """The seconds to wait for a sign of life before a run is taken over; None: it is certainly in use.

    Args:
        before: what there is of leases.
        flock: whose the lock is.
        now: the time by the file server's clock, in nanoseconds.
    """
    holder = before.holder
    if flock == "another's":
        # A process that is stopped keeps its lock, so its last sign of life decides.
        old = holder is not None and now() - before.sign > PATIENCE * 1e9
        return 3 * RENEWED if old else None
    if holder is None:
        return 0.0
    if flock == "ours" and holder.locked and holder.boot == boot():
        return 0.0  # it ran on this machine, and its lock is free: it has ended
    return PATIENCE


def _locked(run: Path) -> tuple[BinaryIO, Flock, str | None]:
    """Opens `.lock` and tries to lock it; returns the file, whose the lock is, and why there are no locks."""
    tries = 0
    while True:
        lock = files.open_lock(run / ".lock")
        try:
            # The system releases the lock when the process ends, even by kill -9.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tries += 1
            if tries == _TRIES:
                return lock, "another's", None
            lock.close()
            time.sleep(_TRY)  # a process that only looks whether the run is used has the lock for a moment
            continue
        except OSError as error:  # some network file systems have no locks
            return lock, "impossible", error.strerror
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), os.lstat(run / ".lock")):
                return lock, "ours", None
        lock.close()  # it was replaced meanwhile


def _new_lock(run: Path, folder: Path) -> BinaryIO:
    """Puts a locked file in the place of `.lock`, of which a process that is stopped has the lock."""
    lock = files.open_lock(folder / ".lock")
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    files.move(folder / ".lock", run / ".lock", within=run)
    return lock


def _shut_out(run: Path, folder: Path) -> None:
    """Removes the folders of all earlier leases, and whatever else is in the new one's."""
    for _ in range(5):  # a process that is being shut out may still be adding to its folder
        left = [run / name for name in files.names(run) if is_lease(name) and name != folder.name]
        left += [folder / name for name in files.names(folder, within=run) if name != _HOLDER]
        if not left:
            return
        for path in left:
            with contextlib.suppress(OSError):
                files.remove(path, within=run)


def _read(file: BinaryIO) -> Holder | None:
    """Reads who holds a lease; None if it is not of our making, since our files are never half written."""
    try:
        values = json.loads(file.read(_MOST))
        return Holder(str(values["host"]), str(values["boot"]), int(values["pid"]), bool(values["locked"]))
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def _folder(run: Path, number: int) -> Path:
    return run / f".lease-{number:06d}"


def _now(lock: BinaryIO) -> int:
    """The time by the clock of the file server, in nanoseconds."""
    os.utime(lock.fileno())
    return os.fstat(lock.fileno()).st_mtime_ns
