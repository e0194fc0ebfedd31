"""The command `sweep`."""

import argparse
import math
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.algorithms.settings import setting_names
from crossq_wn.cli import engines
from crossq_wn.cli.arguments import Parser, number, positive, whole_number
from crossq_wn.cli.console import say
from crossq_wn.cli.tables import Column, Form, Table, add_forms, show
from crossq_wn.errors import UserError, counted
from crossq_wn.runs.familiar import meant
from crossq_wn.runs.options import OPTION_NAMES
from crossq_wn.sweeps import bills, history, on_slurm, status
from crossq_wn.sweeps.bills import Bill
from crossq_wn.sweeps.driver import Sweep
from crossq_wn.sweeps.driving import Result, drive
from crossq_wn.sweeps.engines import Engine
from crossq_wn.sweeps.history import RETRIES
from crossq_wn.sweeps.plans import Planned, Run, plan, seed_range
from crossq_wn.sweeps.search import Search
from crossq_wn.sweeps.sheets import Sheet, parse, written
from crossq_wn.sweeps.states import State, refuse_overlap, state_of

_DAY = 24  # hours
_MOST_LINES = 40  # runs that are shown one by one
_WATCH = 5.0  # seconds between looks
_MOST_JOBS = 1000  # runs side by side, unless it is said


def _counts(counts: Sequence[int]) -> str:
    return " to ".join(f"{count:,}" for count in counts)


BILL = (
    "system", "runs", "seeds", Column("frames per seed", _counts),
    "gradient updates", Column("ms each", "{:.1f}".format), Column("core-hours", "{:.2f}".format),
    Column("GB", "{:.2f}".format), "finished",
)  # fmt: skip


_STATUS = (
    Column("run", whole=True), "task", "system", Column("seeds", seed_range), "state", "frames", "of",
    "frames per second", "hours left", "why",
)  # fmt: skip


@dataclass(frozen=True)
class _Request:
    """A sweep as it was asked for."""

    sheet: Sheet
    text: str  # of its file
    out: Path


def sweep(parser: Parser, arguments: list[str]) -> int:
    """Runs `sweep`: plans many runs, trains what is missing, or shows how far they have come."""
    _add_arguments(parser)
    own, options = _divided(parser, arguments)
    parsed = parser.parse_args(own)
    _check_names(parser, options, arguments)
    environment = dict(os.environ)  # as the user set it
    _check_combination(parsed, options)
    if parsed.status is not None:
        return _follow_status(parsed)
    request = _request(parsed, options, arguments)
    if parsed.on != "local":  # nodes may have another working directory
        request = replace(request, out=request.out.absolute())
    finder = _finder(request.sheet, request.out, parsed)
    runs = plan(request.sheet, request.out) if finder is None else finder.known()
    mirror = None if parsed.dry_run else engines.mirrored(parsed, request.out, runs)
    states = _states(runs)
    billed = _billed(finder, runs, states)
    if parsed.dry_run:
        _show_plan(request, *billed, parsed)
        return 0
    if parsed.on == "slurm":
        on_slurm.check()
        refuse_long(_show_plan(request, *billed, parsed), allowed=parsed.yes)
        history.keep_plan(request.out, request.text)
        return engines.submit(parsed, request.out, runs, states, say)
    with engines.opened(parsed, request.out, environment, mirror) as engine:
        bill = _show_plan(request, *billed, parsed, engine)
        refuse_long(bill, allowed=parsed.yes)
        history.keep_plan(request.out, request.text)
        jobs = parsed.jobs or _MOST_JOBS
        made = Sweep(
            runs, request.out, engine, jobs, bills.need, say, parsed.retries, parsed.wait, states=states,
            since=parsed.since,
        )  # fmt: skip
        result = drive(made, more=partial(finder.advance, made) if finder else lambda: False)
    if finder is not None:
        say(finder.best())
    return _concluded(result, made.runs, request.out, len(made.elsewhere))


def _finder(sheet: Sheet, out: Path, parsed: argparse.Namespace) -> Search | None:
    """What proposes runs, if a sweep searches."""
    if sheet.search is None:
        return None
    if parsed.on == "slurm" or parsed.store:
        raise UserError("a search takes neither --on slurm nor --store: leave them out")
    return Search(sheet, out, say, write=not parsed.dry_run)


def _billed(finder: Search | None, runs: list[Run], states: list[State]) -> tuple[list[Run], list[State]]:
    return (runs, states) if finder is None else finder.prospect()  # which are those of trials to come, too


def _show_plan(
    request: _Request,
    runs: Sequence[Run],
    states: Sequence[State],
    parsed: argparse.Namespace,
    engine: Engine | None = None,
) -> Bill:
    """Prints what a sweep would train and what that costs; without an engine as on this machine."""
    jobs = side_by_side(parsed.jobs, engine)
    if parsed.on == "slurm":
        jobs = math.prod(engines.beside(parsed, sum(state.kind != "finished" for state in states)))
    bill = bills.bill(runs, states, jobs, lambda run: run.config.system.label)
    unknown = parsed.on == "ray" and engine is None and parsed.jobs is None  # until it is connected to
    lines = in_words(bill, len(runs), None if unknown else jobs, request.out)
    lines += bills.untimed(runs, states)
    show(Table(f"sweep in {request.out}", BILL, bill.rows), parsed.form, lines)
    return bill


