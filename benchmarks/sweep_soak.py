"""Does a sweep lose, double or change anything if its processes are killed all the time?

    python benchmarks/sweep_soak.py [RUNS] [SECONDS]

Trains short runs by `crossq-wn sweep`, and every few seconds kills (-9) one of its processes at random, now
and then the sweep itself, which is then started again. Prints how many evaluations differ from those of the
same runs undisturbed.
"""

import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import crossq_wn
from crossq_wn.sweeps.history import History

TASK = "Pendulum-v1"
SETTINGS = {"warmup": 50, "batch_size": 8, "actor_width": 8, "critic_width": 8, "utd": 1}
OPTIONS = {"eval_episodes": 1, "eval_every": 200, "checkpoint_every": 200, "log_every": 100, "frames": 2000}


def children(parent: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def sweep(out: Path, runs: int) -> "subprocess.Popen[bytes]":
    words = ["--task", TASK, "--seeds", f"0:{runs}", "--seeds-per-process", "1", "--out", str(out)]
    for name, value in {**SETTINGS, **OPTIONS}.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    command = [sys.executable, "-m", "crossq_wn", "sweep", *words, "--retries", "1000", "--yes"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def disturb(out: Path, runs: int, seconds: float) -> Counter[str]:
    """Trains with kills; returns how many of which kind there were."""
    dice, killed = random.Random(0), Counter[str]()
    process = sweep(out, runs)
    try:
        while process.poll() is None:
            time.sleep(dice.uniform(0.5, 1.5) * seconds)
            workers = children(process.pid)
            if dice.random() < 0.1:
                process.kill()
                process.wait()
                killed["sweep"] += 1
                process = sweep(out, runs)
            elif workers:
                os.kill(dice.choice(workers), signal.SIGKILL)
                killed["run"] += 1
    finally:
        process.terminate()
    return killed


def evaluations(path: Path) -> list[tuple[str, ...]]:
    with open(path, newline="") as file:
        return [(row["seed"], row["metric"], row["env_step"], row["value"]) for row in csv.DictReader(file)]


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 20.0  # no less than a run takes to get further
    with tempfile.TemporaryDirectory() as folder:
        out, alone = Path(folder) / "sweep", Path(folder) / "alone"
        start = time.monotonic()
        killed = disturb(out, runs, seconds)
        took = time.monotonic() - start
        counted = Counter[str]()
        for path in sorted(out.glob("*/*/seed-*")):
            seed = int(path.name.removeprefix("seed-"))
            crossq_wn.train(
                TASK, seeds=[seed], out=alone / path.name, tensorboard=False, **SETTINGS, **OPTIONS
            )
            wanted, found = evaluations(alone / path.name / "eval.csv"), evaluations(path / "eval.csv")
            values = {row[:3]: row[3] for row in found}
            counted["runs"] += 1
            counted["evaluations"] += len(wanted)
            counted["lost"] += sum(row[:3] not in values for row in wanted)
            counted["doubled"] += len(found) - len(values)
            counted["different"] += sum(values.get(row[:3], row[3]) != row[3] for row in wanted)
        tries = sum(len(each) for each in History(out)._attempts.values())
        print(f"{took:.0f} s; killed: {dict(killed)}; attempts that ended under a sweep: {tries}")
        print(
            ", ".join(
                f"{what}: {counted[what]}" for what in ("runs", "evaluations", "lost", "doubled", "different")
            )
        )


if __name__ == "__main__":
    main()
