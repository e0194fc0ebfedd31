"""Options that say where a sweep trains its runs."""

import argparse
import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from crossq_wn.cli.arguments import Parser, positive
from crossq_wn.cli.console import say
from crossq_wn.errors import UserError, counted
from crossq_wn.sweeps import bills, on_slurm
from crossq_wn.sweeps.engines import Engine
from crossq_wn.sweeps.history import History, log_folder
from crossq_wn.sweeps.local import LocalEngine
from crossq_wn.sweeps.on_ray import RayEngine, Resources, connected
from crossq_wn.sweeps.plans import Run
from crossq_wn.sweeps.states import State
from crossq_wn.sweeps.stored import Mirror

# The engines to which each option means something.
_OPTIONS = {
    "address": ("ray",), "cpus": ("ray", "slurm"), "gpus": ("ray", "slurm"), "workers": ("slurm",),
    "hours": ("slurm",), "slurm": ("slurm",), "store": ("ray",),
}  # fmt: skip
_ENGINES = ("local", "slurm", "ray")
_HOURS = 24.0  # of a worker on Slurm
_SPARE = 1.25  # times the memory that a run is expected to take; Slurm ends what takes more than it asked for


def add_arguments(parser: Parser) -> None:
    """Adds `--on` and the options of each engine."""
    add = parser.add_argument
    add(
        "--on",
        choices=_ENGINES,
        default="local",
        help="where runs train: on this machine (default), Slurm, Ray",
    )
    add("--cpus", type=positive, metavar="N", help="with --on ray or slurm: processors per run (1)")
    add("--gpus", type=_share, metavar="N", help="with --on ray or slurm: GPUs per run, such as 1 or 0.5 (0)")
    add("--address", metavar="HOST:PORT", help="with --on ray: the head of a cluster; by default RAY_ADDRESS")
    add(
        "--workers",
        type=_workers,
        metavar="N",
        help="with --on slurm: jobs in the array; by default one per run",
    )
    add(
        "--hours",
        type=_hours,
        metavar="H",
        help="with --on slurm: time limit, after which a job is requeued (24)",
    )
    add(
        "--slurm", type=_pair, action="append", metavar="KEY=VALUE",
        help="with --on slurm: another option of sbatch, as partition=long; may be repeated",
    )  # fmt: skip
    # Nodes that mount no common folder take each run from a store, and give it back.
    add(
        "--store",
        metavar="URL",
        help="with --on ray: where nodes that share no folder keep runs, as s3://...",
    )


def check(parsed: argparse.Namespace) -> None:
    """Raises UserError for options that mean nothing to the engine."""
    for name, engines in _OPTIONS.items():
        if getattr(parsed, name) is not None and parsed.on not in engines:
            raise UserError(f"--{name} goes with --on {' or --on '.join(engines)}, not with --on {parsed.on}")


@contextlib.contextmanager
def opened(
    parsed: argparse.Namespace, out: Path, environment: Mapping[str, str], mirror: Mirror | None
) -> Iterator[Engine]:
    """Makes the engine that a command line names ready to start runs.

    Args:
        parsed: the command line.
        out: the folder of the sweep.
        environment: the user's environment variables.
        mirror: of the store that it names, if it does.

    Raises:
        UserError: something is not installed, or cannot be reached.
    """
    logs = log_folder(out)
    if parsed.on == "ray":
        with connected(parsed.address):
            made = RayEngine(logs, environment, Resources(parsed.cpus or 1, parsed.gpus or 0.0), mirror)
            if not made.capacity():
                say("no node of the cluster has room for a run yet: runs wait for one that has")
            yield made
    else:
        jobs = parsed.jobs or bills.default_jobs()
        yield LocalEngine(jobs, logs, environment, bills.accelerators(environment))


