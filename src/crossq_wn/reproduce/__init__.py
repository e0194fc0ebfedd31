"""Reproducing the paper: plan its runs, train the missing ones, draw its figures and judge its claims."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from crossq_wn.errors import UserError
from crossq_wn.reproduce import swept, values
from crossq_wn.reproduce.drawing import draw
from crossq_wn.reproduce.findings import Finding, ended_early, judge_all, why_unreadable
from crossq_wn.reproduce.pages import Context, check_out, write
from crossq_wn.reproduce.studies import PlannedRun, Scale, plan, scale_called, unlike
from crossq_wn.runs.protocol import read_terms, simulator_conflicts
from crossq_wn.sweeps import bills
from crossq_wn.sweeps.bills import Bill, default_jobs
from crossq_wn.sweeps.driver import Sweep
from crossq_wn.sweeps.driving import Result, drive
from crossq_wn.sweeps.history import logs, recorded
from crossq_wn.sweeps.local import LocalEngine
from crossq_wn.sweeps.states import Kind, State, state_of


def bill(runs: Sequence[PlannedRun], jobs: int) -> Bill:
    """Estimates what a plan costs, before anything is trained.

    Args:
        runs: the planned runs.
        jobs: number of runs that train side by side.

    Raises:
        UserError: a run directory holds something else.
    """
    labels = {run.path: run.system.label for run in runs}
    return bills.bill(runs, [look(run) for run in runs], jobs, lambda run: labels[run.path])


def crowded(runs: Sequence[PlannedRun], root: Path) -> str:
    """Says in words if a folder's disk has no room for what is left to train; empty if it has."""
    return bills.crowded(runs, [look(run) for run in runs], root)


def sooner_apart(runs: Sequence[PlannedRun], bill: Bill, jobs: int, environment: Mapping[str, str]) -> str:
    """Says how much sooner a plan would be done as a sweep with a process per seed; empty if it would not."""
    if bills.accelerators(environment):  # which the seeds of a process share
        return ""
    how = "`--plan FILE --seeds-per-process 1` and `crossq-wn sweep FILE`"
    return bills.sooner_apart(runs, [look(run) for run in runs], bill, jobs, how)


def look(run: PlannedRun) -> State:
    """Finds out how far a run has come.

    Raises:
        UserError: its directory holds something else.
    """
    state = state_of(run)
    if state.kind == "another run":
        raise UserError(f"{state.why}: choose another folder")
    return state


def train(
    runs: Sequence[PlannedRun],
    out: Path,
    jobs: int,
    say: Callable[[str], None],
    environment: Mapping[str, str],
) -> Result:
    """Trains missing runs and resumes interrupted ones, as a sweep does.

    Args:
        runs: all planned runs.
        out: the folder that holds them all.
        jobs: number of runs to train side by side.
        say: is told of every event, in one line.
        environment: environment variables of the processes.

    Raises:
        UserError: a run directory holds something else.
    """
    states = [look(run) for run in runs]
    engine = LocalEngine(jobs, logs(out), environment, bills.accelerators(environment))
    need = partial(bills.need, cpus=bills.processors_each(jobs))
    return drive(Sweep(runs, out, engine, jobs, need, recorded(out, say), states=states))


def conclude(
    scale: Scale,
    figures: Sequence[str],
    runs: Sequence[PlannedRun],
    failed: dict[Path, str],
    out: Path,
    warn: Callable[[str], None],
    shown: Collection[Kind] = frozenset({"finished"}),
) -> tuple[list[Finding], list[Path]]:
    """Judges and draws the runs that have finished, and writes the values that this is based on.

    Args:
        scale: whose plans the figures are.
        figures: such as fig3.
        runs: all planned runs.
        failed: the reason of each failure, by run directory.
        out: the folder for verdicts, values and pictures.
        warn: is told of what cannot be read or drawn, and of differences between runs that should be alike.
        shown: the kinds of runs to draw; claims are judged by finished ones alone.

    Returns:
        The findings, and the files written.
    """
    there = _look_at_all(runs, shown)
    notes = _conflicts(runs, there.finished)
    notes += [line for path, line in there.unread.items() if path not in failed]
    measured = values.of_runs(there.finished, notes.append)
    findings = judge_all(scale, figures, measured)
    for note in notes:
        warn(note)
    notes += ended_early(there.finished, measured)
    if there.missing:
        notes.append(f"{there.missing} of {len(runs)} runs have not finished and do not count")
    notes += [f"{run.name}: {failed[run.path]}" for run in runs if run.path in failed]
    command = f"crossq-wn reproduce {' '.join(figures)} --scale {scale.name}"
    written = write(findings, Context(scale, runs, notes, command), out)
    if there.finished:
        values.write(out / values.FILE, measured)
        written.append(out / values.FILE)
    return findings, [*written, *draw(scale, figures, there.drawn, out, warn)]


@dataclass
class _There:
    """What is there of planned runs, each looked at once."""

    finished: list[PlannedRun] = field(default_factory=list)  # and can serve as evidence
    drawn: list[PlannedRun] = field(default_factory=list)
    unread: dict[Path, str] = field(default_factory=dict)  # a line on each that cannot be read
    missing: int = 0  # have not finished


def _look_at_all(runs: Sequence[PlannedRun], shown: Collection[Kind]) -> _There:
    there = _There()
    for run in runs:
        state = look(run)
        ended = state.kind in ("finished", "seeds stopped")
        there.missing += not ended
        if state.kind == "damaged":
            there.unread[run.path] = state.why
        if not ended and state.kind not in shown:
            continue
        why = why_unreadable(run.path)
        if why is None:
            there.finished += [run] if ended else []
            there.drawn += [run] if ended or state.kind in shown else []
        elif ended:
            again = "move it away, and the same command trains it again"
            there.unread[run.path] = f"{run.path} does not count: {why}; {again}"
        else:
            there.unread[run.path] = f"{run.path} is not drawn: {why}"
    return there


def conclude_again(
    scale: Scale, figures: Sequence[str], runs: Sequence[PlannedRun], file: Path, out: Path
) -> tuple[list[Finding], list[Path]]:
    """Judges again from the values that an earlier reproduction wrote; the runs are not needed.

    Args:
        scale: whose plans the figures are.
        figures: such as fig3.
        runs: all planned runs.
        file: the values.
        out: the folder for verdicts.

    Returns:
        The findings, and the files written.

    Raises:
        UserError: the file cannot be read, or a file in the folder is not ours.
    """
    findings = judge_all(scale, figures, values.of_file(file, scale))
    command = f"crossq-wn reproduce {' '.join(figures)} --scale {scale.name} --values {file}"
    return findings, write(findings, Context(scale, runs, unlike(runs), command), out)


def _conflicts(runs: Sequence[PlannedRun], finished: Sequence[PlannedRun]) -> list[str]:
    """Differences between runs that should be alike."""
    found = []
    for line in simulator_conflicts(read_terms(run.path for run in finished)):
        found.append(f"different simulators, so runs may not be comparable: {line}")
    return found + unlike(runs)


__all__ = [
    "Bill", "Context", "Finding", "PlannedRun", "Scale",
    "bill", "check_out", "conclude", "conclude_again", "default_jobs", "look", "plan", "scale_called",
    "sooner_apart", "swept", "train",
]  # fmt: skip
