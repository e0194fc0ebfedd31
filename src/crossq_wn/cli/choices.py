"""Options that several commands on runs have."""

import argparse
from pathlib import Path
from typing import get_args

from crossq_wn.cli.arguments import Parser, number
from crossq_wn.results.along import LABELS
from crossq_wn.results.statistics import Aggregation, Weighting


def add_systems(parser: Parser, what: str) -> None:
    """Adds --systems, which chooses among systems; `what` completes "the systems to ..."."""
    parser.add_argument(
        "--systems",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"the systems to {what}, each by its name or first words; by default all",
    )


def add_reference(parser: Parser) -> None:
    """Adds --reference, which takes published curves."""
    parser.add_argument(
        "--reference",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="CSV files with curves that others published",
    )


def add_along(parser: Parser) -> None:
    """Adds --x, which says what curves run over."""
    parser.add_argument(
        "--x",
        choices=LABELS,
        default="frames",
        help="what curves run over: environment frames, gradient updates or hours of training; published "
        "curves are known over frames only (default: frames)",
    )


def add_aggregation(parser: Parser) -> None:
    """Adds --confidence and --weighting, which `aggregation` reads."""
    parser.add_argument(
        "--confidence",
        type=number,
        default=0.9,
        help="confidence of the intervals, between 0 and 1 (default: 0.9)",
    )
    parser.add_argument(
        "--weighting",
        choices=get_args(Weighting),
        default="tasks",
        help="what has equal weight where tasks have different numbers of seeds: tasks, or runs, which are "
        "then pooled as in most published tables (default: tasks)",
    )


def aggregation(parsed: argparse.Namespace) -> Aggregation:
    """Returns how runs are summed up over tasks."""
    return Aggregation(parsed.confidence, parsed.weighting)


def add_force(parser: Parser) -> None:
    """Adds --force, which compares runs whatever their protocols."""
    parser.add_argument(
        "--force", action="store_true", help="compare runs even if their protocols or settings differ"
    )
