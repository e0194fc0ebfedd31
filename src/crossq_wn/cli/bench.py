"""The command `bench`."""

import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from crossq_wn.cli.arguments import Parser, number, parse_run
from crossq_wn.cli.console import telling_of_folders, warn
from crossq_wn.cli.tables import Table, add_forms, show
from crossq_wn.errors import UserError, counted
from crossq_wn.files import write_atomically
from crossq_wn.runs.config import RunConfig
from crossq_wn.runs.directory import manifest

_SHARED = ("seeds", "overlap", "matmul_precision")  # of the run options, those that speed depends on


def bench(parser: Parser, arguments: list[str]) -> int:
    """Runs `bench`: says how long it takes, measures, prints the figures and may write them to a file."""
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
        default=0.7,
        help="seconds for each measurement in each of seven rounds; more give steadier figures; all of it "
        "takes about 70 times as long, and compilations besides (default: 0.7)",
    )
    _check_json(arguments)
    values = parse_run(parser, arguments, _SHARED)
    from crossq_wn.bench import loop
    from crossq_wn.training import api

    against, out, seconds, form = (values.pop(name) for name in ("against", "out", "seconds", "form"))
    config = api.configure(values.pop("task"), **values)
    if out is not None and out.exists():
        raise UserError(f"--out {out} exists: nothing is overwritten; choose another file")
    if not 0 < seconds < 1e3:
        raise UserError(f"--seconds is {seconds}: it must be above 0, such as 0.7")
    if out is not None:
        with telling_of_folders(out):  # before anything is measured, in case it cannot be made
            out.parent.mkdir(parents=True, exist_ok=True)
    warn(f"takes about {loop.duration(seconds, against):.0f} seconds, and compilations besides")
    figures = loop.bench(config, warn, against, seconds)
    count = len(config.options.seeds)
    title = f"{config.task}, {config.system.algorithm}, UTD {config.settings.utd}, {counted(count, 'seed')}"
    whole = _about(config) | figures
    show(Table(title, ["figure", "value", "meaning"], loop.describe(figures), [whole]), form)
    for sentence in figures["disturbed"]:
        warn(f"something else keeps this machine busy: {sentence}; measure again when it is idle")
    if out is not None:
        write_atomically(out, json.dumps(whole, indent=2) + "\n")
    return 0


def _check_json(arguments: list[str]) -> None:
    """Raises UserError if --json is given a file, as it once took."""
    for option, value in pairwise(arguments):
        if option == "--json" and not value.startswith("-"):
            raise UserError(f"--json takes no file: --out {value} writes the figures to one")


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
