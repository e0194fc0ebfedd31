"""Folders that hold runs: which runs there are, and which one a user means."""

import os
from collections.abc import Iterator
from pathlib import Path

from crossq_wn.errors import UserError, stated
from crossq_wn.machine import expanded
from crossq_wn.runs.leases import is_lease

_TELLING = {"config.json", "eval.csv", "manifest.json"}  # a folder with one of these is a run, or was one
SWEEP = ".sweep"  # the folder in which a sweep keeps its own; what lies there is no run
_NAMED = 5  # runs that a message names at most


def find(root: Path) -> list[Path]:
    """Every directory below a folder that holds a run, or the remains of one."""
    found = []
    for folder, names in walk(root):
        telling = _TELLING.intersection(names)
        # Checkpoints have a manifest.json too.
        if telling and (telling != {"manifest.json"} or Path(folder).parent.name != "checkpoints"):
            found.append(folder)
    found.sort(key=lambda folder: folder.split(os.sep))
    return list(map(Path, found))


def run_in(path: Path) -> Path:
    """The run that a user means by a folder: the folder itself, or the only run below it.

    Args:
        path: the folder. If there is no run in it, it is returned as it is, for others to refuse.

    Raises:
        UserError: there are several runs below it; the message names them.
    """
    if (path / "checkpoints").exists() or any((path / name).exists() for name in _TELLING):
        return path
    found = find(path)
    if len(found) < 2:
        return found[0] if found else path
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    named = ", ".join(map(str, found[:_NAMED]))
    raise UserError(f"{path} holds {len(found)} runs: name one of {named}{more}")


def named(name: str, path: str | os.PathLike[str]) -> Path:
    """Reads an argument that names a folder. Raises UserError if it is empty or no path."""
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"{stated(name, path)}: it must be a path, such as 'runs/walker-run'")
    if not str(path):
        raise UserError(f"{name} is '': a folder has a name, and this folder is called .")
    return expanded(path)


def walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yields every folder from a root down, with the names of its entries that are not folders.

    Links to folders are not followed, except for the root; folders that cannot be read, those of leases and
    sweeps, and the checkpoints of runs are passed over.
    """
    waiting = [str(root)]
    while waiting:
        folder, others, below = waiting.pop(), [], []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        below.append(entry)
                    else:
                        others.append(entry.name)
        except OSError:
            continue
        passed = {SWEEP} if _TELLING.isdisjoint(others) else {SWEEP, "checkpoints"}
        for entry in below:
            # Half a checkpoint may lie in a lease, and a copy of a run in a sweep's.
            if entry.name not in passed and not is_lease(entry.name):
                waiting.append(entry.path)
        yield folder, others
