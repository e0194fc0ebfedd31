"""How long a sweep of ten thousand runs takes to plan, to look at and to schedule; no run is trained.

python benchmarks/sweep_scale.py [RUNS]
"""

import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from crossq_wn.results.tables import runs_table
from crossq_wn.runs.config import signed
from crossq_wn.sweeps import history, status
from crossq_wn.sweeps.driver import Need, Sweep
from crossq_wn.sweeps.history import Attempt, History
from crossq_wn.sweeps.plans import Run, plan
from crossq_wn.sweeps.sheets import parse

T = TypeVar("T")


class Nobody:
    """An engine that is not asked for anything."""

    def places(self):
        return 10**6

    def free_memory(self):
        return None

    def start(self, run, state, slot, memory):
        raise AssertionError("nothing is started here")


def timed(what: str, work: Callable[[], T]) -> T:
    start, own = time.perf_counter(), time.process_time()
    found = work()
    seconds, own = time.perf_counter() - start, time.process_time() - own
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what:40} {seconds:6.2f} s ({own:.2f} s of this process)   {memory:,.0f} MiB", flush=True)
    return found


def leave(run: Run, dice: random.Random) -> None:
    """Leaves a run as training would: missing, cut off or finished."""
    frames = dice.choice([0, 500_000, run.config.options.frames])
    if not frames:
        return
    (run.path / "checkpoints" / f"{frames:09d}").mkdir(parents=True)
    (run.path / ".lease-000001").mkdir()
    (run.path / "config.json").write_text(json.dumps(signed(run.config.to_json())))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    text = f"seeds_per_process = 1\n[defaults]\ntask = 'dog-run'\nseeds = '0:{count // 100}'\n"
    text += f"[grid]\nutd = {list(range(1, 101))}\n"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        runs = timed(f"plan {count:,} runs", lambda: plan(parse(text, "file"), out))
        dice = random.Random(0)
        history.logs(out)
        log = History(out)
        for run in runs:
            leave(run, dice)
        for run in dice.sample(runs, len(runs) // 10):
            log.add(Attempt(str(run.path.relative_to(out)), 0.0, 0, 500_000, "failed", seconds=60.0))
        sweep = timed(
            "look at every run, as a sweep begins",
            lambda: Sweep(runs, out, Nobody(), 8, lambda run: Need(1.0, 1), print),
        )
        timed("choose what to start", sweep.look)
        lines = timed("--status", lambda: status.lines(runs, out))
        print(status.summary(lines))
        if "list" in sys.argv:
            timed("list runs", lambda: list(runs_table(out, lambda text: None)))


if __name__ == "__main__":
    main()
