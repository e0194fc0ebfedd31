"""What the driver of a sweep and its engines agree on.

An engine decides where `crossq-wn train` or `crossq-wn resume RUN` is called, and nothing else. What has been
trained is read from the run directories, and retries, pauses, causes and the history are the driver's.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from crossq_wn import files
from crossq_wn.errors import AT_FIRST_RESET, SEEDS_FAILED, UserError, may_pass
from crossq_wn.files import MOST_TABLE
from crossq_wn.runs import leases
from crossq_wn.runs.beginnings import begun
from crossq_wn.runs.directory import RunDirectory
from crossq_wn.sweeps.plans import Planned, command, flat_name
from crossq_wn.sweeps.states import ASIDE, State

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_HOPELESS = "every seed failed"  # as they would again where training diverged
# As they may not do again.
_CRASHED = re.compile(r" raised \w+: |the (acting process|process in which its environment was stepped) ")
OTHERS = "by another process"  # the run is in use, or was taken over


class Process(Protocol):
    """A process that works on a run, wherever it is."""

    def ended(self) -> bool:
        """Whether it has ended."""

    def stop(self) -> None:
        """Asks it to save a checkpoint and end; asked again, it ends without one."""

    def memory(self) -> int:
        """The bytes that it takes now; or has taken at most, once that is known."""

    def worked(self) -> float | None:
        """Once it has ended: the seconds that it worked; None if it worked from its start on."""

    def node(self) -> str:
        """The name of its machine; empty while that is not known."""

    def failure(self) -> tuple[str, int]:
        """Why it ended before its run had finished, and its exit code."""


class Engine(Protocol):
    """Starts processes."""

    def places(self) -> int:
        """How many processes may be started side by side now; some may have to wait for room."""

    def capacity(self) -> int:
        """How many processes there is room for now."""

    def free_memory(self) -> int | None:
        """The bytes that are free for processes; None: unknown, or the engine itself sees to it."""

    def free(self, slots: Sequence[int], others: Sequence[int]) -> Sequence[int]:
        """Those of some slots that processes of others leave free.

        Args:
            slots: numbers of slots in which nothing of this sweep runs.
            others: numbers of processes on this machine.
        """

    def start(self, run: Planned, state: State, slot: int, memory: int) -> Process:
        """Starts or continues a run.

        Args:
            run: which one.
            state: how far it has come.
            slot: the number of the place in which it runs.
            memory: bytes that it is expected to take.

        Raises:
            UserError: it cannot be started.
        """


class Job(NamedTuple):
    """What is called for a run, wherever that is."""

    arguments: tuple[str, ...]  # of crossq-wn
    log: Path  # for what it prints


def prepared(run: Planned, state: State, logs: Path) -> Job:
    """Makes a run ready to be started or continued, and says what is to be called.

    Args:
        run: which one.
        state: how far it has come.
        logs: the folder for what runs print.

    Raises:
        UserError: what an earlier attempt left is in its place, and cannot be moved aside.
    """
    arguments = command(run)
    if state.resumable:
        arguments = ("resume", str(run.path), "--frames", str(run.config.options.frames))
    elif state.kind == "without a checkpoint" and begun(run.path):
        set_aside(run.path, watched=True)
    run.path.parent.mkdir(parents=True, exist_ok=True)
    return Job(arguments, log_of(run, logs))


def log_of(run: Planned, logs: Path) -> Path:
    """The file for what a run prints."""
    return logs / f"{flat_name(run.path)}.log"


def spawn(
    job: Job,
    environment: Mapping[str, str],
    processors: Sequence[int],
    folder: Path | None = None,
    before: Sequence[str] = (),
) -> "subprocess.Popen[bytes]":
    """Calls crossq-wn in a process of its own on this machine, which signals for this one do not reach.

    Args:
        job: what to call.
        environment: its environment variables.
        processors: those that it may use; none: all that this process may use.
        folder: its working directory; None: that of this process.
        before: words before the command, of a program that makes the process ready and becomes the command.
    """
    with files.open_log(job.log) as out, _kept_to(processors):
        return subprocess.Popen(
            [*before, sys.executable, "-m", "crossq_wn", *job.arguments], cwd=folder, env=environment,
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


@contextlib.contextmanager
def _kept_to(processors: Sequence[int]) -> Iterator[None]:
    """Keeps this thread to processors, and so, from its first moment on, a process that it starts."""
    if not processors:
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, processors)
        yield
    finally:
        with contextlib.suppress(OSError):  # the process has started, whatever becomes of this thread
            os.sched_setaffinity(0, before)


def ask(process: "subprocess.Popen[bytes]", before: int) -> None:
    """Asks a process to save a checkpoint and end; asked again, it ends at once.

    Schedulers send SIGTERM to every process of a job, and a run takes the second signal of a kind for a
    request to end without a checkpoint. So what a sweep passes on is of another kind.

    Args:
        process: which one.
        before: how often it has been asked already.
    """
    process.send_signal(signal.SIGKILL if before else signal.SIGUSR1)


def why(code: int, log: Path) -> str:
    """Why a process has ended before its run had finished: its exit code, and the last that it said.

    Args:
        code: the exit code, or minus the signal that killed it.
        log: the file with what it printed.
    """
    try:
        said = files.read(log, MOST_TABLE).decode(errors="replace").strip()
    except OSError:  # somebody has cleared the logs
        said = ""
    last = said.split("\n")[-1].strip() or "it said nothing"
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    if code == -9:
        how += ", as for lack of memory"
    return f"failed ({how}): {last}; see {log}"


def is_final(cause: str, code: int, state: State) -> bool:
    """Whether a failure would only be repeated: the run cannot begin, or its seeds have diverged.

    A machine may have more memory or disk later, and an environment that crashed may not do so again, unless
    that was at its first reset.

    Args:
        cause: the message of the failure.
        code: the exit code; 2 is that of a UserError.
        state: how far the run has come.
    """
    if code not in (2, SEEDS_FAILED) or OTHERS in cause or may_pass(cause):
        return False
    if _HOPELESS in cause or code == SEEDS_FAILED:
        return _CRASHED.search(cause) is None or (AT_FIRST_RESET in cause and not state.frames)
    return state.frames == 0


def set_aside(path: Path, *, watched: bool = False) -> Path:
    """Renames a run directory, unless another process has opened it; returns the new path.

    Args:
        path: of the run.
        watched: whether a holder that may be alive on another machine has already had its time to show it.

    Raises:
        UserError: it is in use, or cannot be renamed.
    """
    over = watched and leases.is_used(path, leases.seen(path)) is None
    RunDirectory(path, take_over=over).close()
    number = 1
    while (aside := path.with_name(f"{path.name}{ASIDE}{number}")).exists():
        number += 1
    try:
        return path.rename(aside)
    except OSError as error:
        raise UserError(f"{path} cannot be moved aside: {error.strerror}") from None


def gpu_share(share: float) -> dict[str, str]:
    """The environment variable by which JAX takes no more than a share of a GPU's memory, from 0 to 1."""
    return {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 * share:.2g}"}


def threads(count: int) -> dict[str, str]:
    """The environment variables that let numeric libraries use some threads."""
    return dict.fromkeys(THREADS, str(count)) if count else {}
