"""The machine: memory, processors, and the user's folders."""

import contextlib
import ctypes
import errno
import gc
import hashlib
import math
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from crossq_wn.errors import UserError, counted, one_line, option
from crossq_wn.installation import install_command
from crossq_wn.lazy import jax

_SCAN = 5.0  # seconds for which a look at all processes holds
_SELDOM = (50_000, 20, 100)  # thresholds of Python's search for unreachable cycles
# Where a kernel can do it, a process gets SIGTERM when its parent is gone (1 is PR_SET_PDEATHSIG). It sets
# this itself, because a parent with threads must not run Python between fork and exec.
_TIED = (
    "import ctypes, os, sys\n"
    "try: ctypes.CDLL(None).prctl(1, 15)\n"
    "except (AttributeError, OSError): pass\n"
    "if os.getppid() == int(sys.argv[1]): os.execv(sys.argv[2], sys.argv[2:])\n"
)


def available_memory(root: Path = Path("/")) -> int | None:
    """The bytes of memory that programs can still take, or None where the system does not say.

    This is the machine's free memory, or less in a container or job whose control group has a limit.

    Args:
        root: the root of the kernel's files; tests give another folder.
    """
    free = [_machine_memory(root), *_group_memory(root)]  # the tightest of these limits counts
    known = [value for value in free if value is not None]
    return min(known) if known else None