def side_by_side(asked: int | None, engine: Engine | None) -> int:
    """How many runs train side by side: as many as were asked for, as far as there is room for them."""
    room = engine.capacity() if engine else 0
    return min(asked or room, room) if room else asked or bills.default_jobs()


def _check_combination(parsed: argparse.Namespace, options: dict[str, list[Any]]) -> None:
    """Raises UserError for options that mean nothing together."""
    engines.check(parsed)
    if parsed.status is not None:
        trains = (
            parsed.plan, options, parsed.out, parsed.dry_run, parsed.on != "local", parsed.jobs, parsed.yes,
            parsed.seeds_per_process, not parsed.wait, parsed.retries != RETRIES,
        )  # fmt: skip
        if any(trains):
            raise UserError(f"--status shows the sweep in {parsed.status}: leave out everything else")
        return
    for name in ("watch", "all"):
        if getattr(parsed, name):
            raise UserError(f"--{name} goes with --status DIR")
    if parsed.form != "text" and not parsed.dry_run:
        raise UserError(f"--{parsed.form} prints the plan alone: add --dry-run")


def _states(runs: Sequence[Run]) -> list[State]:
    """How far each run has come. Raises UserError if another run is in the place of one, or in its way."""
    refuse_overlap(runs)
    states = [state_of(run) for run in runs]
    for state in states:
        if state.kind == "another run":
            raise UserError(f"{state.why}: choose another --out, or move that folder away")
    return states


def in_words(bill: Bill, runs: int, jobs: int | None, out: Path) -> list[str]:
    """What a bill says, as lines below its table; without `jobs` nobody knows how many run side by side."""
    days = f" ({bill.hours / _DAY:,.1f} days)" if bill.hours > _DAY else ""
    hours = (
        f"{bill.hours:.1f} hours{days} with {jobs} side by side" if jobs else "hours as the cluster has room"
    )
    return [
        f"{bill.unfinished} of {runs} runs to train: about {bill.core_hours:.1f} core-hours, "
        f"{hours} (the longest run {bill.longest:.1f}); "
        f"in the end {bill.disk:.1f} GB in {out}",
        f"({bill.how})",
    ]


def refuse_long(bill: Bill, *, allowed: bool) -> None:
    """Raises UserError if a plan takes more than a day and nobody has said that this is meant."""
    if bill.hours > _DAY and not allowed:
        days = counted(round(bill.hours / _DAY), "day")
        raise UserError(f"that would take about {days} here: --yes starts it")


