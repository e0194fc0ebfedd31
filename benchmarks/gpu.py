"""Measures on one accelerator what training costs there, within minutes, and keeps what it has at any time.

    python benchmarks/gpu.py --out gpu.json [--minutes 8] [--only updates loops]

It measures the environments, gradient updates, the whole training loop and the start, each in processes of
their own with a limit of their own. JSON is rewritten after every figure; the table at the end is for
benchmarks/README.md. On a CPU it measures less of everything.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TASKS = ("dog-run", "humanoid-run", "hopper-stand", "myo-key-turn-hard")
# Ways of XLA to launch a program as a graph, of which the best would become the package's own.
GRAPHS = {
    "off": "--xla_gpu_enable_command_buffer=",
    "all": "--xla_gpu_enable_command_buffer=FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,WHILE,CONDITIONAL",
    "all, small too": "--xla_gpu_enable_command_buffer=FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,WHILE,"
    "CONDITIONAL --xla_gpu_graph_min_graph_size=1",
}
SHARES = {"environments": 0.1, "updates": 0.35, "loops": 0.39, "start": 0.16}  # of the time
Figures = dict[str, Any]


def main() -> None:
    """Runs the phases one after the other, or in a process of its own a part of one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="where the figures go")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything")
    parser.add_argument("--only", nargs="+", choices=SHARES, default=list(SHARES), help="phases")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)  # a phase, and what of it
    chosen = parser.parse_args()
    if chosen.part:
        from crossq_wn.bench.measure import own_lines

        phase, about = chosen.part[0], json.loads(chosen.part[1])
        graphs = about.pop("graphs", None)
        if graphs is not None:  # XLA reads its flags when it first compiles
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {GRAPHS[graphs]}"
        lines = own_lines()
        for found in PARTS[phase](**about):
            print(json.dumps(found), file=lines, flush=True)
        return
    found = measure(chosen.only, 60 * chosen.minutes, chosen.out)
    print(table(found))


def measure(phases: list[str], seconds: float, out: Path) -> Figures:
    """Measures phase by phase.

    Args:
        phases: which of `SHARES`.
        seconds: for all of them.
        out: a file that is written after every figure.
    """
    found: Figures = {"device": _device()}
    on_cpu = found["device"]["platform"] == "cpu"
    total = sum(SHARES[phase] for phase in phases)
    for phase in phases:
        parts = list(_parts(phase, on_cpu))
        deadline = time.monotonic() + seconds * SHARES[phase] / total
        for number, about in enumerate(parts):
            # What a part leaves of its time, the later ones get.
            limit = (deadline - time.monotonic()) / (len(parts) - number)
            for figure, value in _child(phase, about, limit):
                name = " ".join([figure, *map(str, about.values())])
                found[name] = value
                print(f"{name}: {value}", flush=True)
                out.write_text(json.dumps(found, indent=2) + "\n")
    return found


def _parts(phase: str, on_cpu: bool) -> Iterator[dict[str, Any]]:
    """What each process of a phase measures."""
    tasks = ("hopper-stand",) if on_cpu else TASKS
    seeds = 2 if on_cpu else 10
    if phase == "updates":
        precisions = ["float32"] if on_cpu else ["tensorfloat32", "float32", "bfloat16"]
        utds, counts = ([2], [1, 2]) if on_cpu else ([2, 5], [10, 4, 1])
        for utd, count in itertools.product(utds, counts):
            yield {"precision": precisions[0], "utd": utd, "seeds": count}
        for precision in precisions[1:]:
            yield {"precision": precision, "utd": utds[0], "seeds": counts[0]}
        for graphs in () if on_cpu else GRAPHS:
            yield {"precision": precisions[0], "utd": utds[0], "seeds": counts[0], "graphs": graphs}
    elif phase == "start":
        for cache in ("cold", "cached"):
            yield {"task": tasks[0], "seeds": seeds, "cache": cache}
    else:
        for task in tasks:
            yield {"task": task, "seeds": seeds}
        for task in ("dog-run", "hopper-stand") if phase == "loops" and not on_cpu else ():
            yield {"task": task, "seeds": seeds, "overlap": True}


_FOLDER = tempfile.TemporaryDirectory(prefix="crossq-wn-gpu-")


def _child(phase: str, about: dict[str, Any], seconds: float) -> Iterator[tuple[str, Any]]:
    """Measures a part of a phase in a process of its own; yields its figures, and why there are no more."""
    from crossq_wn.bench.process import told
    from crossq_wn.errors import UserError

    command = [sys.executable, __file__, "--part", phase, json.dumps(about)]
    folder = Path(_FOLDER.name) / phase  # with a cache of compiled programs, so that `start` finds none
    folder.mkdir(exist_ok=True)
    began = time.monotonic()
    try:
        yield from told(command, folder, seconds)
    except UserError as error:
        yield "failed", str(error)
    if time.monotonic() - began >= seconds:
        yield "stopped", f"after {seconds:.0f} s"


