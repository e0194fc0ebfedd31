"""The command `sweep`."""

import argparse
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from crossq_wn.cli import engines, requests, standings
from crossq_wn.cli.arguments import Parser, number, positive
from crossq_wn.cli.console import say, tell
from crossq_wn.cli.requests import Request
from crossq_wn.cli.tables import Column, Table, add_forms, show
from crossq_wn.environments import require_named
from crossq_wn.errors import UserError, counted, naming_options
from crossq_wn.sweeps import bills, history, on_slurm, places
from crossq_wn.sweeps.bills import DAY, Bill, in_words
from crossq_wn.sweeps.driver import Sweep
from crossq_wn.sweeps.driving import Result, drive
from crossq_wn.sweeps.engines import Engine
from crossq_wn.sweeps.history import RETRIES
from crossq_wn.sweeps.plans import Run, plan
from crossq_wn.sweeps.search import Search
from crossq_wn.sweeps.sheets import Sheet
from crossq_wn.sweeps.states import State, refuse_overlap, state_of
from crossq_wn.training.warmup import require_learning

_MOST_JOBS = 1000  # runs side by side, unless it is said


def _counts(counts: Sequence[int]) -> str:
    return " to ".join(f"{count:,}" for count in counts)


BILL = (
    "system", "runs", "seeds", Column("frames per seed", _counts),
    "gradient updates", "ms each", "core-hours", "GB", "finished",
)  # fmt: skip


def sweep(parser: Parser, arguments: list[str]) -> int:
    """Runs `sweep`: plans many runs, trains what is missing, or shows how far they have come."""
    _add_arguments(parser)
    own, options = requests.divided(parser, arguments)
    parsed = parser.parse_args(own)
    requests.check_names(parser, options, arguments)
    environment = dict(os.environ)  # as the user set it
    _check_combination(parsed, options)
    if parsed.status is not None:
        return standings.follow(parsed.status, parsed.form, every=parsed.all, watched=parsed.watch)
    request = requests.request(parsed, options, arguments)
    places.check(request.out)
    if parsed.on != "local":  # nodes may have another working directory
        request = replace(request, out=request.out.absolute())
    events = history.recorded(request.out, tell)
    with naming_options(flags=parsed.plan is None):
        finder = _finder(request.sheet, request.out, parsed, events)
        runs = plan(request.sheet, request.out) if finder is None else finder.known()
    mirror = None if parsed.dry_run else engines.mirrored(parsed, request.out, runs)
    states = _states(runs)
    billed = _billed(finder, runs, states)
    if parsed.dry_run:
        _show_plan(request, *billed, parsed)
        return 0
    if parsed.on == "slurm":
        on_slurm.check()
        _agree(request, *billed, parsed)
        return engines.submit(parsed, request.out, runs, states, say)
    with engines.opened(parsed, request.out, environment, mirror) as engine:
        _agree(request, *billed, parsed, engine)
        jobs = parsed.jobs or _MOST_JOBS
        need = partial(bills.need, cpus=engines.processors_each(parsed))
        made = Sweep(
            runs, request.out, engine, jobs, need, events, parsed.retries, parsed.wait, states=states,
            since=parsed.since,
        )  # fmt: skip
        result = drive(made, more=partial(finder.advance, made) if finder else lambda: False)
    if finder is not None:
        tell(finder.best())
    return _concluded(result, made, requests.again(parser, parsed, request.out))


def _finder(
    sheet: Sheet, out: Path, parsed: argparse.Namespace, events: Callable[[str], None]
) -> Search | None:
    """What proposes runs, if a sweep searches."""
    if sheet.search is None:
        return None
    if parsed.on == "slurm" or parsed.store:
        raise UserError("a search takes neither --on slurm nor --store: leave them out")
    return Search(sheet, out, say if parsed.dry_run else events, write=not parsed.dry_run)


def _billed(finder: Search | None, runs: list[Run], states: list[State]) -> tuple[list[Run], list[State]]:
    return (runs, states) if finder is None else finder.prospect()  # which are those of trials to come, too


def _agree(
    request: Request,
    runs: Sequence[Run],
    states: Sequence[State],
    parsed: argparse.Namespace,
    engine: Engine | None = None,
) -> None:
    """Shows a plan, and keeps it if it may be started. Raises UserError if it takes somebody to say so."""
    bill = _show_plan(request, runs, states, parsed, engine)
    allowed = parsed.yes or history.keeps(request.out, request.text)
    refuse_long(bill, allowed=allowed)
    refuse_crowded(bills.crowded(runs, states, request.out), allowed=allowed)
    history.keep_plan(request.out, request.text)
    if bill.unfinished:  # else nothing is measured
        history.keep_estimates(request.out, {run.path: bills.need(run).seconds for run in runs})


def _show_plan(
    request: Request,
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
    apart = bills.sooner_apart(runs, states, bill, jobs) if engines.on_cpu(parsed) and not unknown else ""
    lines += filter(None, [apart, bills.crowded(runs, states, request.out)])
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


def _retries(text: str) -> int:
    return positive(text, least=0)


def _states(runs: Sequence[Run]) -> list[State]:
    """How far each run has come.

    Raises:
        UserError: another run is in the place of one, or in its way, or one would learn nothing, or
            its task is not in the module that it names.
    """
    refuse_overlap(runs)
    states = [state_of(run) for run in runs]
    for state in states:
        if state.kind == "another run":
            raise UserError(f"{state.why}: choose another --out, or move that folder away")
    for run, state in zip(runs, states, strict=True):
        if state.kind == "missing":  # others go on, and say in their logs what is wrong
            require_learning(run.config)
            require_named(run.config.task)
    return states


def refuse_long(bill: Bill, *, allowed: bool) -> None:
    """Raises UserError if a plan takes more than a day and nobody has said that this is meant."""
    if bill.hours > DAY and not allowed:
        days = counted(round(bill.hours / DAY), "day")
        raise UserError(f"that would take about {days} here: --yes starts it")


def refuse_crowded(crowded: str, *, allowed: bool) -> None:
    """Raises UserError if the disk is too small for a plan and nobody has said that this is meant."""
    if crowded and not allowed:
        raise UserError(f"{crowded}: free some, choose another folder, or start it all the same by --yes")


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
        "--retries", type=_retries, default=RETRIES, help=f"how often a failed run is retried ({RETRIES})"
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
    parser.add_argument(
        "--yes", action="store_true", help="start even what takes more than a day, or more disk than is free"
    )
    parser.add_argument(
        "--status", type=Path, metavar="DIR", help="show how far the sweep in a folder has come"
    )
    parser.add_argument("--all", action="store_true", help="with --status: show every run")
    parser.add_argument("--watch", action="store_true", help="with --status: show it anew every few seconds")
    engines.add_arguments(parser)
    add_forms(parser)


def _concluded(result: Result, swept: Sweep, again: str) -> int:
    runs, out, elsewhere = swept.runs, swept.out, len(swept.elsewhere)
    if result.signal is not None:
        tell(f"stopped: `{again}` goes on from here")
        return 128 + result.signal
    if result.failed:
        raise UserError(
            f"{len(result.failed)} of {len(runs)} runs failed: `crossq-wn sweep --status {out}` says why, "
            f"`{again}` tries them again"
        )
    if elsewhere:
        tell(
            f"nothing is left to start here: {counted(elsewhere, 'run')} of {len(runs)} still train elsewhere"
        )
    else:
        tell(f"done: {out}")
    return 0
