"""Training of the planned runs: one process per run, a few at a time, each on its own processors.

Runs go through the public command line. What happens to one does not affect the others, and a kill -9 or a
power cut costs only the training after the last checkpoint. Finished training is never deleted.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from crossq_wn import files
from crossq_wn.errors import UserError
from crossq_wn.files import MOST_TABLE
from crossq_wn.reproduce.cost import cost
from crossq_wn.reproduce.studies import PlannedRun
from crossq_wn.runs.config import RunConfig, read_config
from crossq_wn.runs.directory import RunDirectory
from crossq_wn.runs.manifests import trained_frames

Say = Callable[[str], None]
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Options in which a run may differ from its plan: its length, and what it records.
_NOT_NUMBERS = ("frames", "checkpoint_every", "log_every", "video", "tensorboard", "wandb")


class State(NamedTuple):
    """How far a run has come."""

    kind: Literal["missing", "without a checkpoint", "damaged", "cut off", "finished"]
    frames: int  # environment frames per seed at its newest checkpoint


class TrainingResult(NamedTuple):
    """How training the planned runs ended."""

    signal: int | None  # the signal that stopped it, if any
    failed: dict[Path, str]  # the reason of each failure, by run directory


def look(run: PlannedRun) -> State:
    """Finds out how far a run has come.

    Raises:
        UserError: its directory holds something else.
    """
    if not run.path.exists():
        return State("missing", 0)
    names = {path.name for path in run.path.iterdir()}
    if names <= {".lock", ".config.json.partial"}:
        return State("without a checkpoint", 0)  # not even a configuration
    try:
        there = read_config(run.path)
    except UserError:
        return State("damaged", 0)  # the other runs can go on all the same
    differs = _differences(there, run.config)
    if differs:
        raise UserError(f"{run.path} holds another run ({', '.join(differs)}): choose another --root")
    frames = trained_frames(run.path / "checkpoints")
    if frames >= run.config.trained_frames:
        return State("finished", frames)
    return State("cut off" if frames else "without a checkpoint", frames)


def remaining(run: PlannedRun) -> float:
    """Estimates the core-seconds that a run still needs."""
    return cost(run.config).core_seconds * max(0.0, 1 - look(run).frames / run.config.options.frames)


def train(runs: Sequence[PlannedRun], jobs: int, say: Say, environment: Mapping[str, str]) -> TrainingResult:
    """Trains missing runs and resumes interrupted ones, the longest first; skips those that have finished.

    A signal stops all processes, which then save a checkpoint; a second signal stops them without one.

    Args:
        runs: all planned runs.
        jobs: number of runs to train side by side.
        say: is told of every event, in one line.
        environment: environment variables of the processes.

    Raises:
        UserError: a run directory holds something else.
    """
    unfinished = [run for run in runs if look(run).kind != "finished"]
    queue = sorted(unfinished, key=remaining)
    crew = _Crew(jobs, queue, len(queue), say, environment)
    with _signals() as received, _ended(crew.slots):
        while crew.slots or (queue and not received):
            if not received:
                crew.fill()
            crew.collect(received)
            time.sleep(0.1)
    return TrainingResult(received[0] if received else None, crew.failed)


@dataclass
class _Crew:
    """The processes at work, one per slot."""

    jobs: int  # slots
    queue: list[PlannedRun]  # the next run is the last entry
    total: int  # length of the queue at the beginning
    say: Say
    environment: Mapping[str, str]
    slots: dict[int, "_Job"] = field(default_factory=dict)
    failed: dict[Path, str] = field(default_factory=dict)

    def fill(self) -> None:
        """Starts a run in each free slot."""
        for slot in range(self.jobs):
            if slot in self.slots or not self.queue:
                continue
            run = self.queue.pop()
            count = f"[{self.total - len(self.queue)}/{self.total}]"
            try:
                processors = _processors(slot, self.jobs)
                self.slots[slot] = _start(run, processors, self.environment, count, self.say)
            except UserError as reason:
                self.failed[run.path] = str(reason)
                self.say(f"{count} {run.name} cannot start: {reason}")

    def collect(self, received: Sequence[int]) -> None:
        """Passes signals on to all processes, and frees the slots of those that have ended."""
        ended = []
        for slot, job in self.slots.items():
            job.forward(received)
            if job.process.poll() is not None:
                ended.append(slot)
        for slot in ended:
            job = self.slots.pop(slot)
            lacking = job.why(received)
            self.say(f"{job.count} {job.run.name}: {lacking or 'finished'}")
            if lacking and not received:
                self.failed[job.run.path] = lacking


@dataclass
class _Job:
    """A run that is being trained."""

    run: PlannedRun
    process: subprocess.Popen[bytes]
    log: Path
    count: str
    told: int = 0  # signals passed on

    def forward(self, received: Sequence[int]) -> None:
        """Passes on signals, which do not reach a process in a separate group by themselves."""
        for _ in received[self.told :]:
            self.process.terminate()
        self.told = len(received)

    def why(self, received: Sequence[int]) -> str:
        """The reason why the run has not finished; empty if it has."""
        code, state = self.process.returncode, look(self.run)
        if state.kind == "finished" and (received or code == 0):
            return ""
        if received:
            return f"stopped at {state.frames:,} frames"
        said = files.read(self.log, MOST_TABLE).decode(errors="replace").strip()
        last = said.split("\n")[-1].strip() or "it said nothing"
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return f"failed ({how}): {last}; see {self.log}"


def _start(
    run: PlannedRun, processors: Sequence[int], environment: Mapping[str, str], count: str, say: Say
) -> _Job:
    state = look(run)
    if state.kind == "damaged":
        raise UserError(f"{run.path} has no readable config.json: put it back, or move the folder away")
    frames = run.config.options.frames
    arguments = run.command
    if state.kind == "cut off":
        arguments = ("resume", str(run.path), "--frames", str(frames))
    elif state.kind == "without a checkpoint":
        say(f"{count} {run.name} had no checkpoint; its remains were moved to {_set_aside(run.path)}")
    run.path.parent.mkdir(parents=True, exist_ok=True)
    log = run.path.parent / f"{run.path.name}.log"
    with files.open_log(log) as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "crossq_wn", *arguments],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            env=dict(environment), start_new_session=True,
        )  # fmt: skip
    # Before libraries count the processors; threads inherit the affinity.
    if hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(process.pid, processors)
    how = f"resumes at {state.frames:,} of" if state.frames else "trains"
    say(f"{count} {run.name} {how} {frames:,} frames, about {remaining(run) / 60:.0f} min; log: {log}")
    return _Job(run, process, log, count)


def _processors(slot: int, jobs: int) -> list[int]:
    """The processors of a slot: its share of those that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    all_ = sorted(os.sched_getaffinity(0))
    return all_[slot::jobs] or [all_[slot % len(all_)]]