def _config(task: str, seeds: int, **changes: Any) -> Any:
    """The configuration of a run of CrossQ + WN with the paper's sizes; half as wide on a CPU."""
    import jax

    from crossq_wn.training import api

    if jax.default_backend() == "cpu":
        changes |= {"critic_width": 256, "actor_width": 128}
    return api.configure(task, seeds=tuple(range(seeds)), **changes)


def _seconds() -> float:
    """How long each measurement takes."""
    import jax

    return 0.3 if jax.default_backend() == "cpu" else 2.0


def environments(task: str, seeds: int) -> Iterator[Figures]:
    """Environment frames per second: as training steps them, and of the physics alone."""
    from crossq_wn.bench import floor

    config = _config(task, seeds)
    with floor.environments(config) as measures:
        taken = {name: each(_seconds()) for name, each in measures.items()}
    frames = seeds * config.action_repeat
    yield {"environment_frames_per_s": frames / taken["environment"]}
    if "physics" in taken:
        yield {"physics_frames_per_s": frames / taken["physics"]}
        yield {"locked_share": 1 - taken["physics_alone"] / taken["environment_alone"]}


def updates(precision: str, utd: int, seeds: int) -> Iterator[Figures]:
    """The first update, compilation included, and then milliseconds per decision; sizes of dog-run."""
    import jax

    from crossq_wn.bench.updates import first, problem_of, trainee
    from crossq_wn.bench.updates import updates as measure_updates
    from crossq_wn.training.algorithms import build_algorithm

    config = _config("dog-run", seeds, utd=utd, matmul_precision=precision)
    with jax.default_matmul_precision(precision):
        spec = problem_of(config)
        trained = trainee(build_algorithm(config, spec), config, spec)
        yield {"first_update_s": first(trained)}
        each = measure_updates(trained)(_seconds())
        yield {"updates_ms_per_decision": 1e3 * each * utd * seeds, "update_ms_per_seed": 1e3 * each}


def loops(task: str, seeds: int, overlap: bool = False) -> Iterator[Figures]:
    """The whole training loop, and what it holds in memory."""
    import jax

    from crossq_wn.bench import loop
    from crossq_wn.machine import peak_memory

    on_cpu = jax.default_backend() == "cpu"
    precision = "float32" if on_cpu else "tensorfloat32"
    config = _config(task, seeds, matmul_precision=precision, overlap=overlap)
    found = loop.train(config, 40 if on_cpu else 1500)
    frames_per_s = 1e3 * seeds * config.action_repeat / found.decision_ms
    yield {
        "frames_per_s": frames_per_s,
        "decision_ms": found.decision_ms,
        "minutes_to_1m_frames_each": seeds * 1e6 / frames_per_s / 60,
    }
    yield found.split | found.traced
    on_device = jax.devices()[0].memory_stats() or {}
    yield {
        "host_memory_mib": peak_memory() / 2**20,
        "device_memory_mib": on_device.get("peak_bytes_in_use", 0) / 2**20,
    }


def start(task: str, seeds: int, cache: str) -> Iterator[Figures]:
    """Seconds from the start of this process to the first decision and to the first update of a training."""
    began = time.time() - _age()
    import jax

    import crossq_wn
    from crossq_wn.training import loop, updating

    seen: Figures = {}

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(session: Any, *others: Any) -> Any:
            done = function(session, *others)
            jax.block_until_ready(session.states)
            seen.setdefault(name, time.time() - began)
            return done

        return call

    loop.decide = noting("first_decision_s", loop.decide)
    updating._update_once = noting("first_update_s", updating._update_once)
    with tempfile.TemporaryDirectory() as folder:
        crossq_wn.train(
            task, seeds=tuple(range(seeds)), frames=2200, warmup=1000, eval_episodes=1, out=f"{folder}/run"
        )
    yield seen


def _age() -> float:
    """The seconds since this process began."""
    started = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - started / os.sysconf("SC_CLK_TCK")


def _device() -> dict[str, Any]:
    """What JAX computes on, asked in a process that gives the device back."""
    for kind, value in _child("device", {}, 60.0):
        if kind == "device":
            return dict(value)
    return {"platform": "cpu", "kind": "unknown"}


def device() -> Iterator[Figures]:
    """The platform, the name and the versions."""
    import jax

    first = jax.devices()[0]
    yield {"device": {"platform": first.platform, "kind": first.device_kind, "jax": jax.__version__}}


PARTS: dict[str, Callable[..., Iterator[Figures]]] = {
    "environments": environments,
    "updates": updates,
    "loops": loops,
    "start": start,
    "device": device,
}


def table(found: Figures) -> str:
    """The figures as a table in Markdown."""
    lines = ["| figure | value |", "|---|---|"]
    for name, value in found.items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        lines.append(f"| {name} | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
