"""Runs of a sweep as tasks of Ray, on an existing cluster or on one that is made for the sweep.

Ray finds a node with enough processors, GPUs and memory, and says when a task has ended or its node was lost.
It retries nothing and keeps nothing: a second truth beside the run directories could contradict them.
"""

import contextlib
import importlib
import importlib.util
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from crossq_wn import files
from crossq_wn.errors import UserError, one_line
from crossq_wn.installation import install_command
from crossq_wn.lazy import ray
from crossq_wn.machine import processors
from crossq_wn.sweeps import node, stored
from crossq_wn.sweeps.engines import Job, Process, log_of, prepared, why
from crossq_wn.sweeps.node import Outcome, Place
from crossq_wn.sweeps.plans import Planned
from crossq_wn.sweeps.states import State
from crossq_wn.sweeps.stored import Mirror, Stored

_REACH = 10.0  # seconds within which a cluster must answer
_LOOK = 2.0  # seconds between looks at its nodes
_STOPPED = 143  # the exit code of what SIGTERM has ended
_NOTHING = Outcome(-1, 0, 0.0, "")  # whoever would have told the exit code is gone
# Of the machine where the sweep is started, and not of the nodes.
_NOT_THEIRS = ("CUDA_VISIBLE_DEVICES", "RAY_ADDRESS", "TMPDIR", "HOSTNAME")


class Resources(NamedTuple):
    """What each run gets."""

    cpus: int = 1
    gpus: float = 0.0  # GPUs, or a share of one


@dataclass
class RayProcess:
    """A task of Ray that works on a run."""

    task: Any
    job: Job
    outcome: Outcome | None = None
    lost: str = ""  # why there is no outcome of the task's own

    def ended(self) -> bool:
        """Whether it has ended, or its node is lost."""
        if self.outcome is None and ray.wait([self.task], timeout=0)[0]:
            self.outcome, self.lost = _taken(self.task)
            if self.outcome.said:
                with contextlib.suppress(OSError), files.open_log(self.job.log) as log:
                    log.write(self.outcome.said)
        return self.outcome is not None

    def stop(self) -> None:
        """Asks it to end, by an interrupt that `attempt` passes on; or takes it back if it has not begun."""
        ray.cancel(self.task, force=False)

    def memory(self) -> int:
        """The most bytes that it took, once it has ended."""
        return self.outcome.memory if self.outcome else 0

    def worked(self) -> float | None:
        """Once it has ended: the seconds that it worked, without those for which it waited for a node."""
        return self.outcome.seconds if self.outcome else None

    def node(self) -> str:
        """The name of its machine, once it has ended and was not lost."""
        return self.outcome.node if self.outcome else ""

    def failure(self) -> tuple[str, int]:
        """Why it ended before its run had finished, and its exit code."""
        outcome = self.outcome or _NOTHING
        return self.lost or f"{why(outcome.code, self.job.log)} (on {outcome.node})", outcome.code


@dataclass
class RayEngine:
    """Starts runs as tasks of the cluster that this process is connected to.

    Args:
        logs: the folder for what runs print, which all nodes have.
        environment: variables for runs on nodes that have none of that name.
        resources: of each run.
        mirror: of the store that has the runs, where nodes share no folder.
    """

    logs: Path
    environment: Mapping[str, str]
    resources: Resources
    mirror: Mirror | None = None
    _nodes: list[Mapping[str, float]] = field(default_factory=list)  # the resources of each
    _looked: float = float("-inf")

    def __post_init__(self) -> None:
        self._attempt = ray.remote(node.attempt if self.mirror is None else stored.attempt)

    def places(self) -> int:
        """How many runs may be tasks now: one more than fit, for which a cluster may grow."""
        return self.capacity() + 1

    def capacity(self) -> int:
        """How many runs the nodes that are there now have processors and GPUs for."""
        found = 0
        for has in self._resources():
            fitting = int(has.get("CPU", 0.0) // self.resources.cpus)
            if self.resources.gpus:
                fitting = min(fitting, fitting_gpus(int(has.get("GPU", 0.0)), self.resources.gpus))
            found += fitting
        return found

    def free(self, slots: Sequence[int], others: Sequence[int]) -> Sequence[int]:
        """All of them, because Ray knows what is free on its nodes."""
        return slots

    def free_memory(self) -> int | None:
        """Ray sees to memory itself."""
        return None

    def start(self, run: Planned, state: State, slot: int, memory: int) -> Process:
        """Starts or continues a run: see `Engine`."""
        what: Job | Stored
        if self.mirror is None:
            what = job = prepared(run, state, self.logs)
        else:
            what, job = self.mirror.stored(run), Job((), log_of(run, self.logs))
        # What no node has would be waited for in vain; such a run says itself that it does not fit.
        largest = max((has.get("memory", 0.0) for has in self._resources()), default=0.0)
        variables = {name: value for name, value in self.environment.items() if name not in _NOT_THEIRS}
        task = self._attempt.options(
            name=run.name, num_cpus=self.resources.cpus, num_gpus=self.resources.gpus,
            memory=min(memory, int(largest)), max_retries=0,
        )  # fmt: skip
        place = Place(Path.cwd(), variables, self.resources.cpus, self.resources.gpus)
        process = RayProcess(task.remote(what, place), job)
        return process if self.mirror is None else self.mirror.mirrored(process, run)

    def _resources(self) -> list[Mapping[str, float]]:
        if time.monotonic() - self._looked >= _LOOK:
            self._nodes = [each["Resources"] for each in ray.nodes() if each["Alive"]]
            self._looked = time.monotonic()
        return self._nodes


def fitting_gpus(has: int, each: float) -> int:
    """How many runs the GPUs of a node are enough for; a share is one of a single GPU.

    Args:
        has: its GPUs.
        each: GPUs per run, or a share of one.
    """
    if each >= 1:
        return has // int(each)
    return has * int(1 / each + 1e-9)  # 1 / 0.1 and its like may come out just below a whole number


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connects this process to a cluster of Ray.

    Args:
        address: HOST:PORT of its head, or `auto` for one on this machine; by default what RAY_ADDRESS says,
            as within a job of Ray's, and else a cluster of this machine alone, which ends with the context.

    Raises:
        UserError: Ray is not installed, or the cluster cannot be reached.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError(f"--on ray needs Ray: {install_command('ray')}")
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    _check_reachable(address)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as its next version does it
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options |= {"num_cpus": processors(), "include_dashboard": False}
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UserError(f"no Ray cluster at {address}: {one_line(error)[:200]}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raises UserError for an address at which nothing answers, for which Ray itself would wait minutes."""
    if address in ("local", "auto"):
        return
    host, _, port = address.rpartition(":")
    if "//" in address or not host or not port.isdigit():
        raise UserError(
            f"--address is {address!r}: give HOST:PORT of the cluster's head, as 10.0.0.1:6379, or auto; "
            "outside of the cluster use `ray job submit`"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({one_line(error)}): start one with `ray start --head`, "
            "or leave out --address"
        ) from None


def _taken(task: Any) -> tuple[Outcome, str]:
    """The outcome of a task that has ended; and why, if it has none of its own."""
    exceptions = importlib.import_module("ray.exceptions")
    try:
        return ray.get(task), ""
    except exceptions.TaskCancelledError:
        return _NOTHING._replace(code=_STOPPED), "stopped before it began"
    except exceptions.RayTaskError as error:  # what was raised on the node
        return _NOTHING, f"failed on its node: {one_line(error.cause)}"
    except exceptions.RayError as error:
        return _NOTHING, f"failed, as its node or the agent there is lost: {one_line(error)[:200]}"
