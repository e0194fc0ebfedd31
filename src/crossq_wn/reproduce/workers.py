"""Who trains what, and when? A process per run, a few side by side, each on processors of its own.

Runs go through the public command line, so that whatever happens to one touches no other, and a kill -9 or a
power cut costs what came after the last checkpoint. What has been trained is never deleted.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from crossq_wn.errors import UserError
from crossq_wn.reproduce.cost import cost
from crossq_wn.reproduce.studies import Run
from crossq_wn.runs.checkpoints import available
from crossq_wn.runs.config import RunConfig, read_config
from crossq_wn.runs.directory import RunDirectory

Say = Callable[[str], None]
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# What may differ between a run and its plan: how long it is, what is recorded besides.
_NOT_NUMBERS = ("frames", "checkpoint_every", "log_every", "video", "tensorboard", "wandb")


class State(NamedTuple):
    """How far a run has come."""

    kind: Literal["missing", "without a checkpoint", "damaged", "cut off", "finished"]
    frames: int  # environment frames, per seed, of its newest checkpoint


class Outcome(NamedTuple):
    """How training ended."""

    signal: int | None  # what stopped it
    failed: dict[Path, str]  # by run directory: why


def look(run: Run) -> State:
    """How far a run has come.

    Raises UserError if its directory holds something else.
    """
    if not run.path.exists():
        return State("missing", 0)
    if {path.name for path in run.path.iterdir()} <= {".lock", ".config.json.partial"}:
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


def remaining(run: Run) -> float:
    """Core-seconds that a run still needs, about."""
    return cost(run.config).core_seconds * max(0.0, 1 - look(run).frames / run.config.options.frames)


def train(runs: Sequence[Run], jobs: int, say: Say, environment: Mapping[str, str]) -> Outcome:
    """Trains what is missing and resumes what was cut off, the longest first; skips what has finished.

    A signal stops all children, which then save a checkpoint; a second one does not wait for that.

    Args:
        runs: what shall be there in the end.
        jobs: how many to train side by side.
        say: told of every event, in a line.
        environment: environment variables of the processes.

    Raises:
        UserError: a run directory holds something else.
    """
    queue = sorted((run for run in runs if look(run).kind != "finished"), key=remaining)
    total, failed = len(queue), dict[Path, str]()
    slots: dict[int, _Job] = {}
    with _signals() as received, _ended(slots):
        while slots or (queue and not received):
            for slot in sorted(set(range(jobs)) - set(slots)):
                if queue and not received:
                    run = queue.pop()
                    count = f"[{total - len(queue)}/{total}]"
                    try:
                        slots[slot] = _start(run, _processors(slot, jobs), environment, count, say)
                    except UserError as reason:
                        failed[run.path] = str(reason)
                        say(f"{count} {_name(run)} cannot start: {reason}")
            for slot, job in list(slots.items()):
                job.forward(received)
                if job.process.poll() is not None:
                    del slots[slot]
                    lacking = job.why(received)
                    say(f"{job.count} {_name(job.run)}: {lacking or 'finished'}")
                    if lacking and not received:
                        failed[job.run.path] = lacking
            time.sleep(0.1)
    return Outcome(received[0] if received else None, failed)


@dataclass
class _Job:
    """A run that is being trained."""

    run: Run
    process: subprocess.Popen[bytes]
    log: Path
    count: str
    told: int = 0  # signals passed on

    def forward(self, received: Sequence[int]) -> None:
        """Passes on signals; a process of its own group has not had them."""
        for _ in received[self.told :]:
            self.process.terminate()
        self.told = len(received)

    def why(self, received: Sequence[int]) -> str:
        """Why the run has not finished, or nothing."""
        code, state = self.process.returncode, look(self.run)
        if state.kind == "finished" and (received or code == 0):
            return ""
        if received:
            return f"stopped at {state.frames:,} frames"
        lines = self.log.read_text(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "it said nothing").strip()
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return f"failed ({how}): {last}; see {self.log}"


def _start(run: Run, processors: Sequence[int], environment: Mapping[str, str], count: str, say: Say) -> _Job:
    state = look(run)
    if state.kind == "damaged":
        raise UserError(f"{run.path} has no readable config.json: put it back, or move the folder away")
    arguments = run.command
    if state.kind == "cut off":
        arguments = ("resume", str(run.path), "--frames", str(run.config.options.frames))
    elif state.kind == "without a checkpoint":
        say(f"{count} {_name(run)} had no checkpoint; what it left lies in {_set_aside(run.path)}")
    run.path.parent.mkdir(parents=True, exist_ok=True)
    log = run.path.parent / f"{run.path.name}.log"
    with open(log, "ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "crossq_wn", *arguments],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            env=dict(environment), start_new_session=True,
        )  # fmt: skip
    if hasattr(os, "sched_setaffinity"):  # before libraries count processors; their threads inherit it
        with suppress(OSError):
            os.sched_setaffinity(process.pid, processors)
    how = f"resumes at {state.frames:,} of" if state.frames else "trains"
    minutes, frames = remaining(run) / 60, run.config.options.frames
    say(f"{count} {_name(run)} {how} {frames:,} frames, about {minutes:.0f} min; log: {log}")
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
    """What of a configuration that decides numbers is not as planned."""
    left, right = (_flat(config) for config in (there, planned))
    names = [name for name in {**left, **right} if name not in _NOT_NUMBERS]
    return [f"{n} is {left.get(n)}, not {right.get(n)}" for n in names if left.get(n) != right.get(n)]


def _flat(config: RunConfig) -> dict[str, Any]:
    values = config.to_json()
    system, settings, options = (values.pop(name) for name in ("system", "settings", "options"))
    values |= {name: system[name] for name in ("algorithm", "preset")}
    return {**settings, **options, **values}  # the resolved time limit, discount and action repeat count


def _name(run: Run) -> str:
    return f"{run.config.task}, {run.label}"


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
    """Collects signals that ask to stop, but for those that are ignored (nohup)."""
    received: list[int] = []
    heard = [number for number in _STOPS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda n, _: received.append(n)) for number in heard}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
