"""Training of the planned runs: a process per run, a few side by side, each on processors of its own.

Runs go through the public command line, so that whatever happens to one touches no other, and a kill -9 or a
power cut costs only what came after the last checkpoint. What has been trained is never deleted.
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

from crossq_wn.errors import UserError
from crossq_wn.reproduce.cost import cost
from crossq_wn.reproduce.studies import PlannedRun
from crossq_wn.runs.checkpoints import available
from crossq_wn.runs.config import RunConfig, read_config
from crossq_wn.runs.directory import RunDirectory

Say = Callable[[str], None]
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# What may differ between a run and its plan: how long it is, and what is recorded besides.
_NOT_NUMBERS = ("frames", "checkpoint_every", "log_every", "video", "tensorboard", "wandb")


class State(NamedTuple):
    """How far a run has come."""

    kind: Literal["missing", "without a checkpoint", "damaged", "cut off", "finished"]
    frames: int  # environment frames, per seed, of its newest checkpoint


class TrainingResult(NamedTuple):
    """How training the planned runs ended."""

    signal: int | None  # what stopped it
    failed: dict[Path, str]  # by run directory: why


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
        return State("damaged", 0)  # whatever it is, it is no reason not to go on with the others
    differs = _differences(there, run.config)
    if differs:
        raise UserError(f"{run.path} holds another run ({', '.join(differs)}): choose another --root")
    frames = max((int(path.name) for path in available(run.path / "checkpoints")), default=0)
    if frames >= run.config.decisions * run.config.action_repeat:
        return State("finished", frames)
    return State("cut off" if frames else "without a checkpoint", frames)


def remaining(run: PlannedRun) -> float:
    """Estimates the core-seconds that a run still needs."""
    return cost(run.config).core_seconds * max(0.0, 1 - look(run).frames / run.config.options.frames)


def train(runs: Sequence[PlannedRun], jobs: int, say: Say, environment: Mapping[str, str]) -> TrainingResult:
    """Trains what is missing and resumes what was cut off, the longest first; skips what has finished.

    A signal stops all processes, which then save a checkpoint; a second one does not wait for that.

    Args:
        runs: what shall be there in the end.
        jobs: how many to train side by side.
        say: told of every event, in a line.
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
    """Processes at work, one per slot."""

    jobs: int  # slots
    queue: list[PlannedRun]  # the next one last
    total: int  # of the queue at the beginning
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
        """Passes on signals, which a process in a group of its own has not had."""
        for _ in received[self.told :]:
            self.process.terminate()
        self.told = len(received)

    def why(self, received: Sequence[int]) -> str:
        """Says why the run has not finished; nothing if it has."""
        code, state = self.process.returncode, look(self.run)
        if state.kind == "finished" and (received or code == 0):
            return ""
        if received:
            return f"stopped at {state.frames:,} frames"
        said = self.log.read_text(errors="replace").strip()
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
        say(f"{count} {run.name} had no checkpoint; what it left lies in {_set_aside(run.path)}")
    run.path.parent.mkdir(parents=True, exist_ok=True)
    log = run.path.parent / f"{run.path.name}.log"
    with open(log, "ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "crossq_wn", *arguments],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            env=dict(environment), start_new_session=True,
        )  # fmt: skip
    # At once, before libraries count the processors; threads inherit them.
    if hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(process.pid, processors)
    how = f"resumes at {state.frames:,} of" if state.frames else "trains"
    say(f"{count} {run.name} {how} {frames:,} frames, about {remaining(run) / 60:.0f} min; log: {log}")
    return _Job(run, process, log, count)


def _processors(slot: int, jobs: int) -> list[int]:
    """A slot's share of the processors that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    all_ = sorted(os.sched_getaffinity(0))
    return all_[slot::jobs] or [all_[slot % len(all_)]]


def _set_aside(path: Path) -> Path:
    """Renames a run directory that another process does not hold."""
    RunDirectory(path).close()
    number = 1
    while (aside := path.with_name(f"{path.name}-aside-{number}")).exists():
        number += 1
    return path.rename(aside)


def _differences(there: RunConfig, planned: RunConfig) -> list[str]:
    """What decides numbers and is not as planned."""
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
    return {
        **settings,
        **options,
        **values,
        **named,
    }  # the resolved time limit, discount and action repeat count


@contextmanager
def _ended(slots: Mapping[int, _Job]) -> Iterator[None]:
    """Leaves no process behind, whatever goes wrong here."""
    try:
        yield
    finally:
        for job in slots.values():
            job.process.terminate()


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects signals that ask to stop, except those that are ignored, as under nohup."""
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
