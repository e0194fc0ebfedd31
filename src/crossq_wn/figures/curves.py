"""What does a learning curve look like? Evaluations over environment frames, one colour per system."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from crossq_wn.errors import UserError
from crossq_wn.runs import EVAL_COLUMNS, read_config

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

# Okabe & Ito: distinguishable with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LABELS = {"return": "return", "success_rate": "success rate"}

Curves = dict[str, dict[int, list[tuple[int, float]]]]  # name -> seed -> [(frames, value)]


def read(paths: Sequence[Path]) -> tuple[Curves, str, str]:
    """The evaluations of runs of one task, its name and its metric.

    Raises UserError if the runs are of several tasks or have no evaluations.
    """
    curves: Curves = defaultdict(lambda: defaultdict(list))
    configs = [read_config(path) for path in paths]
    tasks = sorted({config.task for config in configs})
    if len(tasks) > 1:
        raise UserError(f"the runs are of several tasks ({', '.join(tasks)}): plot one task at a time")
    names = [config.algorithm for config in configs]
    for path, config in zip(paths, configs, strict=True):
        unique = config.algorithm if names.count(config.algorithm) == 1 else path.name
        with open(path / "eval.csv", newline="") as file:
            for row in csv.DictReader(file):
                if row["metric"] == config.metric:
                    curves[unique][int(row["seed"])].append((int(row["env_step"]), float(row["value"])))
    if not curves:
        raise UserError(f"{', '.join(map(str, paths))}: nothing has been evaluated yet")
    return curves, tasks[0], configs[0].metric


def learning_curve(paths: Sequence[Path], out: Path) -> list[Path]:
    """Draws runs of one task: thin lines for seeds, a thick one for their mean.

    Args:
        paths: run directories.
        out: where to write, without suffix.

    Returns:
        The files written: PNG, SVG and the CSV behind them.
    """
    curves, task, metric = read(paths)
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for colour, (name, seeds) in zip(COLOURS * len(curves), curves.items(), strict=False):
        for points in seeds.values():
            axes.plot(*zip(*points, strict=True), color=colour, alpha=0.35, linewidth=1)
        shared = sorted(set.intersection(*(({x for x, _ in points}) for points in seeds.values())))
        mean = [np.mean([dict(points)[x] for points in seeds.values()]) for x in shared]
        label = f"{name} ({len(seeds)} seed{'s' if len(seeds) > 1 else ''})"
        axes.plot(shared, mean, color=colour, linewidth=2.5, label=label)
    axes.set(title=task, xlabel="environment frames", ylabel=f"{_LABELS[metric]} (deterministic policy)")
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]), top=1.02 if metric == "success_rate" else None)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    written = [out.with_suffix(suffix) for suffix in (".png", ".svg", ".csv")]
    figure.savefig(written[0], dpi=150)
    figure.savefig(written[1])
    plt.close(figure)
    with open(written[2], "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(EVAL_COLUMNS)
        for name, seeds in curves.items():
            for seed, points in seeds.items():
                writer.writerows((name, task, seed, metric, *point) for point in points)
    return written
