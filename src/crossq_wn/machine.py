"""The machine: processors, memory, and files that survive a power cut."""

import os
import resource
from pathlib import Path

from crossq_wn.errors import UserError


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that programs may still take, or None where the system does not say.

    The machine's, or less in a container or a job whose control group has a limit.
    """
    free = [_of_machine(root), *_of_control_groups(root)]
    known = [value for value in free if value is not None]
    return min(known) if known else None


def _of_machine(root: Path) -> int | None:
    try:
        fields = dict(line.split(":") for line in (root / "proc/meminfo").read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _of_control_groups(root: Path) -> list[int | None]:
    """Limit less use of the group that this process is in and of those around it (version 2)."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    own = next((line.removeprefix("0::").strip("/") for line in lines if line.startswith("0::")), "")
    top = root / "sys/fs/cgroup"
    return [
        _of_control_group(folder)
        for folder in (top / own, *(top / own).parents)
        if folder.is_relative_to(top)
    ]


def _of_control_group(folder: Path) -> int | None:
    try:
        limit, used = (int((folder / f"memory.{name}").read_text()) for name in ("max", "current"))
        counters = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(counters["inactive_file"]))  # cached files give way
    except (OSError, KeyError, ValueError):  # "max" is no limit
        return None


def resident_memory() -> int:
    """Bytes of memory that this process takes now; its peak where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return peak_memory()


def peak_memory() -> int:
    """Bytes of memory that this process has taken at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def check_memory(capacity: int, each: int, seeds: int) -> int:
    """The bytes that the replays of so many seeds will take, `each` for `capacity` rows.

    Raises UserError if they do not fit.
    """
    needed, available = seeds * each, available_memory()
    if available is not None and needed > available:
        fitting = int(capacity * 0.8 * available / needed)
        raise UserError(
            f"replay of {capacity:,} rows for {seeds} seed(s) takes {needed / 2**30:.1f} GiB and only "
            f"{available / 2**30:.1f} GiB are free: try --replay-size {fitting} or fewer seeds"
        )
    return needed


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def to_disk(path: Path) -> None:
    """Returns once a file, or a folder's list of names, would survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
