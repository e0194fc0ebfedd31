"""Processes on this machine that train the runs of a sweep, each on its own processors.

Runs go through the public command line. What happens to one does not affect the others, and a kill -9 or a
power cut costs only the training after the last checkpoint. Finished training is never deleted.
"""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossq_wn.machine import available_memory, memory_of_session
from crossq_wn.sweeps.engines import ask, gpu_share, prepared, spawn, threads, why
from crossq_wn.sweeps.plans import Planned
from crossq_wn.sweeps.states import State


@dataclass
class LocalProcess:
    """A process on this machine."""

    process: "subprocess.Popen[bytes]"
    log: Path
    asked: int = 0  # how often it was asked to end

    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def stop(self) -> None:
        """Asks it to end; signals do not reach a process in a session of its own by themselves."""
        ask(self.process, self.asked)
        self.asked += 1

    def memory(self) -> int:
        """The bytes that it takes now, with the workers that it has started."""
        return memory_of_session(self.process.pid)

    def worked(self) -> float | None:
        """None: it has worked from its start on."""
        return None

    def node(self) -> str:
        """The name of this machine."""
        return platform.node()

    def failure(self) -> tuple[str, int]:
        """Why it ended before its run had finished, and its exit code."""
        return why(self.process.returncode, self.log), self.process.returncode


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

    def places(self) -> int:
        """How many processes may run side by side."""
        return self.slots

    def capacity(self) -> int:
        """As many as `places`, because each process has a place of its own."""
        return self.slots

    def free_memory(self) -> int | None:
        """The bytes that are free on this machine; None if it does not say."""
        return available_memory()

    def free(self, slots: Sequence[int], others: Sequence[int]) -> Sequence[int]:
        """Leaves out the slots on whose processors others train: see `Engine`."""
        left = list(slots)
        for process in others:
            try:
                own = os.sched_getaffinity(process)
            except (OSError, AttributeError):  # it has ended, or nothing is kept to processors here
                continue
            shared = {slot: len(own.intersection(processors_of(slot, self.slots))) for slot in left}
            most = max(left, key=shared.__getitem__, default=None)
            if most is not None and shared[most]:
                left.remove(most)
        return left

    def start(self, run: Planned, state: State, slot: int, memory: int) -> LocalProcess:
        """Starts or continues a run: see `Engine`."""
        job = prepared(run, state, self.logs)
        own = processors_of(slot, self.slots)
        gpu = gpu_of(slot, self.slots, self.gpus)
        process = spawn(job, {**threads(len(own)), **self.environment, **gpu}, own)
        return LocalProcess(process, job.log)


def processors_of(slot: int, slots: int) -> Sequence[int]:
    """The processors of a slot: its share of those that this process may use.

    Args:
        slot: its number, from 0.
        slots: how many there are.

    Returns:
        Numbers of processors; none where the system does not say which there are.
    """
    if not hasattr(os, "sched_getaffinity"):
        return []
    all_ = sorted(os.sched_getaffinity(0))
    return all_[slot::slots] or [all_[slot % len(all_)]]


def gpu_of(slot: int, slots: int, gpus: Sequence[str]) -> Mapping[str, str]:
    """The environment variables that give a slot its GPU, or its share of one.

    Args:
        slot: its number, from 0.
        slots: how many there are; they take the GPUs in turn.
        gpus: names for CUDA_VISIBLE_DEVICES; may be empty.
    """
    if not gpus:
        return {}
    own = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]}
    beside = len(range(slot % len(gpus), slots, len(gpus)))  # slots on the same GPU
    return own if beside == 1 else own | gpu_share(1 / beside)