def _set_aside(path: Path) -> Path:
    """Renames a run directory, unless another process has opened it."""
    RunDirectory(path).close()
    number = 1
    while (aside := path.with_name(f"{path.name}-aside-{number}")).exists():
        number += 1
    return path.rename(aside)


def _differences(there: RunConfig, planned: RunConfig) -> list[str]:
    """The entries of the configuration that decide numbers and differ from the plan."""
    left, right = _flat(there), _flat(planned)
    found = []
    for name in {**left, **right}:
        was, wanted = left.get(name), right.get(name)
        if name not in _NOT_NUMBERS and was != wanted:
            found.append(f"{name} is {was}, not {wanted}")
    return found


def _flat(config: RunConfig) -> dict[str, Any]:
    values = config.to_json()
    system, settings, options = map(values.pop, ("system", "settings", "options"))
    named = {"algorithm": system["algorithm"], "preset": system["preset"]}
    # The resolved time limit, discount and action repeat in `values` replace those of options and settings.
    return {**settings, **options, **values, **named}


@contextmanager
def _ended(slots: Mapping[int, _Job]) -> Iterator[None]:
    """Terminates all processes on the way out, whatever goes wrong here."""
    try:
        yield
    finally:
        for job in slots.values():
            job.process.terminate()


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects signals that ask to stop, except for those that are ignored, as under nohup."""
    received: list[int] = []
    before = {}  # signal -> its handler
    for number in _STOPS:
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, lambda n, _: received.append(n))
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
