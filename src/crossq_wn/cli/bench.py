"""The command `bench`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crossq_wn.cli.arguments import Parser, number, parse_run
from crossq_wn.cli.console import warn
from crossq_wn.cli.tables import Table, show
from crossq_wn.errors import UserError
from crossq_wn.files import write_atomically
from crossq_wn.runs.config import RunConfig
from crossq_wn.runs.directory import manifest

_SHARED = ("seeds", "overlap", "matmul_precision")  # of the run options, those that speed depends on


def bench(parser: Parser, arguments: list[str]) -> int:
    """Runs `bench`: measures, prints the figures and, if asked to, writes them to a file."""
    parser.add_argument(
        "--against",
        choices=["sbx"],
        help="another package to measure in turn; it is installed in the cache folder (sbx: 4 GB)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument(
        "--seconds",
        type=number,
        default=0.7,
        help="seconds for each measurement in each of seven rounds; more give steadier figures "
        "(default: 0.7)",
    )
    values = parse_run(parser, arguments, _SHARED)
    from crossq_wn.bench import loop
    from crossq_wn.training import api

    against, out, seconds = (values.pop(name) for name in ("against", "json", "seconds"))
    config = api.configure(values.pop("task"), **values)
    if out is not None and out.exists():
        raise UserError(f"--json {out} exists: nothing is overwritten; choose another file")
    if not 0 < seconds < 1e3:
        raise UserError(f"--seconds is {seconds}: it must be above 0, such as 0.7")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    figures = loop.bench(config, warn, against, seconds)
    count = len(config.options.seeds)
    title = f"{config.task}, {config.system.algorithm}, UTD {config.settings.utd}, {count} seed(s)"
    show(Table(title, ["figure", "value", "meaning"], loop.describe(figures)))
    for sentence in figures["disturbed"]:
        warn(f"something else keeps this machine busy: {sentence}; measure again when it is idle")
    if out is not None:
        write_atomically(out, json.dumps(_about(config) | figures, indent=2) + "\n")
    return 0


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
