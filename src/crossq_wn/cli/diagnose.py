"""The command `diagnose`."""

from collections.abc import Callable
from pathlib import Path

from crossq_wn.cli.arguments import Parser, add_trust, whole_number
from crossq_wn.cli.console import warn
from crossq_wn.cli.tables import Column, Table, add_forms, show
from crossq_wn.errors import UserError, one_line
from crossq_wn.learning.diagnostics import DIAGNOSTICS
from crossq_wn.results.curvature import spectrum_of
from crossq_wn.results.experience import Experience, experience
from crossq_wn.results.health import change, courses, critic_of, findings
from crossq_wn.results.records import RunRecord
from crossq_wn.runs.folders import run_in


def diagnose(parser: Parser, arguments: list[str]) -> int:
    """Prints a run's diagnostics, and in words what they mean."""
    parser.add_argument("run", type=Path, help="the run directory, or a folder that holds one run")
    parser.add_argument(
        "--hessian", action="store_true", help="also compute the spectrum of the critic's Hessian (slow)"
    )
    parser.add_argument(
        "--seed", type=whole_number, help="the seed whose Hessian to compute; by default the first"
    )
    add_forms(parser)
    add_trust(parser)
    parsed = parser.parse_args(arguments)
    run = run_in(parsed.run)
    record, told = RunRecord(run), list[str]()
    critic, seen = critic_of(record.config), _experience(record, told.append)
    try:
        found = courses(run)
    except UserError as error:
        if seen is None or not findings({}, critic, seen):
            raise
        found = {}
        told.append(one_line(error))
    for line in told:
        warn(line)
    rows = []
    for name, course in found.items():
        rows.append([name, *course, change(name, course), DIAGNOSTICS[name].description])
    ends = Column("first", "{:.4g}".format), Column("last", "{:.4g}".format)
    table = Table(str(run), ["diagnostic", *ends, "change", "what it is"], rows)
    said = findings(found, critic, seen)
    if parsed.hessian:
        said += spectrum_of(run, parsed.seed, warn, trust=parsed.trust).describe()
    show([table] if rows else [], parsed.form, [f"* {sentence}" for sentence in said])
    return 0


def _experience(run: RunRecord, tell: Callable[[str], None]) -> Experience | None:
    """Reads what a run learned from, or tells why that cannot be done."""
    try:
        return experience(run, tell)
    except UserError as error:
        tell(f"nothing is said of rewards, observations and actions: {one_line(error)}")
        return None