def mirrored(parsed: argparse.Namespace, out: Path, runs: Sequence[Run]) -> Mirror | None:
    """Brings the sweep's folder up to date with the store that a command line names, if it names one.

    Args:
        parsed: the command line.
        out: the folder of the sweep.
        runs: those to bring up to date.

    Returns:
        The mirror; None without --store.

    Raises:
        UserError: the store cannot be used.
    """
    if parsed.store is None:
        return None
    mirror = Mirror(parsed.store, out)
    mirror.refresh_all(runs)
    return mirror


def submit(
    parsed: argparse.Namespace,
    out: Path,
    runs: Sequence[Run],
    states: Sequence[State],
    say: Callable[[str], None],
) -> int:
    """Puts workers into Slurm's queue, which train what is left of a sweep; returns the exit code.

    Args:
        parsed: the command line.
        out: the folder of the sweep, which all nodes have.
        runs: its runs.
        states: how far each has come.
        say: is told in one line what there is now.

    Raises:
        UserError: Slurm does not take them.
    """
    left = [run for run, state in zip(runs, states, strict=True) if state.kind != "finished"]
    if not left:
        say(f"done: {out}")
        return 0
    jobs, workers = beside(parsed, len(left))
    history, most = History(out), 0
    for run in left:
        known = history.memory(history.name(run.path))
        # The jobs of an array are alike, so each gets what the largest run needs.
        most = max(most, known or bills.need(run, processors_each(parsed)).memory)
    asked = on_slurm.Array(
        workers, jobs, parsed.cpus or 1, parsed.gpus or 0.0, int(_SPARE * most), parsed.hours or _HOURS,
        dict(parsed.slurm or ()),
    )  # fmt: skip
    words = (
        "sweep", str(out), "--jobs", str(jobs), "--retries", str(parsed.retries),
        "--no-wait", "--yes",  # it ends once nothing is left to start, and nobody is there to ask
        "--since", str(time.time()),  # what another worker gave up, or it itself before, stays given up
    )  # fmt: skip
    executor = on_slurm.executor(asked, on_slurm.folder(out))
    ids = on_slurm.submit(executor, on_slurm.Worker(words, Path.cwd()), workers)
    say(
        f"{counted(workers, 'worker')} in Slurm's queue as job {ids[0].partition('_')[0]}: "
        f"`crossq-wn sweep --status {out} --watch` follows them; the same command adds more"
    )
    return 0


def processors_each(parsed: argparse.Namespace) -> int:
    """How many processors a run gets."""
    if parsed.on == "local":
        return bills.processors_each(parsed.jobs or bills.default_jobs())
    return parsed.cpus or 1


def on_cpu(parsed: argparse.Namespace) -> bool:
    """Whether runs get no GPU."""
    return not (bills.accelerators(os.environ) if parsed.on == "local" else parsed.gpus)


def beside(parsed: argparse.Namespace, left: int) -> tuple[int, int]:
    """How many runs each of Slurm's jobs trains side by side, and how many jobs those left take.

    Args:
        parsed: the command line.
        left: runs that are not finished.

    Returns:
        Runs side by side in a job, and jobs.
    """
    jobs = parsed.jobs or 1
    return jobs, min(parsed.workers or on_slurm.MOST_WORKERS, max(1, math.ceil(left / jobs)))


def _workers(text: str) -> int:
    value = positive(text)
    if value > on_slurm.MOST_WORKERS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is more than the {on_slurm.MOST_WORKERS:,} that an array takes"
        )
    return value


def _hours(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.1 <= value <= 24 * 365:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of hours from 0.1 to 8760")
    return value


def _pair(text: str) -> tuple[str, str]:
    name, between, value = text.partition("=")
    if not between or not name.replace("-", "").isalnum():
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE, such as partition=long")
    return name, value


def _share(text: str) -> float:
    """Reads a number of GPUs: whole, or a share of one."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 <= value <= 1 or value.is_integer()) or not 0 <= value < 2**15:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of GPUs nor a share such as 0.5")
    return value
