"""Signs of life of sweeps, by which `--status` tells whether anything starts the runs that wait.

OUT/.sweep/present/HOST-PID    names the boot of its machine; locked, and touched, while the sweep lives
"""

import contextlib
import fcntl
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from crossq_wn import files
from crossq_wn.machine import boot
from crossq_wn.runs.folders import SWEEP
from crossq_wn.runs.leases import PATIENCE, RENEWED


@contextlib.contextmanager
def present(out: Path) -> Iterator[None]:
    """Gives signs of life in a sweep's folder for as long as this context lasts, if its disk takes them."""
    path, ended = _folder(out) / f"{platform.node()}-{os.getpid()}", threading.Event()
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            _folder(out).mkdir(exist_ok=True)  # without that above it: a mount that is gone is not made anew
            _clear(out)
            file = stack.enter_context(files.open_lock(path))
            file.write(boot().encode())
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # last: some network file systems have no locks
        threading.Thread(target=_live, args=(path, ended), name="sign of life", daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            with contextlib.suppress(OSError):
                files.remove(path, within=out)


def lives(out: Path) -> bool:
    """Whether a sweep works on a folder; on another machine, as far as the clocks of both agree."""
    return any(_lives(_folder(out) / name) for name in files.names(_folder(out)))


def _lives(path: Path) -> bool:
    fresh = False
    try:
        with files.opened(path) as file:
            here = file.read(99).decode(errors="replace") == boot()
            fresh = time.time() - os.fstat(file.fileno()).st_mtime < PATIENCE
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # it is gone, or there are no locks
        return fresh
    return fresh and not here  # of this machine, its lock is free: it has ended


def _clear(out: Path) -> None:
    """Removes what sweeps have left that were killed."""
    for name in files.names(_folder(out)):
        if not _lives(_folder(out) / name):
            files.remove(_folder(out) / name, within=out)


def _live(path: Path, ended: threading.Event) -> None:
    while not ended.wait(RENEWED):
        with contextlib.suppress(OSError):  # the next sign may get through
            os.utime(path)


def _folder(out: Path) -> Path:
    return out / SWEEP / "present"
