"""Compares our statistics with rliable's on the same random scores: values, intervals and speed.

    python benchmarks/statistics_vs_rliable.py

The first run makes the virtual environment .venv-rliable, because rliable 1.2.0 breaks with arch 8 and with
pandas 3. The exit code is 1 if a point estimate differs by more than 1e-6, if an interval differs by more
than bootstrap error (z of 5), or if ours is less than 20 times as fast.
"""

import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ENVIRONMENT = Path(__file__).parent.parent / ".venv-rliable"
PINS = (
    "rliable==1.2.0", "arch==7.2.0", "pandas==2.3.3", "numpy==2.4.6", "scipy==1.17.1", "statsmodels==0.15.0",
    "seaborn==0.13.2", "matplotlib==3.11.2", "absl-py==2.5.1",
)  # fmt: skip
TASKS, RUNS, POINTS, REPLICATES, CONFIDENCE = 25, 10, 40, 2000, 0.9
TAUS = np.linspace(0, 1, 41)

Result = dict[str, Any]  # statistic -> [3, points]: value, low, high; "seconds" [wall, CPU] of the IQM curve


def main() -> int:
    """Compares both and prints the result; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        data, answer = Path(folder) / "scores.npz", Path(folder) / "rliable.npz"
        x, y = random_scores()
        np.savez(data, x=x, y=y)
        command = [str(environment()), "-W", "ignore", __file__, str(data), str(answer)]
        subprocess.run(command, check=True)
        theirs: Result = dict(np.load(answer))
    ours = our_side(x, y, seed=0)
    others = [our_side(x, y, seed) for seed in range(1, 21)]

    print(f"{TASKS} tasks, {RUNS} runs, {POINTS} points, {REPLICATES} replicates, {CONFIDENCE:.0%} intervals")
    print(
        "| statistic | points | value, max difference | interval ends, max z | rms z |\n|---|---|---|---|---|"
    )
    good = True
    for name in (key for key in ours if key != "seconds"):
        value = np.abs(ours[name][0] - theirs[name][0]).max()
        # Both ends are random, so their difference has twice the variance of ours over seeds.
        spread = np.sqrt(2) * np.std([other[name][1:] for other in others], axis=0, ddof=1)
        apart = ours[name][1:] - theirs[name][1:]
        z = np.divide(apart, spread, out=np.zeros_like(apart), where=spread > 1e-12)
        rms = np.sqrt(np.mean(z**2))
        print(f"| {name} | {z.shape[1]} | {value:.1e} | {np.abs(z).max():.2f} | {rms:.2f} |")
        good &= bool(value <= 1e-6 and np.abs(z).max() < 5 and np.abs(apart[spread <= 1e-12]).sum() < 1e-6)
    print("\nIQM curve   rliable  crossq_wn  ratio")
    for clock, slow, fast in zip(("wall s", "CPU s"), theirs["seconds"], ours["seconds"], strict=True):
        print(f"{clock:9} {slow:9.2f} {fast:10.3f} {slow / fast:6.0f}")
        good &= bool(slow / fast >= 20)
    return 0 if good else 1


def random_scores() -> tuple[np.ndarray, np.ndarray]:
    """Two algorithms' learning curves [runs, tasks, points], rounded so that there are ties."""
    generator = np.random.default_rng(0)
    time_ = np.linspace(0, 1, POINTS)

    def curves(speed: float) -> np.ndarray:
        ceiling = generator.uniform(0.2, 1.1, (1, TASKS, 1)) + 0.1 * generator.standard_normal(
            (RUNS, TASKS, 1)
        )
        rate = speed * generator.gamma(4, 1, (RUNS, TASKS, 1))
        noise = 0.03 * generator.standard_normal((RUNS, TASKS, POINTS))
        return np.round(ceiling * (1 - np.exp(-rate * time_)) + noise, 2)

    return curves(1), curves(1.3)


def our_side(x: np.ndarray, y: np.ndarray, seed: int) -> Result:
    """All statistics by this package, and the seconds that the IQM curve took."""
    from crossq_wn.results import statistics as s

    def estimate(statistic: s.Statistic, *scores: np.ndarray) -> np.ndarray:
        tasks = [list(each.swapaxes(0, 1)) for each in scores]
        found = s.estimate(statistic, *tasks, confidence=CONFIDENCE, replicates=REPLICATES, seed=seed)
        return np.array(found).reshape(3, -1)

    start = clocks()
    curve = estimate(s.iqm, x)
    seconds = clocks() - start
    last, other = x[..., -1], y[..., -1]
    profile = s.performance_profile(
        list(last.T), TAUS, confidence=CONFIDENCE, replicates=REPLICATES, seed=seed
    )
    return {
        "IQM curve": curve,
        "IQM": estimate(s.iqm, last),
        "mean": estimate(s.mean, last),
        "median": estimate(s.median, last),
        "optimality gap": estimate(s.optimality_gap, last),
        "performance profile": np.array(profile),
        "probability of improvement": estimate(s.probability_of_improvement, last, other),
        "seconds": seconds,
    }


def rliable_side(data: Path, answer: Path) -> None:
    """All statistics by rliable, which is installed only in its own virtual environment."""
    from rliable import library, metrics

    x, y = (np.load(data)[name] for name in ("x", "y"))

    def estimate(statistic: Callable[..., Any], scores: Any) -> np.ndarray:
        values, intervals = library.get_interval_estimates(
            {"a": scores},
            lambda *s: np.atleast_1d(statistic(*s)),
            reps=REPLICATES,
            confidence_interval_size=CONFIDENCE,
            random_state=np.random.RandomState(0),
        )
        return np.vstack([values["a"], intervals["a"]])

    start = clocks()
    curve = estimate(lambda s: np.array([metrics.aggregate_iqm(s[..., p]) for p in range(POINTS)]), x)
    seconds = clocks() - start
    last, other = x[..., -1], y[..., -1]
    profile, bands = library.create_performance_profile(
        {"a": last}, TAUS, reps=REPLICATES, confidence_interval_size=CONFIDENCE
    )
    np.savez(
        answer,
        **{
            "IQM curve": curve,
            "IQM": estimate(metrics.aggregate_iqm, last),
            "mean": estimate(metrics.aggregate_mean, last),
            "median": estimate(metrics.aggregate_median, last),
            "optimality gap": estimate(metrics.aggregate_optimality_gap, last),
            "performance profile": np.vstack([profile["a"][None], bands["a"]]),
            "probability of improvement": estimate(metrics.probability_of_improvement, (last, other)),
            "seconds": seconds,
        },
    )


def clocks() -> np.ndarray:
    """Seconds of wall-clock and of this process's CPU time, which other work on the machine affects less."""
    return np.array([time.perf_counter(), time.process_time()])


def environment() -> Path:
    """The Python of rliable's virtual environment, which is made if it is missing or outdated."""
    python = ENVIRONMENT / "bin" / "python"
    done = ENVIRONMENT / "installed"
    if not done.exists() or done.read_text() != "\n".join(PINS):
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINS]
        subprocess.run(install, check=True)
        done.write_text("\n".join(PINS))
    return python


if __name__ == "__main__":
    if len(sys.argv) == 3:
        rliable_side(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        sys.exit(main())
