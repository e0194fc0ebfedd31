"""Options that say where a sweep trains its runs."""

import argparse
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from crossq_wn.cli.arguments import Parser, positive
from crossq_wn.errors import UserError
from crossq_wn.sweeps import bills
from crossq_wn.sweeps.engines import Engine
from crossq_wn.sweeps.history import log_folder
from crossq_wn.sweeps.local import LocalEngine
from crossq_wn.sweeps.on_ray import RayEngine, Resources, connected

# The engines to which each option means something.
_OPTIONS = {"address": ("ray",), "cpus": ("ray",), "gpus": ("ray",)}
_ENGINES = ("local", "ray")


def add_arguments(parser: Parser) -> None:
    """Adds `--on` and the options of each engine."""
    parser.add_argument(
        "--on", choices=_ENGINES, default="local", help="where runs train: this machine (default), or Ray"
    )
    parser.add_argument("--address", metavar="HOST:PORT", help="with --on ray: the head of a cluster")
    parser.add_argument("--cpus", type=positive, metavar="N", help="with --on ray: processors per run (1)")
    parser.add_argument("--gpus", type=_share, metavar="N", help="with --on ray: GPUs per run, as 0.5 (0)")


def check(parsed: argparse.Namespace) -> None:
    """Raises UserError for options that mean nothing to the engine."""
    for name, engines in _OPTIONS.items():
        if getattr(parsed, name) is not None and parsed.on not in engines:
            raise UserError(f"--{name} goes with --on {' or --on '.join(engines)}, not with --on {parsed.on}")


@contextlib.contextmanager
def opened(parsed: argparse.Namespace, out: Path, environment: Mapping[str, str]) -> Iterator[Engine]:
    """Makes the engine that a command line names ready to start runs.

    Args:
        parsed: the command line.
        out: the folder of the sweep.
        environment: the user's environment variables.

    Raises:
        UserError: something is not installed, or cannot be reached.
    """
    logs = log_folder(out)
    if parsed.on == "ray":
        with connected(parsed.address):
            yield RayEngine(logs, environment, Resources(parsed.cpus or 1, parsed.gpus or 0.0))
    else:
        jobs = parsed.jobs or bills.default_jobs()
        yield LocalEngine(jobs, logs, environment, bills.accelerators(environment))


def _share(text: str) -> float:
    """Reads a number of GPUs: whole, or a share of one."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 <= value <= 1 or value.is_integer()) or not 0 <= value < 2**15:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of GPUs nor a share such as 0.5")
    return value
