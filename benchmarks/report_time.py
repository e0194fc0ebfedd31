"""How long a report on 108 runs takes, and how often it reads each file.

    python benchmarks/report_time.py

Nine systems on four tasks with three seeds each, in run directories of their own; a run has 41 evaluations
and 200 rows of metrics and of timing, which are noise. The time is that of this process, so that other work
on the machine does not count.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from crossq_wn import files
from crossq_wn.cli.dispatch import run as command
from crossq_wn.learning.diagnostics import shown
from crossq_wn.runs import directory
from crossq_wn.training import api

TASKS = ("cheetah-run", "walker-run", "dog-run", "humanoid-stand")
SYSTEMS = [("crossq-wn", utd) for utd in (1, 2, 5, 10)] + [("crossq", utd) for utd in (1, 2, 5)]
SYSTEMS += [("simba", 2), ("xqc", 2)]
FRAMES = 1_000_000


def make_run(path: Path, task: str, algorithm: str, utd: int, seed: int) -> None:
    """Writes a run directory as training leaves it, of random numbers."""
    random = np.random.default_rng([seed, utd, len(task), len(algorithm)])
    config = api.configure(task, algorithm=algorithm, utd=utd, seeds=[seed], frames=FRAMES)
    directory.create(config, path, ["crossq-wn", "train", task]).close()
    label, repeat = config.system.label, config.action_repeat
    steps = np.linspace(0, FRAMES, 41).astype(int)
    scores = 900 * random.uniform(0.5, 1) * steps / FRAMES + random.normal(0, 10, len(steps))
    lines = ["exp_name,env_name,seed,metric,env_step,value"]
    lines += [f"{label},{task},{seed},return,{x},{y}" for x, y in zip(steps, scores, strict=True)]
    (path / "eval.csv").write_text("\n".join(lines) + "\n")
    names = [each.name for each in shown() if each.file == "metrics.csv"]
    metrics, timing = [f"seed,frames,decisions,updates,{','.join(names)}"], []
    for i in range(1, 201):
        at = i * FRAMES // 200
        values = random.uniform(1, 2, len(names)) * np.sqrt(i)
        counts = f"{seed},{at},{at // repeat},{utd * at // repeat}"
        metrics.append(f"{counts},{','.join(map(str, values))}")
        timing.append(f"{at},{i * 36.0},{150 + random.normal()},{75 * utd}")
    (path / "metrics.csv").write_text("\n".join(metrics) + "\n")
    header = "frames,seconds,frames_per_second,updates_per_second\n"
    (path / "timing.csv").write_text(header + "\n".join(timing) + "\n")


def make_runs(root: Path) -> int:
    """Makes 108 runs below a folder, and returns how many there are."""
    count = 0
    for algorithm, utd in SYSTEMS:
        for task in TASKS:
            for seed in range(3):
                make_run(root / f"{algorithm}-{utd}-{task}-{seed}", task, algorithm, utd, seed)
                count += 1
    return count


def main() -> None:
    """Makes the runs, reports on them and prints what that took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    opened: Counter[Path] = Counter()
    original = files._opened  # through which all files of runs are read

    def count(path: Path, *how: Any) -> int:
        opened[path] += 1
        return original(path, *how)

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        runs = make_runs(root / "runs")
        files._opened = count  # type: ignore[assignment]
        before = time.process_time()
        code = command(["report", str(root / "runs"), "--out", str(root / "report.html")])
        seconds = time.process_time() - before
        megabytes = (root / "report.html").stat().st_size / 2**20
    print(f"{runs} runs: {seconds:.1f} s of processor time, a page of {megabytes:.1f} MiB")
    print(f"{len(opened)} files, opened {sum(opened.values())} times, {max(opened.values())} at most")
    sys.exit(code)


if __name__ == "__main__":
    main()
