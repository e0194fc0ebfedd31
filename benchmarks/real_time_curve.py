"""Does an agent learn as much from a plant with a clock as from the same plant that waits for it?

    python benchmarks/real_time_curve.py OUT [SEEDS [OPTIONS OF train...]]

For each seed below SEEDS (3 by default) it trains on `real_time.Plant`, walker physics in a process of its
own that ticks at 50 Hz, for ten minutes, all seeds side by side, and on the same plant without a clock for as
many decisions. It prints the returns of training episodes, which OUT/real-time.png shows as well. Networks
are narrow, so that two cores keep to the UTD ratio for three seeds. Runs that are there are not trained
again. OPTIONS apply to all runs.
"""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from real_time import HERTZ, start

DECISIONS = 30_000
WINDOW = 3_000  # decisions of which the table tells the mean
NARROW = [
    "--critic-width", "128", "--actor-width", "64", "--batch-size", "128", "--utd", "1", "--warmup", "1000",
    "--initial-temperature", "0.01", "--log-every", "500",
]  # fmt: skip
WAYS = {"in real time": "Plant", "waiting": "Waiting"}


class Curve(NamedTuple):
    """The training episodes of a run."""

    decisions: np.ndarray  # at the end of each
    returns: np.ndarray
    utd: str  # achieved, of all decisions after the warm-up


def train(out: Path, way: str, seed: int, *options: str) -> "subprocess.Popen[bytes] | None":
    """Starts training unless it was done before."""
    if (out / "eval.csv").exists() or (out / "metrics.csv").exists():
        return None
    rate = ["--real-time", str(HERTZ), "--eval-every", "0"]
    if way == "waiting":
        rate = ["--eval-every", str(DECISIONS), "--eval-episodes", "1"]
    return start([
        "train", f"real_time:{WAYS[way]}", *rate, "--frames", str(DECISIONS), "--seed", str(seed), *NARROW,
        "--checkpoint-every", "3000", "--no-video", "--no-tensorboard", "--out", str(out), *options,
    ])  # fmt: skip


def curve(run: Path) -> Curve:
    """Reads a run's training episodes."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["episode_return"]]
    columns = ("decisions", "episode_return")
    decisions, returns = (np.array([float(row[name]) for row in rows]) for name in columns)
    return Curve(decisions, returns, rows[-1].get("achieved_utd", ""))


def windows(curves: list[Curve]) -> Iterator[tuple[int, np.ndarray]]:
    """The end of each window, and the mean return in it of each seed."""
    for end in range(WINDOW, DECISIONS + 1, WINDOW):
        inside = [(each.decisions > end - WINDOW) & (each.decisions <= end) for each in curves]
        yield end, np.array([each.returns[those].mean() for each, those in zip(curves, inside, strict=True)])


def tell(found: dict[str, list[Curve]]) -> None:
    """Prints a row per window: the mean over seeds, and those of the worst and the best seed."""
    print("| decisions | minutes | " + " | ".join(found) + " |")
    print("|---|---|" + "---|" * len(found))
    for rows in zip(*map(windows, found.values()), strict=True):
        end = rows[0][0]
        cells = [f"{seeds.mean():.0f} ({seeds.min():.0f} to {seeds.max():.0f})" for _, seeds in rows]
        print(f"| {end:,} | {end / HERTZ / 60:.0f} | " + " | ".join(cells) + " |")
    for name, curves in found.items():
        print(f"UTD ratios {name}: {', '.join(each.utd or 'as asked' for each in curves)}")


def draw(found: dict[str, list[Curve]], file: Path) -> None:
    """Draws a thin line per seed, and their mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.subplots()
    for colour, (name, curves) in zip(("#0072B2", "#E69F00"), found.items(), strict=True):
        ends, returns = zip(*windows(curves), strict=True)
        axes.plot(ends, returns, colour, linewidth=0.6, alpha=0.6)
        axes.plot(ends, np.mean(returns, axis=1), colour, linewidth=2, label=name)
    axes.set(xlabel="decisions", ylabel="return of training episodes", xlim=(0, None), ylim=(0, None))
    axes.secondary_xaxis("top", (lambda x: x / HERTZ / 60, lambda x: x * HERTZ * 60)).set_xlabel(
        "minutes of real time"
    )
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.spines["right"].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=140)


def main(out: Path, seeds: int = 3, *options: str) -> None:
    """Trains all runs that are missing, and shows them.

    Args:
        out: folder of the runs.
        seeds: number of each way's.
        options: further ones of `train`, for all runs.
    """
    os.environ["PLANT_LOG"] = str(out / "plant")
    (out / "plant").mkdir(parents=True, exist_ok=True)
    for way, plant in WAYS.items():
        started = [train(out / f"{plant}-{seed}", way, seed, *options) for seed in range(seeds)]
        codes = [each.wait() for each in started if each is not None]
        if any(codes):
            raise SystemExit("training failed")
    found = {way: [curve(out / f"{plant}-{seed}") for seed in range(seeds)] for way, plant in WAYS.items()}
    tell(found)
    draw(found, out / "real-time.png")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]), *sys.argv[3:])
