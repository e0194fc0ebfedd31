"""Measures how fast a configuration trains, and prints every figure as soon as it is known.

It is a process of its own, so that the caller can end it when the time is over, whatever it is doing:

    python -m crossq_wn.bench.measure JOB.json

JOB.json is a `Job`. Each line of output is a JSON object: {"figures": {...}} or {"say": "..."}.
"""

from __future__ import annotations  # JAX's types are loaded on first use

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NamedTuple

from crossq_wn.algorithms.settings import Settings
from crossq_wn.bench import SECONDS, figures, loop, peers
from crossq_wn.bench.figures import Figures, Taken
from crossq_wn.bench.floor import Measure, environments, floor
from crossq_wn.bench.updates import (
    Trainee,
    diagnosis,
    fed_updates,
    first,
    first_cached,
    problem_of,
    trainee,
    updates,
)
from crossq_wn.errors import UserError, naming_options
from crossq_wn.lazy import jax
from crossq_wn.learning.products import work_of_update
from crossq_wn.machine import collecting_seldom, devices, peak_memory
from crossq_wn.runs.config import RunConfig, preset_settings, with_algorithm
from crossq_wn.runs.system import System
from crossq_wn.training.algorithms import build_algorithm
from crossq_wn.training.building import replay_bytes
from crossq_wn.training.fitting import check_fits
from crossq_wn.types import Algorithm, Spec

REFUSED = 2  # the exit code of a process that names in a line what the user can mend
_ROUNDS = 7
_LEAD = 0.3  # an uncounted lead before each measurement, as a multiple of its seconds
# Shares of the time, after which a phase begins nothing new.
_SHARES = {"rounds": 0.45, "loop": 0.2}

Emit = Callable[[Figures], None]
Say = Callable[[str], None]


class Job(NamedTuple):
    """What to measure."""

    config: dict[str, Any]  # a `RunConfig` as JSON
    against: str | None  # a peer to compare with
    seconds: float  # for each measurement in each round
    budget: float  # seconds for everything


class Bench(NamedTuple):
    """What the phases of a benchmark work with."""

    config: RunConfig
    job: Job
    spec: Spec
    algorithm: Algorithm
    trainee: Trainee
    emit: Emit
    say: Say


def measure(job: Job, emit: Emit, say: Say) -> None:
    """Measures phase by phase: first what matters most.

    Args:
        job: what to measure.
        emit: is given figures as soon as they are known.
        say: is told what is being measured.

    Raises:
        UserError: there is no device, the environment cannot be made, or the learners do not fit into memory.
    """
    config = with_algorithm(RunConfig.from_json(job.config))
    devices()
    with jax.default_matmul_precision(config.options.matmul_precision):
        spec = problem_of(config)
        check_fits(config, spec)
        algorithm = build_algorithm(config, spec)
        say("the first update, which is compiled")
        bench = Bench(config, job, spec, algorithm, trainee(algorithm, config, spec), emit, say)
        replay = replay_bytes(config, spec, algorithm.sampling.priorities)
        emit({"replay_mib": len(config.options.seeds) * replay / 2**20})
        emit({"first_update_cold_s": first(bench.trainee)})
        update = updates(bench.trainee)
        taken = _rounds(bench, update)
        found = figures.speeds(taken, config) | figures.against(taken, job.against)
        on_cpu = jax.default_backend() == "cpu"
        emit(found | figures.doubts(found, taken, on_cpu=on_cpu))
        say("the whole training loop")
        looped = loop.whole_loop(config, update, job.seconds, _SHARES["loop"] * job.budget) | _memory()
        emit(looped | figures.doubts(found | looped, taken, on_cpu=on_cpu))
        say("the loop with networks of width 8 and an environment that costs nothing")
        emit(loop.loop_overhead(config, job.seconds / SECONDS))
        say("the first update in a new process, with the compilation cache")
        emit({"first_update_cached_s": first_cached(config)})
        say("diagnostics")
        emit(_diagnostics_share(bench, figures.middle(taken["update"])))


