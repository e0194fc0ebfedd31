"""One attempt at a run on a node of a cluster, which ends when whoever started it ends."""

import contextlib
import fcntl
import os
import platform
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from crossq_wn import files
from crossq_wn.errors import NOT_MOUNTED, UserError
from crossq_wn.machine import memory_of_session, tied
from crossq_wn.sweeps.engines import Job, ask, gpu_share, spawn, threads

_LOOK = 0.2  # seconds between looks at the process


class Outcome(NamedTuple):
    """How an attempt ended."""

    code: int  # the exit code
    memory: int  # the most bytes that it took
    seconds: float  # that it worked
    node: str  # the name of the machine
    said: bytes = b""  # the end of what it printed, if no log of it is left


class Place(NamedTuple):
    """What an attempt finds on whatever node it gets."""

    folder: Path  # the working directory, if there is such a folder
    variables: Mapping[str, str]  # of the environment, where the node has none of that name
    cpus: int  # processors of its own
    gpus: float = 0.0  # GPUs of its own, or its share of one; Ray itself names which


def attempt(job: Job, place: Place) -> Outcome:
    """Calls crossq-wn on this machine and waits until it has ended.

    SIGINT asks the process to save a checkpoint and end, as `Process.stop` says.

    Args:
        job: what to call; the folder of its log is there already, on every node.
        place: where to call it.

    Raises:
        UserError: this machine does not have the sweep's folder.
    """
    if not job.log.parent.is_dir():
        raise UserError(f"{platform.node()} has no {job.log.parent}: {NOT_MOUNTED} on every node")
    return watched(job, place)


def watched(job: Job, place: Place, look: Callable[[], None] = lambda: None) -> Outcome:
    """Calls crossq-wn on this machine and waits until it has ended.

    Args:
        job: what to call.
        place: where to call it.
        look: is called all the while; whatever it raises ends the process at once.
    """
    folder = place.folder if place.folder.is_dir() else None
    environment = {**threads(place.cpus), **place.variables, **os.environ, **gpu_of(place.gpus)}
    with _processors(place.cpus) as own, interrupts() as received:
        begin = time.monotonic()
        # A node whose agent was killed trains nothing that another node trains again.
        process = spawn(job, environment, own, folder, before=tied())
        try:
            memory = _waited(process, received, look)
        except BaseException:
            process.kill()
            process.wait()
            raise
    return Outcome(process.returncode, memory, time.monotonic() - begin, platform.node())


def gpu_of(gpus: float) -> Mapping[str, str]:
    """The environment variables that keep a run to its GPUs: a share of the memory of one, or none at all.

    Ray hides a node's GPUs from tasks that have asked for none, or not, as its settings and version are.
    """
    if not gpus:
        return {"CUDA_VISIBLE_DEVICES": ""}
    return gpu_share(gpus) if gpus < 1 else {}


def _waited(process: "subprocess.Popen[bytes]", received: Sequence[int], look: Callable[[], None]) -> int:
    """Waits for a process, to which interrupts are passed on; returns the most bytes that it took."""
    told = memory = 0
    while process.poll() is None:
        for _ in received[told:]:
            ask(process, told)
            told += 1
        memory = max(memory, memory_of_session(process.pid))
        look()
        time.sleep(_LOOK)
    return memory


@contextlib.contextmanager
def interrupts() -> Iterator[Sequence[int]]:
    """Collects SIGINT, which is how Ray interrupts a task."""
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _processors(count: int) -> Iterator[Sequence[int]]:
    """Processors of this machine that no other attempt has; none if too few are free or known."""
    if not hasattr(os, "sched_getaffinity"):
        yield []
        return
    own: list[int] = []
    with contextlib.ExitStack() as locks:
        for processor in sorted(os.sched_getaffinity(0)):
            if len(own) < count and _locked(processor, locks):
                own.append(processor)
        yield own if len(own) == count else []


def _locked(processor: int, locks: contextlib.ExitStack) -> bool:
    """Takes a processor until `locks` are closed, unless another attempt has it."""
    name = Path(tempfile.gettempdir(), f"crossq-wn-{os.getuid()}-processor-{processor}.lock")
    try:
        file = locks.enter_context(files.open_lock(name))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