def _add_arguments(parser: Parser) -> None:
    parser.usage = f"{parser.prog} [FILE.toml | DIR | --OPTION VALUE,VALUE ...] [options]"
    parser.epilog = "Any option of `crossq-wn train` may be given with several values, separated by commas."
    parser.add_argument(
        "plan", nargs="?", metavar="FILE|DIR", help="the sweep's file, or the folder of a sweep to go on with"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder of the runs (runs/FILE)")
    parser.add_argument(
        "--seeds-per-process", type=positive, metavar="K", help="seeds that train in one process (all)"
    )
    parser.add_argument(
        "--jobs", type=positive, help="how many runs train at once; by default one per GPU, or per processor"
    )
    parser.add_argument(
        "--retries", type=whole_number, default=RETRIES, help=f"how often a failed run is retried ({RETRIES})"
    )
    parser.add_argument(
        "--no-wait",
        dest="wait",
        action="store_false",
        help="end when nothing is left to start, although other sweeps on the folder still train",
    )
    # For the workers of an array, who share one count of failures.
    parser.add_argument("--since", type=number, default=math.inf, help=argparse.SUPPRESS)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and its cost, train nothing")
    parser.add_argument("--yes", action="store_true", help="start even what takes more than a day")
    parser.add_argument(
        "--status", type=Path, metavar="DIR", help="show how far the sweep in a folder has come"
    )
    parser.add_argument("--all", action="store_true", help="with --status: show every run")
    parser.add_argument("--watch", action="store_true", help="with --status: show it anew every few seconds")
    engines.add_arguments(parser)
    add_forms(parser)


def _request(parsed: Any, options: Mapping[str, Sequence[Any]], arguments: Sequence[str]) -> _Request:
    """Reads the sweep that a command line asks for."""
    if parsed.plan is None:
        if not options:
            raise UserError("name the sweep's file, or give options such as --task dog-run --seeds 0:10")
        if parsed.out is None:
            raise UserError("--out is missing: name the folder for the runs")
        text = written(options, parsed.seeds_per_process, shlex.join(["crossq-wn", "sweep", *arguments]))
        return _Request(parse(text, "the command line"), text, parsed.out)
    if options:
        raise UserError(f"--{next(iter(options))} and {parsed.plan} are both given: put it into the file")
    path = Path(parsed.plan)
    if path.is_dir():
        path, out = history.newest_plan(path), path
    else:
        out = Path("runs") / path.stem
    sheet, text = history.read_sheet(path)
    if parsed.seeds_per_process is not None:
        raise UserError(
            "--seeds-per-process is for sweeps without a file: put seeds_per_process into the file"
        )
    return _Request(sheet, text, parsed.out or out)


def _divided(parser: Parser, arguments: Sequence[str]) -> tuple[list[str], dict[str, list[Any]]]:
    """Divides arguments into those of `sweep`, and the values of options of `train` by their Python names."""
    own: list[str] = []
    options: dict[str, list[Any]] = {}
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        flag, between, text = word.partition("=")
        if not flag.startswith("--") or len(flag) < 3 or flag in parser._option_string_actions:
            own.append(word)
            continue
        if not between and waiting and not waiting[0].startswith("--"):
            between, text = "=", waiting.pop(0)
        name, values = _option(flag[2:].replace("-", "_"), text if between else None)
        if name in options:
            raise UserError(f"{flag} is given twice: separate its values by commas")
        options[name] = values
    return own, options


def _check_names(parser: Parser, options: Mapping[str, Sequence[Any]], arguments: Sequence[str]) -> None:
    """Raises UserError for an option that no run of the package's own algorithms has."""
    if any(":" in str(algorithm) for algorithm in options.get("algorithm", ())):
        return  # a user's own has hyperparameters of its own
    known = {"task", "algorithm", "preset", "seed", *OPTION_NAMES}
    for recipe in ALGORITHMS.values():
        known |= {*setting_names(recipe.settings)}
    for name in options:
        if name not in known:
            hint, flag = meant(name, known), name.replace("_", "-")
            negated = f"--no-{flag}" in (each.partition("=")[0] for each in arguments)  # as it was written
            flag = f"no-{flag}" if negated else flag
            parser.error(f"unrecognized arguments: --{flag}" + (f" ({hint})" if hint else ""))


def _option(name: str, text: str | None) -> tuple[str, list[Any]]:
    """Reads the values of an option; without a text it is one to turn on or off, as --no-diagnostics."""
    if text is None:
        return name.removeprefix("no_"), [not name.startswith("no_")]
    if name in ("seeds", "seed"):
        return name, [text]
    return name, [_value(part) for part in text.split(",")]


def _value(text: str) -> Any:
    """Reads a value: a whole number, which may be written 1e6, another number, yes or no, or a text."""
    for read in (int, float):
        try:
            value = read(text)
        except ValueError:
            continue
        whole = isinstance(value, float) and value.is_integer() and "." not in text
        return int(value) if whole else value
    return {"true": True, "false": False}.get(text, text)


def _follow_status(parsed: Any) -> int:
    """Prints how far a sweep has come, once or until nothing is left to do."""
    sheet, out = history.kept_plan(parsed.status), parsed.status
    finder = None if sheet.search is None else Search(sheet, out, say, write=False)
    watched = parsed.watch and parsed.form == "text" and sys.stdout.isatty()
    while True:
        runs = plan(sheet, out) if finder is None else finder.known()  # a search goes on proposing
        found = status.lines(runs, parsed.status)
        if watched:
            print("\033[2J\033[H", end="")  # clears the terminal
        _show_status(found, parsed.status, parsed.form, every=parsed.all)
        if not watched or all(line.standing in ("done", "failed") for line in found):
            return 0
        time.sleep(_WATCH)


def _show_status(found: Sequence[status.Line], out: Path, form: Form, *, every: bool) -> None:
    told, shown = status.summary(found), found
    if form == "text" and not every:
        told_of = [line for line in found if line.standing in ("running", "failed") or line.why]
        shown = sorted(told_of, key=lambda line: line.standing not in ("running", "failed"))[:_MOST_LINES]
    counts = ", ".join(f"{count:,} {standing}" for standing, count in told.standings.items())
    left = "" if told.hours is None else f"; about {told.hours:,.1f} hours left at the present speed"
    more = "" if len(shown) == len(found) else "; --all shows every run"
    show(Table(f"sweep in {out}", _STATUS, shown), form, [f"{len(found):,} runs: {counts}{left}{more}"])


def _concluded(result: Result, runs: Sequence[Planned], out: Path, elsewhere: int) -> int:
    if result.signal is not None:
        say(f"stopped: `crossq-wn sweep {out}` goes on from here")
        return 128 + result.signal
    if result.failed:
        raise UserError(
            f"{len(result.failed)} of {len(runs)} runs failed: `crossq-wn sweep --status {out}` says why, "
            f"`crossq-wn sweep {out}` tries them again"
        )
    if elsewhere:
        say(
            f"nothing is left to start here: {counted(elsewhere, 'run')} of {len(runs)} still train elsewhere"
        )
    else:
        say(f"done: {out}")
    return 0