def _rounds(bench: Bench, update: Measure) -> Taken:
    """Measures updates, their products, environments, physics and a peer in turn, round after round."""
    config, job, spec = bench.config, bench.job, bench.spec
    began = time.perf_counter()
    taken: Taken = defaultdict(list)
    with ExitStack() as stack:
        peer = stack.enter_context(peers.start(job.against, _crossq_of_equal_size(config.settings), spec))
        work = work_of_update(bench.algorithm, spec, config.settings.batch_size)
        rivals: dict[str, Measure] = {
            "update": update,
            "floor": floor(work.products, len(config.options.seeds)),
            **stack.enter_context(environments(config)),
        }
        if peer is not None:
            crossq = replace(config, system=System("crossq"), settings=_crossq_of_equal_size(config.settings))
            rivals["crossq_update"] = fed_updates(trainee(build_algorithm(crossq, spec), crossq, spec))
            rivals[f"{job.against}_update"] = peer.measure
            bench.emit({f"{job.against}_device": peer.device})
            _tell_of_devices(str(job.against), peer.device, bench.say)
        for each in rivals.values():
            each(0.0)  # compiles, touches memory
        for number in range(_ROUNDS):
            if number and time.perf_counter() - began > _SHARES["rounds"] * job.budget:
                break
            bench.say(f"round {number + 1} of {_ROUNDS}: {', '.join(rivals)}")
            _round(rivals, job.seconds, taken)
    return taken


def _round(rivals: Mapping[str, Measure], seconds: float, taken: Taken) -> None:
    """Measures each of them once."""
    for name, each in rivals.items():
        # Threads of the previous measurement, such as those of BLAS, still spin for a while.
        each(_LEAD * seconds)
        taken[name].append(each(seconds))


def _tell_of_devices(peer: str, theirs: str, say: Say) -> None:
    ours = jax.default_backend()
    if theirs != ours:
        say(f"{peer} runs on the {theirs} and we on the {ours}: do not compare the two")


def _diagnostics_share(bench: Bench, update: float) -> Figures:
    """Diagnostics come with each row of metrics; `update` is the seconds of an update."""
    config = bench.config
    if bench.algorithm.view is None:
        return {"diagnostics_share": None}
    between = config.options.log_every / config.action_repeat * config.updates_per_decision  # updates
    return {"diagnostics_share": diagnosis(bench.trainee)(bench.job.seconds) / (between * update)}


def _memory() -> Figures:
    """The peak memory of this process so far."""
    on_device = jax.devices()[0].memory_stats() or {}
    return {
        "host_memory_mib": peak_memory() / 2**20,
        "device_memory_mib": on_device.get("peak_bytes_in_use", 0) / 2**20 or None,
    }


def _crossq_of_equal_size(settings: Settings) -> Settings:
    """Settings of CrossQ, which peers implement too, with the sizes of the given settings."""
    shared = ("utd", "batch_size", "actor_width", "critic_width", "critics", "policy_delay")
    sizes = {name: getattr(settings, name) for name in shared if hasattr(settings, name)}
    return replace(preset_settings("crossq", "default"), **sizes)


def own_lines() -> IO[str]:
    """Standard output for our lines alone; what anything else prints goes to standard error."""
    own = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return own


@collecting_seldom()
def main(path: Path) -> None:
    """Measures the job that a file describes."""
    lines = own_lines()

    def write(kind: str, content: Any) -> None:
        print(json.dumps({kind: content}), file=lines, flush=True)

    job = Job(**json.loads(path.read_text()))
    measure(job, lambda found: write("figures", found), lambda text: write("say", text))


if __name__ == "__main__":
    try:
        with naming_options():
            main(Path(sys.argv[1]))
    except UserError as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(REFUSED)
