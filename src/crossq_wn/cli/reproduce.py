"""The command `reproduce`."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from crossq_wn import reproduce as steps
from crossq_wn.cli.arguments import Parser, positive
from crossq_wn.cli.console import say, tell, warn
from crossq_wn.cli.sweep import BILL, refuse_crowded, refuse_long
from crossq_wn.cli.tables import Table, add_forms, show
from crossq_wn.errors import UserError, option
from crossq_wn.sweeps.bills import in_words


def reproduce(parser: Parser, arguments: list[str]) -> int:
    """Runs `reproduce`: plans, trains what is missing, draws the figures and judges the claims."""
    _add_options(parser)
    parsed = parser.parse_args(arguments)
    _check_combination(parsed)
    environment = dict(os.environ)  # as the user set it
    figures, scale = list(dict.fromkeys(parsed.figures)), steps.scale_called(parsed.scale)
    runs, jobs = steps.plan(scale, figures, parsed.root), parsed.jobs or steps.default_jobs()
    out = parsed.out or parsed.root / scale.name / "results"
    steps.check_out(out, figures)
    if parsed.values is not None:
        _report(*steps.conclude_again(scale, figures, runs, parsed.values, out))
        return 0
    if parsed.so_far:
        _report(*steps.conclude(scale, figures, runs, {}, out, warn, ("finished", "cut off")))
        return 0
    bill = steps.bill(runs, jobs)
    show(
        Table(f"{', '.join(figures)} at the scale {scale.name}", BILL, bill.rows),
        parsed.form,
        in_words(bill, len(runs), jobs, parsed.root),
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


def _check_combination(parsed: argparse.Namespace) -> None:
    """Raises UserError for options that contradict one another."""
    if parsed.form != "text" and not parsed.dry_run:
        raise UserError(f"--{parsed.form} prints the plan alone: add --dry-run")
    alone = [name for name in ("dry_run", "values", "so_far") if getattr(parsed, name)]
    if len(alone) > 1:
        raise UserError(f"{' and '.join(map(option, alone))} are both given: leave one out")


def _add_options(parser: Parser) -> None:
    parser.add_argument("figures", nargs="+", metavar="FIGURE", help="fig1 to fig7; together they share runs")
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
    add_forms(parser)


def _check_failures(failed: int, runs: int) -> None:
    if failed:
        raise UserError(f"{failed} of {runs} runs failed: the same command tries them again")


def _report(findings: Sequence[steps.Finding], written: Sequence[Path]) -> None:
    for finding in findings:
        say(f"{finding.verdict}: {finding.claim.text} ({finding.group})")
    for path in written:
        say(path)