def _machine_memory(root: Path) -> int | None:
    try:
        fields = dict(line.split(":") for line in (root / "proc/meminfo").read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _group_memory(root: Path) -> list[int | None]:
    """The memory left in this process's control group (version 2), and in each group around it."""
    return [_left_in(group) for group in _groups(root)]


def _groups(root: Path) -> list[Path]:
    """The folders of this process's control group (version 2), and of each group around it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    own = next((line.removeprefix("0::").strip("/") for line in lines if line.startswith("0::")), "")
    top = root / "sys/fs/cgroup"
    folders = (top / own, *(top / own).parents)
    return [folder for folder in folders if folder.is_relative_to(top)]


def _left_in(group: Path) -> int | None:
    try:
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        counters = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(counters["inactive_file"]))  # cached files are given up when needed
    except (OSError, KeyError, ValueError):  # a limit of "max" is no limit
        return None


def memory_of(process: int) -> int:
    """The bytes of memory that a process has now; 0 if it has ended, or the system does not say."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def memory_of_session(leader: int) -> int:
    """The bytes of memory that the first process of a session has now, with those that it has started.

    Pages that several of them share, such as those of libraries, count once.
    """
    own = memory_of(leader)
    return own + _started(int(time.monotonic() // _SCAN)).get(leader, 0) if own else 0


@lru_cache(maxsize=1)  # many ask, and one look at all processes answers them
def _started(tick: int) -> dict[int, int]:
    """The bytes that processes have to themselves, by session and without the first of each."""
    found: dict[int, int] = {}
    names: list[str] = []
    with contextlib.suppress(OSError):  # the system has no such folder, or too many files are open
        names = os.listdir("/proc")
    for name in filter(str.isdecimal, names):
        with contextlib.suppress(OSError, ValueError, IndexError):  # one that has ended meanwhile
            session = int(Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[3])
            if session != int(name):
                _, resident, shared, *_ = map(int, Path("/proc", name, "statm").read_text().split())
                pages = max(0, resident - shared)
                found[session] = found.get(session, 0) + pages * os.sysconf("SC_PAGE_SIZE")
    return found


def tied() -> list[str]:
    """Words before a command, whose process then gets SIGTERM when this process has ended."""
    return [sys.executable, "-SEc", _TIED, str(os.getpid())]


def resident_memory() -> int:
    """The bytes of memory that this process has now, or its peak where the system does not say."""
    return memory_of(os.getpid()) or peak_memory()


def peak_memory() -> int:
    """The most bytes of memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def collect_seldom() -> None:
    """Lets Python look for unreachable cycles about seventy times less often than by default.

    Importing and tracing allocate much that lives on, and a tenth of a start went into going through it. An
    update of ten seeds makes 2,500 objects before it drops as many, which began three searches by default.
    """
    if 0 < gc.get_threshold()[0] < _SELDOM[0]:  # 0: never
        gc.set_threshold(*_SELDOM)


@contextlib.contextmanager
def collecting_seldom() -> Iterator[None]:
    """Does what `collect_seldom` does until the context ends, where the process may be a user's own."""
    before = gc.get_threshold()
    collect_seldom()
    try:
        yield
    finally:
        gc.set_threshold(*before)


def trim_memory() -> None:
    """Returns memory that is free in this process to the system, where the C library can do that."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def check_memory(capacity: int, each: int, seeds: int) -> int:
    """The bytes that the replay of all seeds will take, if they are free.

    Args:
        capacity: rows of replay per seed.
        each: bytes of replay per seed.
        seeds: number of seeds that train side by side.

    Raises:
        UserError: that much memory is not free.
    """
    needed, available = seeds * each, available_memory()
    if available is not None and needed > available:
        fitting = int(capacity * 0.8 * available / needed)  # a fifth is left for everything else
        raise UserError(
            f"replay of {capacity:,} rows for {counted(seeds, 'seed')} takes {needed / 2**30:.1f} GiB and "
            f"only {available / 2**30:.1f} GiB are free: try {option('replay_size', fitting)} or fewer seeds"
        )
    return needed


def processors(root: Path = Path("/")) -> int:
    """The number of processors that this process may use, or less in a container or job with a quota of time.

    Args:
        root: the root of the kernel's files; tests give another folder.
    """
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([own, *(quota for group in _groups(root) if (quota := _quota(group)))])


def _quota(group: Path) -> int | None:
    """The processors whose time a control group may take, rounded up; None: as many as there are."""
    try:
        allowed, period = (group / "cpu.max").read_text().split()
        return max(1, math.ceil(int(allowed) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no quota
        return None


def boot() -> str:
    """Names this start of this machine's kernel: processes that share it see each other's locks."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


def gpus(environment: Mapping[str, str], root: Path = Path("/")) -> list[str]:
    """The GPUs of NVIDIA's that processes may use, by the names that CUDA_VISIBLE_DEVICES takes.

    Args:
        environment: environment variables, of which CUDA_VISIBLE_DEVICES chooses among those there are.
        root: the root of the kernel's files; tests give another folder.
    """
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",") if name.strip()]
        return names[: names.index("-1")] if "-1" in names else names  # CUDA ignores -1 and what follows
    try:
        return list(map(str, range(len(os.listdir(root / "proc/driver/nvidia/gpus")))))
    except OSError:
        return []


def cache_folder() -> Path:
    """The folder for what this package can make again, such as compiled programs.

    Raises:
        UserError: there is no home directory.
    """
    return _user_folder("XDG_CACHE_HOME", ".cache")


def data_folder() -> Path:
    """The folder for what this package has to remember for its user.

    Raises:
        UserError: there is no home directory.
    """
    return _user_folder("XDG_DATA_HOME", ".local/share")


def _user_folder(variable: str, usual: str) -> Path:
    """This package's folder where an environment variable says or, below the home directory, as usual."""
    try:
        return Path(os.environ.get(variable) or Path.home() / usual) / "crossq-wn"
    except RuntimeError:
        raise UserError(f"there is no home directory: set HOME or {variable} to a folder") from None


def use_jax() -> None:
    """Checks that JAX has a device, and keeps compiled programs for later processes.

    They are kept where JAX was told to keep them, else in the cache folder if it can be written to.

    Raises:
        UserError: JAX finds no device, as with JAX_PLATFORMS=cuda where there is no GPU.
    """
    devices()
    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return
    # A home directory may be shared by several kinds of processor, whose compiled code differs.
    name = f"jax-{hashlib.sha256(_processor().encode()).hexdigest()[:12]}"
    with contextlib.suppress(UserError, OSError):  # without a cache it only takes longer
        folder = cache_folder() / name
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            update: Any = jax.config.update
            update("jax_compilation_cache_dir", str(folder))
            update("jax_persistent_cache_min_compile_time_secs", 0.1)


def devices() -> list["jax.Device"]:
    """The devices that JAX computes on.

    Raises:
        UserError: it finds none.
    """
    try:
        return list(jax.devices())
    except (RuntimeError, AssertionError) as error:  # JAX asserts where no platform that was named is there
        wanted = os.environ.get("JAX_PLATFORMS")
        told = f" ({one_line(error)})" if str(error) else ""
        if not wanted:
            raise UserError(f"JAX finds no device to compute on{told}") from None
        fix = "unset JAX_PLATFORMS, or set it to cpu"
        if "cuda" in wanted or "gpu" in wanted:
            fix += f"; a GPU of NVIDIA's needs its driver and {install_command('cuda')}"
        raise UserError(f"JAX_PLATFORMS is {wanted!r}, and JAX finds no such device{told}: {fix}") from None


def _processor() -> str:
    """The processor's model and instruction sets as one text."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path as the user wrote it, in which `~` stands for the home folder, as in a shell."""
    return Path(os.path.expanduser(path))


def resolved(path: Path) -> Path:
    """A path that the user named without the links in it; raises OSError where they lead in a circle."""
    try:
        return path.resolve()
    except RuntimeError:  # Python 3.13 and later leave it to whoever opens the file
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None
