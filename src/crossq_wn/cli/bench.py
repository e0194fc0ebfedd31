"""The command `bench`."""

import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from crossq_wn.bench import SECONDS
from crossq_wn.bench.figures import rows
from crossq_wn.cli.arguments import Parser, number, parse_run
from crossq_wn.cli.console import say, telling_of_folders, warn
from crossq_wn.cli.tables import Form, Table, add_forms, show
from crossq_wn.errors import UserError, counted
from crossq_wn.files import write_atomically
from crossq_wn.runs.config import RunConfig
from crossq_wn.runs.directory import manifest

_NAME = 24  # letters of the longest name of a figure
_SHARED = ("seeds", "overlap", "matmul_precision")  # of the run options, those that speed depends on


def bench(parser: Parser, arguments: list[str]) -> int:
    """Runs `bench`: measures, prints each figure once it is known, and may write all to a file."""
    parser.add_argument(
        "--against",
        choices=["sbx"],
        help="another package to measure in turn; it is installed in the cache folder (sbx: 4 GB)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the figures to this JSON file")
    add_forms(parser)
    parser.add_argument(
        "--seconds",
        type=number,
        default=SECONDS,
        help="seconds for each measurement in each of up to seven rounds; more give steadier figures, and "
        "all of it may take up to 130 times as long, 90 s by default (default: %(default)s)",
    )
    _check_json(arguments)
    values = parse_run(parser, arguments, _SHARED)
    from crossq_wn.training import api

    against, out, seconds, form = (values.pop(name) for name in ("against", "out", "seconds", "form"))
    config = api.configure(values.pop("task"), **values)
    if out is not None and out.exists():
        raise UserError(f"--out {out} exists: nothing is overwritten; choose another file")
    if not 0 < seconds < 1e3:
        raise UserError(f"--seconds is {seconds}: it must be above 0, such as {SECONDS}")
    if out is not None:
        with telling_of_folders(out):  # before anything is measured, in case it cannot be made
            out.parent.mkdir(parents=True, exist_ok=True)
    whole = _measured(config, against, seconds, form)
    if out is not None:
        write_atomically(out, json.dumps(whole, indent=2) + "\n")
    return 0


def _measured(config: RunConfig, against: str | None, seconds: float, form: Form) -> dict[str, Any]:
    """Measures and prints: for people row by row, for programs all at once; returns the figures."""
    from crossq_wn.bench import process

    count = counted(len(config.options.seeds), "seed")
    title = f"{config.task}, {config.system.algorithm}, UTD {config.settings.utd}, {count}"
    if form == "text":
        say(title)
    figures = process.bench(config, warn, _say_rows if form == "text" else _keep_quiet, against, seconds)
    whole = _about(config) | figures
    if form != "text":
        show(Table(title, ["figure", "value", "meaning"], list(rows(figures)), [whole]), form)
    if figures["not_measured"]:
        warn(f"not measured, because the time was over: {', '.join(figures['not_measured'])}")
    for sentence in figures["disturbed"]:
        warn(f"something else keeps this machine busy: {sentence}; measure again when it is idle")
    return whole


def _check_json(arguments: list[str]) -> None:
    """Raises UserError if --json is given a file, as it once took."""
    for option, value in pairwise(arguments):
        if option == "--json" and value.endswith(".json"):
            raise UserError(f"--json takes no file: --out {value} writes the figures to one")


def _say_rows(found: dict[str, Any]) -> None:
    """Prints a row for each figure that has just been measured."""
    for name, value, meaning in rows(found):
        say(f"  {name:<{_NAME}}  {value:>10}  {meaning}")


def _keep_quiet(found: dict[str, Any]) -> None:
    """Prints nothing: programs get all figures at once."""


def _about(config: RunConfig) -> dict[str, Any]:
    """What the figures depend on, for the file."""
    machine = manifest(config, [])
    return {
        "task": config.task,
        "algorithm": config.system.algorithm,
        "seeds": len(config.options.seeds),
        "overlap": config.options.overlap,
        "matmul_precision": config.options.matmul_precision,
        "settings": asdict(config.settings),
        "versions": machine["versions"],
        "device": machine["device"],
    }
