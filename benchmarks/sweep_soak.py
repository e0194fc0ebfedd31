"""Does a sweep lose, double or change anything if its processes are killed all the time?

    python benchmarks/sweep_soak.py [--on local|ray] [--runs 60] [--seconds 20] [--frames 2000] [--most 3600]

Trains short runs by `crossq-wn sweep`, on this machine or on a cluster of Ray with three nodes of one
processor, and every few seconds kills (-9) something at random: mostly a run, now and then the sweep itself,
which is then started again, or a node, in whose place another one comes. Prints how many evaluations differ
from those of the same runs undisturbed.
"""

import argparse
import contextlib
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crossq_wn
from crossq_wn.sweeps.history import History

TASK = "Pendulum-v1"
SETTINGS = {"warmup": 50, "batch_size": 8, "actor_width": 8, "critic_width": 8, "utd": 1}
OPTIONS = {"eval_episodes": 1, "eval_every": 200, "checkpoint_every": 200, "log_every": 100}
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


def trainings(out: Path) -> list[int]:
    """The processes that train runs of a sweep, on whatever node of this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            verb = words[words.index("crossq_wn") + 1] if "crossq_wn" in words[:4] else ""
            if verb in ("train", "resume") and any(word.startswith(str(out)) for word in words):
                found.append(int(folder.name))
    return found


class Cluster:
    """Three nodes with a processor each; those that are not the head may be killed."""

    def __init__(self) -> None:
        from ray import cluster_utils

        self._made = cluster_utils.Cluster(
            initialize_head=True, head_node_args=NODE | {"include_dashboard": False}
        )
        self._nodes = [self._made.add_node(**NODE) for _ in range(2)]
        self.options = ["--on", "ray", "--address", self._made.address]

    def kill(self, dice: random.Random) -> bool:
        self._made.remove_node(self._nodes.pop(dice.randrange(2)), allow_graceful=False)
        self._nodes.append(self._made.add_node(**NODE))
        return True

    def end(self) -> None:
        self._made.shutdown()


class Machine:
    """This machine, of which no part can be killed."""

    options: tuple[str, ...] = ()

    def kill(self, dice: random.Random) -> bool:
        return False

    def end(self) -> None:
        pass


def sweep(out: Path, asked: argparse.Namespace, options: Any) -> "subprocess.Popen[bytes]":
    words = ["--task", TASK, "--seeds", f"0:{asked.runs}", "--seeds-per-process", "1", "--out", str(out)]
    for name, value in {**SETTINGS, **OPTIONS, "frames": asked.frames}.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    command = [sys.executable, "-m", "crossq_wn", "sweep", *words, "--retries", "1000", "--yes", *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def engine(name: str) -> Iterator[Cluster | Machine]:
    made = Cluster() if name == "ray" else Machine()
    try:
        yield made
    finally:
        made.end()


def disturb(out: Path, asked: argparse.Namespace) -> Counter[str]:
    """Trains with kills; returns how many of which kind there were."""
    dice, killed, start = random.Random(0), Counter[str](), time.monotonic()
    with engine(asked.on) as place:
        process = sweep(out, asked, place.options)
        try:
            # A sweep that ends otherwise is started again, as a person would.
            while (code := process.poll()) != 0:
                time.sleep(dice.uniform(0.5, 1.5) * asked.seconds)
                workers, chance = trainings(out), dice.random()
                if code is None and time.monotonic() - start > asked.most:
                    continue
                # Of the places for runs any may be hit, also an empty one: the last run gets further, too.
                workers += [0] * max(0, 3 - len(workers))
                if code is not None or chance < 0.1:
                    process.kill()
                    process.wait()
                    killed["sweep"] += code is None
                    process = sweep(out, asked, place.options)
                elif chance < 0.3 and place.kill(dice):
                    killed["node"] += 1
                elif worker := dice.choice(workers):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker, signal.SIGKILL)
                        killed["run"] += 1
        finally:
            process.terminate()
    return killed


def evaluations(path: Path) -> list[tuple[str, ...]]:
    with open(path, newline="") as file:
        return [(row["seed"], row["metric"], row["env_step"], row["value"]) for row in csv.DictReader(file)]


def compared(out: Path, alone: Path, frames: int) -> Counter[str]:
    """Trains each run undisturbed, and counts in what the evaluations differ."""
    counted = Counter[str]()
    for path in sorted(out.glob("*/*/seed-*[0-9]")):
        if "aside" in path.name:
            continue
        seed, options = int(path.name.removeprefix("seed-")), {**SETTINGS, **OPTIONS, "frames": frames}
        crossq_wn.train(TASK, seeds=[seed], out=alone / path.name, tensorboard=False, video=False, **options)
        wanted, found = evaluations(alone / path.name / "eval.csv"), evaluations(path / "eval.csv")
        values = {row[:3]: row[3] for row in found}
        counted["runs"] += 1
        counted["evaluations"] += len(wanted)
        counted["lost"] += sum(row[:3] not in values for row in wanted)
        counted["doubled"] += len(found) - len(values)
        counted["different"] += sum(values.get(row[:3], row[3]) != row[3] for row in wanted)
    return counted


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--on", choices=["local", "ray"], default="local")
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=20.0)  # no less than a run takes to get further
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--most", type=float, default=3600.0)  # seconds after which nothing is killed
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out, start = Path(folder) / "sweep", time.monotonic()
        killed = disturb(out, asked)
        took = time.monotonic() - start
        history = History(out)
        tries = [attempt for attempts in history._attempts.values() for attempt in attempts]
        failed = sum(bool(attempt.cause) for attempt in tries)
        print(
            f"{took:.0f} s; killed: {dict(killed)}; attempts that ended under a sweep: {len(tries)}, "
            f"of which {failed} failed",
            flush=True,
        )
        counted = compared(out, Path(folder) / "alone", asked.frames)
    names = ("runs", "evaluations", "lost", "doubled", "different")
    print(", ".join(f"{name}: {counted[name]}" for name in names))


if __name__ == "__main__":
    main()
