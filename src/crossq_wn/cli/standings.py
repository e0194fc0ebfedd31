"""How far a sweep has come, as `sweep --status` shows it."""

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crossq_wn.cli.console import say
from crossq_wn.cli.tables import Column, Form, Table, show
from crossq_wn.errors import counted
from crossq_wn.sweeps import history, on_slurm, presence, status
from crossq_wn.sweeps.bills import spent
from crossq_wn.sweeps.plans import plan, seed_range
from crossq_wn.sweeps.scheduling import Standing
from crossq_wn.sweeps.search import Search
from crossq_wn.sweeps.status import Line

_MOST_LINES = 40  # runs that are shown one by one
_MOST_CAUSES = 10
_WATCH = 5.0  # seconds between looks
_ORDER: tuple[Standing, ...] = ("failed", "waiting", "running", "done")  # the worst first

# For programs.
_COLUMNS = (
    "run", "task", "system", Column("seeds", seed_range), "state", "frames", "of", "frames per second",
    "hours left", "why",
)  # fmt: skip


@dataclass
class Trouble:
    """What went wrong in the same way in some runs."""

    why: str  # as the first of them says it
    standing: Standing
    runs: int
    example: Path  # a run, relative to the sweep's folder


def follow(out: Path, form: Form, *, every: bool, watched: bool) -> int:
    """Prints how far a sweep has come, once or until nothing is left to do.

    Args:
        out: the folder of the sweep.
        form: for people or for programs, who get every run.
        every: whether people see every run, too.
        watched: whether to go on looking, if somebody sits at a terminal.
    """
    sheet, estimates = history.kept_plan(out), history.estimates(out)
    finder = None if sheet.search is None else Search(sheet, out, say, write=False)
    watched = watched and form == "text" and sys.stdout.isatty()
    while True:
        runs = plan(sheet, out) if finder is None else finder.known()  # a search goes on proposing
        found = status.lines(runs, out)
        if watched:
            print("\033[2J\033[H", end="")  # clears the terminal
        _show(found, status.summary(found, estimates), out, form, every=every)
        if not watched or all(line.standing in ("done", "failed") for line in found):
            return 0
        time.sleep(_WATCH)


def nobody_starts(found: Sequence[Line], out: Path) -> list[str]:
    """Says in a line if runs are left, and no sweep that would start them is under way."""
    if all(line.standing in ("done", "failed") for line in found) or presence.lives(out):
        return []
    queue = " (workers may wait in Slurm's queue)" if on_slurm.folder(out).exists() else ""
    return [f"no sweep is under way here{queue}: `crossq-wn sweep {out}` goes on"]


def time_left(hours: float | None) -> str:
    """Writes a number of hours for people."""
    if hours is None:
        return ""
    return spent(hours) if hours < 48 else f"{hours / 24:,.1f} days"


def troubles(found: Sequence[Line], out: Path) -> list[Trouble]:
    """What went wrong, failures first and the most frequent of them first.

    Runs that say the same but for paths and numbers are counted together.
    """
    groups: dict[tuple[Standing, str], Trouble] = {}
    for line in found:
        if not line.why:
            continue
        said = line.why.rpartition("; see ")[0] or line.why  # without its log
        cause = re.sub(r"\d[\d.,]*", "0", said.replace(str(line.run), ""))
        example = Trouble(line.why.replace(f"{out}/", ""), line.standing, 0, line.run.relative_to(out))
        groups.setdefault((line.standing, cause), example).runs += 1
    return sorted(groups.values(), key=lambda trouble: (_ORDER.index(trouble.standing), -trouble.runs))


def _show(found: Sequence[Line], told: status.Summary, out: Path, form: Form, *, every: bool) -> None:
    nobody = nobody_starts(found, out)
    notes = [_in_words(found, told._replace(hours=None) if nobody else told, out), *nobody]
    if form != "text":
        show(Table(f"sweep in {out}", _COLUMNS, found), form, notes)
        return
    causes = troubles(found, out)
    tables = [_table_of_causes(causes[:_MOST_CAUSES])] if causes else []
    shown = found if every else _under_way(found)[:_MOST_LINES]
    if shown:
        tables.append(_table_of_runs(shown, out, every=every))
    if len(shown) < len(found):
        notes.append("(--all shows every run)")
    show(tables, form, notes)


def _under_way(found: Sequence[Line]) -> list[Line]:
    """The runs that are trained now, and then those that were stopped on the way."""
    running = [line for line in found if line.standing == "running"]
    return running + [line for line in found if line.standing == "waiting" and line.frames]


def _table_of_causes(causes: Sequence[Trouble]) -> Table:
    columns = "why", "state", "runs", Column("for example", whole=True)
    rows = [(each.why, each.standing, each.runs, each.example) for each in causes]
    return Table("what went wrong", columns, rows)


def _table_of_runs(shown: Sequence[Line], out: Path, *, every: bool) -> Table:
    """A narrow table: a run's folder says task, system and seeds."""
    columns = Column("run", whole=True), "state", "trained", "frames per second", Column("left", time_left)
    rows = []
    for line in shown:
        state = "stopped" if line.standing == "waiting" and line.frames else line.standing
        trained = f"{100 * line.frames / line.total:.0f} %"
        rows.append((line.run.relative_to(out), state, trained, line.speed, line.hours))
    return Table("every run" if every else "under way", columns, rows)


def _in_words(found: Sequence[Line], told: status.Summary, out: Path) -> str:
    counts = ", ".join(f"{count:,} {standing}" for standing, count in told.standings.items())
    stopped = sum(line.standing == "waiting" and line.frames > 0 for line in found)
    begun = f" ({stopped:,} of those waiting were stopped on the way)" if stopped else ""
    left = "" if told.hours is None else f"; about {time_left(told.hours)} left at the present speed"
    return f"{out}: {counted(len(found), 'run')}: {counts}{begun}{left}"
