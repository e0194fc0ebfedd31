"""The command `reproduce`."""

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from crossq_wn import reproduce as steps
from crossq_wn.cli.arguments import Parser, positive
from crossq_wn.cli.console import say, tell, warn
from crossq_wn.cli.sweep import BILL, refuse_crowded, refuse_long
from crossq_wn.cli.tables import Table, add_forms, show
from crossq_wn.errors import UserError, option
from crossq_wn.sweeps.bills import in_words

_ALONE = ("dry_run", "values", "so_far", "plan", "runs")  # what excludes one another


def reproduce(parser: Parser, arguments: list[str]) -> int:
    """Runs `reproduce`: plans, trains what is missing, draws the figures and judges the claims."""
    _add_options(parser)
    parsed = parser.parse_args(arguments)
    _check_combination(parsed)
    environment = dict(os.environ)  # as the user set it
    figures, scale = list(dict.fromkeys(parsed.figures)), steps.scale_called(parsed.scale)
    runs, jobs = steps.plan(scale, figures, parsed.root), parsed.jobs or steps.default_jobs()
    if parsed.plan is not None:
        return _write_plan(parsed, scale, runs, arguments)
    out = parsed.out or (parsed.runs or parsed.root / scale.name) / "results"
    steps.check_out(out, figures)
    if parsed.values or parsed.so_far or parsed.runs:
        _judge(parsed, figures, scale, runs, out)
        return 0
    bill = steps.bill(runs, jobs)
    apart = steps.sooner_apart(runs, bill, jobs, environment)
    show(
        Table(f"{', '.join(figures)} at the scale {scale.name}", BILL, bill.rows),
        parsed.form,
        [*in_words(bill, len(runs), jobs, parsed.root), *filter(None, [apart])],
    )
    if parsed.dry_run:
        return 0
    refuse_long(bill, allowed=parsed.yes)
    refuse_crowded(steps.crowded(runs, parsed.root), allowed=parsed.yes)
    outcome = steps.train(runs, parsed.root / scale.name, jobs, tell, environment)
    if outcome.signal is not None:
        say("stopped: the same command goes on from here")
        return 128 + outcome.signal
    _report(*steps.conclude(scale, figures, runs, outcome.failed, out, warn))
    _check_failures(len(outcome.failed), len(runs))
    return 0


def _judge(
    parsed: argparse.Namespace,
    figures: Sequence[str],
    scale: steps.Scale,
    runs: Sequence[steps.PlannedRun],
    out: Path,
) -> None:
    """Judges and draws what has been trained already."""
    if parsed.values is not None:
        _report(*steps.conclude_again(scale, figures, runs, parsed.values, out))
        return
    if parsed.runs is not None:
        runs = steps.swept.trained(runs, parsed.runs)
    _report(*steps.conclude(scale, figures, runs, {}, out, warn, ("finished", "cut off")))


def _write_plan(
    parsed: argparse.Namespace, scale: steps.Scale, runs: Sequence[steps.PlannedRun], arguments: Sequence[str]
) -> int:
    command = shlex.join(arguments)
    steps.swept.write(parsed.plan, steps.swept.written(scale, runs, parsed.seeds_per_process, command))
    figures = " ".join(dict.fromkeys(parsed.figures))
    say(
        f"{parsed.plan}: `crossq-wn sweep {parsed.plan} --out DIR` trains these runs, here or on a cluster, "
        f"and `crossq-wn reproduce {figures} --scale {scale.name} --runs DIR` judges them"
    )
    return 0


def _check_combination(parsed: argparse.Namespace) -> None:
    """Raises UserError for options that contradict one another."""
    if parsed.form != "text" and not parsed.dry_run:
        raise UserError(f"--{parsed.form} prints the plan alone: add --dry-run")
    alone = [name for name in _ALONE if getattr(parsed, name)]
    if len(alone) > 1:
        raise UserError(f"{' and '.join(map(option, alone))} are both given: leave one out")
    if parsed.seeds_per_process is not None and parsed.plan is None:
        raise UserError("--seeds-per-process goes with --plan FILE")


def _add_options(parser: Parser) -> None:
    parser.add_argument("figures", nargs="+", help="fig1 to fig7; together they share runs")
    parser.add_argument(
        "--scale",
        required=True,
        help="smoke (minutes), laptop (hours), workstation (days) or paper (a cluster)",
    )
    parser.add_argument("--root", type=Path, default=Path("runs/reproduce"), help="the folder of the runs")
    parser.add_argument("--out", type=Path, help="for figures and verdicts; by default ROOT/SCALE/results")
    parser.add_argument(
        "--jobs", type=positive, help="runs side by side; by default one per GPU, or else per processor"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and its cost, train nothing")
    parser.add_argument("--yes", action="store_true", help="start even what takes more than a day")
    parser.add_argument(
        "--values",
        type=Path,
        metavar="FILE",
        help="train nothing: judge by the values.csv.gz of an earlier one",
    )
    parser.add_argument(
        "--so-far",
        action="store_true",
        help="train nothing: judge the runs that have finished, and draw those that are under way as well",
    )
    parser.add_argument(
        "--plan",
        type=Path,
        metavar="FILE",
        help="train nothing: write the file with which `crossq-wn sweep` trains the runs, as on a cluster",
    )
    parser.add_argument(
        "--seeds-per-process",
        type=positive,
        metavar="K",
        help="with --plan: seeds that train in one process (all; 1 suits processors)",
    )
    parser.add_argument(
        "--runs",
        type=Path,
        metavar="DIR",
        help="as --so-far, of the runs in the folder of such a sweep",
    )
    add_forms(parser)


def _check_failures(failed: int, runs: int) -> None:
    if failed:
        raise UserError(f"{failed} of {runs} runs failed: the same command tries them again")


def _report(findings: Sequence[steps.Finding], written: Sequence[Path]) -> None:
    for finding in findings:
        say(f"{finding.verdict}: {finding.claim.text} ({finding.group})")
    for path in written:
        say(path)
