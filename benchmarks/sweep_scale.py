"""How long a sweep of ten thousand runs takes to plan, to look at, to list and to schedule.

python benchmarks/sweep_scale.py [--runs 10000] [--only STEP ...] [--profile | --memory]

Nothing is trained: the runs are directories as training leaves them, four of five finished, a tenth each cut
off and missing. Prints seconds of this process, and with --memory what each step leaves behind instead.
"""

import argparse
import contextlib
import cProfile
import gc
import io
import pstats
import random
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from crossq_wn.cli.tables import Table, show
from crossq_wn.machine import collect_seldom
from crossq_wn.results.tables import RunRow, runs_table
from crossq_wn.runs import manifests
from crossq_wn.runs.checksums import checksum_of
from crossq_wn.runs.seals import sealed
from crossq_wn.sweeps import bills, history, status
from crossq_wn.sweeps.driver import Need, Sweep
from crossq_wn.sweeps.history import Attempt, History
from crossq_wn.sweeps.plans import Run, plan
from crossq_wn.sweeps.sheets import parse

HEADER = "exp_name,env_name,seed,metric,env_step,value\n"
BILL = "bill"
METRICS = ("return", "q_bias_mean", "q_bias_std")


def leave(run: Run, frames: int) -> None:
    """Leaves a run as training would at some frames."""
    config, place = run.config, run.path / "checkpoints" / f"{frames:09d}"
    place.mkdir(parents=True)
    (run.path / "checkpoints" / "replay").mkdir()
    (run.path / ".lease-000001").mkdir()
    rows = [HEADER]
    for step in range(0, frames + 1, config.options.eval_every):
        for metric in METRICS:
            rows.append(f"{config.system.label},{config.task},{config.options.seeds[0]},{metric},{step},"
                        f"{random.random() * 1000}\n")  # fmt: skip
    text = "".join(rows)
    end = {"size": len(text), "sha256": checksum_of(text.encode())}
    (run.path / "eval.csv").write_text(text)
    whole = frames >= config.options.frames
    manifest: dict[str, Any] = {
        "schema": 2, "commands": [["crossq-wn"]], "python": "3.11", "versions": {"jax": "0.9"},
        "device": {"platform": "cpu", "kind": "cpu", "cores": 8}, "system": "Linux x86_64",
        "protocol": config.protocol | {"mujoco": "3.6.0", "dm_control": "1.0.38", "simulators": "published"},
        "protocol_sha256": "0" * 64, **({"logs": {"eval.csv": end}} if whole else {}),
    }  # fmt: skip
    (run.path / "manifest.json").write_text(sealed(manifest))
    (run.path / "config.json").write_text(sealed(config.to_json()))
    common = {
        "decisions": 1,
        "updates": 1,
        "failed": {},
        "interface": {},
        "logs": [[], [end | {"text": text}]],
    }
    body = {"schema": 1, "frames": frames, "common": common, "seeds": {}}
    manifests.write_manifest(place, body)


class Stub:
    """An engine whose processes finish their runs at once."""

    started = 0

    def places(self) -> int:
        return 1000

    capacity = places

    def free_memory(self) -> int | None:
        return 2**50

    def free(self, slots: Sequence[int], others: Sequence[int]) -> Sequence[int]:
        return slots

    def start(self, run: Run, state: Any, slot: int, memory: int) -> "Stub":
        self.started += 1
        whole = run.path / "checkpoints" / f"{run.config.options.frames:09d}"
        whole.mkdir(parents=True, exist_ok=True)
        (run.path / "config.json").write_text(sealed(run.config.to_json()))
        return self

    def ended(self) -> bool:
        return True

    def stop(self) -> None:
        pass

    def memory(self) -> int:
        return 2**20

    def worked(self) -> float | None:
        return 1.0

    def node(self) -> str:
        return "here"

    def failure(self) -> tuple[str, int]:
        return "", 0


def steps(text: str, out: Path) -> dict[str, Callable[[], Any]]:
    """What is measured, by name."""
    runs = plan(parse(text, "file"), out)

    def begun() -> Sweep:
        return Sweep(runs, out, Stub(), 8, lambda run: Need(1.0, 1), lambda line: None)

    sweep = begun()
    return {
        "plan": lambda: plan(parse(text, "file"), out),
        "look at every run, as a sweep begins": begun,
        BILL: lambda: bills.bill(runs, sweep.states, 8, lambda run: run.config.system.label),
        "choose what to start": lambda: sweep.look(),
        "start and end 100 runs": lambda: drive_some(begun()),
        "--status": lambda: status.lines(runs, out),
        "list runs": lambda: listed(out),
    }


def listed(out: Path) -> None:
    rows = list(runs_table(out, lambda line: None))
    with contextlib.redirect_stdout(io.StringIO()):
        show(Table("runs", RunRow._fields, rows))


def drive_some(sweep: Sweep) -> Sweep:
    """Schedules as `drive` does until a hundred processes, or all that are needed, have ended."""
    while sweep.engine.started < 100 and not sweep.over:
        sweep.collect([])
        sweep.fill()
    return sweep


def measured(name: str, step: Callable[[], Any], asked: argparse.Namespace) -> None:
    """Prints what a step takes."""
    profile = cProfile.Profile()
    if asked.memory:
        gc.collect()
        tracemalloc.start()
    if asked.profile:
        profile.enable()
    own = time.process_time()
    found = step()  # kept until it is measured
    own = time.process_time() - own
    if asked.profile:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    if asked.memory:
        gc.collect()
        left, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        print(f"{name:40} leaves {left / 2**20:5.1f} MiB, {left / asked.runs:6,.0f} bytes per run; at most "
              f"{most / 2**20:5.1f} MiB", flush=True)  # fmt: skip
    else:
        print(f"{name:40} {own:6.2f} s", flush=True)
    del found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--only", nargs="+", default=[""], help="parts of steps' names")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--memory", action="store_true")
    asked = parser.parse_args()
    collect_seldom()  # as the command line does
    text = "seeds_per_process = 1\n[defaults]\ntask = 'dog-run'\n"
    text += f"seeds = '0:{asked.runs // 100}'\n[grid]\nutd = {list(range(1, 101))}\n"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        runs = plan(parse(text, "file"), out)
        dice = random.Random(0)
        history.logs(out)
        log = History(out)
        for number, run in enumerate(runs):
            whole = run.config.options.frames
            if frames := (0, 500_000)[number % 10] if number % 10 < 2 else whole:
                leave(run, frames)
        for run in dice.sample(runs, len(runs) // 10):
            log.add(Attempt(str(run.path.relative_to(out)), 0.0, 0, 500_000, "failed", seconds=60.0))
        chosen = {}
        for name, step in steps(text, out).items():
            if any(part in name for part in asked.only):
                chosen[name] = step
        if BILL in chosen:
            bills.costs.cost(runs[0].config)  # measures this machine
        for name, step in chosen.items():
            measured(name, step, asked)


if __name__ == "__main__":
    main()
