"""Fences: a process writes to a run only while it holds the lease on it.

The lease is a folder inside the run. What its holder writes is made in that folder and then renamed to its
place, and what it removes is first renamed into that folder. Whoever takes the run over removes the folder,
and from then on none of these renames can succeed. So a process that was stopped, or cut off from a shared
disk, and comes back cannot write, whatever it was about to do: there is no moment between check and write.
Rows are appended to open files, which whoever takes over replaces by new ones before it reads them.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from crossq_wn.errors import UserError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW

_leases: dict[Path, Path] = {}  # run directory -> the folder of the lease that this process has on it


class LostLeaseError(UserError):
    """Another process has taken a run over, or it was moved, so this one must not write to it."""

    def __init__(self, run: Path, *, moved: bool = False) -> None:
        what = "was taken over by another process: this one stops, and has written nothing since"
        if moved:
            what = "was moved or removed while it was in use: `crossq-wn resume` goes on where it is now"
        super().__init__(f"{run} {what}")


def enclose(run: Path, lease: Path) -> None:
    """Lets this process write to a run only while a folder is there.

    Args:
        run: the run directory, as the paths that are written begin.
        lease: the folder, inside the run.
    """
    _leases[run] = lease


def open_up(run: Path) -> None:
    """Forgets the lease on a run."""
    _leases.pop(run, None)


def lease_over(path: Path) -> Path | None:
    """The folder of the lease that writing to a path takes; None outside of runs that are open here."""
    for run, lease in _leases.items():
        if path.is_relative_to(run):
            return lease
    return None


@contextlib.contextmanager
def held(path: Path) -> Iterator[int | None]:
    """Opens the folder of the lease that writing to a path takes; yields its handle, or None without one.

    Raises:
        LostLeaseError: the lease is lost. It replaces errors of the file system that follow from that.
    """
    lease = lease_over(path)
    if lease is None:
        yield None
        return
    # Opening asks a file server anew, where looking up a name may answer from a cache.
    handle = _opened(lease)
    try:
        yield handle
    except OSError:
        os.close(_opened(lease))
        raise
    finally:
        os.close(handle)


def require(path: Path) -> None:
    """Raises LostLeaseError if this process had a lease that writing to a path takes, and has lost it."""
    with held(path):
        pass


def workplace(folder: Path) -> Path:
    """Where to make what is then moved into a folder in one step: in the lease, or else in the folder."""
    return lease_over(folder) or folder


def take_in(name: str, folder: int, lease: int) -> str:
    """Renames a file or folder into that of the lease, which fails if the lease is lost.

    Args:
        name: its name.
        folder: the handle of the folder that it is in.
        lease: the handle of the lease's.

    Returns:
        Its name there.
    """
    taken = f"{secrets.token_hex(4)}.taken"
    os.replace(name, taken, src_dir_fd=folder, dst_dir_fd=lease)
    return taken


def _opened(lease: Path) -> int:
    try:
        return os.open(lease, _FOLDER)
    except FileNotFoundError:
        raise LostLeaseError(lease.parent, moved=not lease.parent.exists()) from None
