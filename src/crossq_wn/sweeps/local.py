"""Processes on this machine that train the runs of a sweep, each on its own processors.

Runs go through the public command line. What happens to one does not affect the others, and a kill -9 or a
power cut costs only the training after the last checkpoint. Finished training is never deleted.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from crossq_wn import files
from crossq_wn.errors import UserError
from crossq_wn.files import MOST_TABLE
from crossq_wn.machine import memory_of
from crossq_wn.runs.directory import RunDirectory, begun
from crossq_wn.sweeps.plans import Planned, command
from crossq_wn.sweeps.states import ASIDE, State

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_HOPELESS = "every seed failed"  # which they would do again
_OTHERS = "by another process"  # the run is in use, or was taken over


class Process(Protocol):
    """A process that works on a run, wherever it is."""

    def ended(self) -> bool:
        """Whether it has ended."""

    def stop(self) -> None:
        """Asks it to save a checkpoint and end; asked again, it ends without one."""

    def memory(self) -> int:
        """The bytes that it takes now."""

    def failure(self) -> tuple[str, int]:
        """Why it ended before its run had finished, and its exit code."""


class Engine(Protocol):
    """Starts processes."""

    def start(self, run: Planned, state: State, slot: int) -> Process:
        """Starts or continues a run.

        Args:
            run: which one.
            state: how far it has come.
            slot: the number of the place in which it runs.

        Raises:
            UserError: it cannot be started.
        """


@dataclass
class LocalProcess:
    """A process on this machine."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def stop(self) -> None:
        """Asks it to end; signals do not reach a process in a session of its own by themselves."""
        self.process.terminate()

    def memory(self) -> int:
        """The bytes that it takes now."""
        return memory_of(self.process.pid)

    def failure(self) -> tuple[str, int]:
        """Why it ended before its run had finished, and its exit code."""
        code = self.process.returncode
        try:
            said = files.read(self.log, MOST_TABLE).decode(errors="replace").strip()
        except OSError:  # somebody has cleared the logs
            said = ""
        last = said.split("\n")[-1].strip() or "it said nothing"
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        if code == -9:
            how += ", as for lack of memory"
        return f"failed ({how}): {last}; see {self.log}", code


@dataclass
class LocalEngine:
    """Starts processes on this machine.

    Args:
        slots: the number of processes side by side, which share the processors.
        logs: the folder for what they print.
        environment: their environment variables.
        gpus: those to share among them, if they use any.
    """

    slots: int
    logs: Path
    environment: Mapping[str, str]
    gpus: Sequence[str] = ()

    def start(self, run: Planned, state: State, slot: int) -> LocalProcess:
        """Starts or continues a run: see `Engine`."""
        arguments = command(run)
        if state.kind == "cut off":
            arguments = ("resume", str(run.path), "--frames", str(run.config.options.frames))
        elif state.kind == "without a checkpoint" and begun(run.path):
            set_aside(run.path)
        run.path.parent.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{'--'.join(run.path.parts[-3:])}.log"
        own = processors_of(slot, self.slots)
        threads = dict.fromkeys(_THREADS, str(len(own))) if own else {}
        gpu = gpu_of(slot, self.slots, self.gpus)
        with files.open_log(log) as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "crossq_wn", *arguments],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                env={**threads, **self.environment, **gpu}, start_new_session=True,
            )  # fmt: skip
        # Before libraries count the processors; threads inherit the affinity.
        if own:
            with suppress(OSError):
                os.sched_setaffinity(process.pid, own)
        return LocalProcess(process, log)


def is_final(cause: str, code: int, state: State) -> bool:
    """Whether a failure would only be repeated: the run cannot begin, or all its seeds have failed."""
    return code == 2 and _OTHERS not in cause and (state.frames == 0 or _HOPELESS in cause)


def processors_of(slot: int, slots: int) -> Sequence[int]:
    """The processors of a slot: its share of those that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    all_ = sorted(os.sched_getaffinity(0))
    return all_[slot::slots] or [all_[slot % len(all_)]]


def gpu_of(slot: int, slots: int, gpus: Sequence[str]) -> Mapping[str, str]:
    """The environment variables that give a slot its GPU, or its share of one."""
    if not gpus:
        return {}
    own = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]}
    beside = len(range(slot % len(gpus), slots, len(gpus)))  # slots on the same GPU
    return own if beside == 1 else own | {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / beside:.2f}"}


def set_aside(path: Path) -> Path:
    """Renames a run directory, unless another process has opened it; returns the new path."""
    RunDirectory(path).close()
    number = 1
    while (aside := path.with_name(f"{path.name}{ASIDE}{number}")).exists():
        number += 1
    try:
        return path.rename(aside)
    except OSError as error:
        raise UserError(f"{path} cannot be moved aside: {error.strerror}") from None
