"""Speed of ten environments in one process: the suites' own in a loop, ours in a pool, and MuJoCo alone.

    python benchmarks/environments.py dog-run humanoid-run myo-key-turn-hard --json speed.json

It prints environment frames per second of wall-clock and of processor time; on a busy machine, look at the
second. All kinds are measured in alternating rounds, whose medians are printed. `pool 2` may use two threads,
`workers 2` uses two processes, and so on up to the number of processors that this process may use (`taskset`
limits it).
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crossq_wn.environments import Environment, lookup, make
from crossq_wn.environments.crew import Crew
from crossq_wn.environments.pool import Pool

REPEAT = 2  # environment frames per agent decision
Measurement = Callable[[], int]  # runs for a while; returns the environment frames that it made


def plain_dmc(identifier: str, seed: int) -> Callable[[np.ndarray], None]:
    from dm_control import suite

    domain, task = identifier.split(":")
    plain = suite.load(domain, task, task_kwargs={"random": seed})
    bounds = plain.action_spec()
    plain.reset()

    def frame(action: np.ndarray) -> None:
        scaled = bounds.minimum + 0.5 * (action.astype(float) + 1) * (bounds.maximum - bounds.minimum)
        moment = plain.step(scaled)
        np.concatenate([np.ravel(part) for part in moment.observation.values()]).astype(np.float32)

    return frame


def plain_myo(identifier: str, seed: int) -> Callable[[np.ndarray], None]:
    import gymnasium

    plain = gymnasium.make(identifier, max_episode_steps=100, disable_env_checker=True)
    plain.unwrapped.seed(seed)
    plain.reset()

    def frame(action: np.ndarray) -> None:
        observation, _, _, truncated, _ = plain.step(action)
        np.asarray(observation, np.float32)
        if truncated:  # after a failure the episode goes on, as in our pool
            plain.reset()

    return frame


def bare(environment: Environment, generator: np.random.Generator) -> None:
    """MuJoCo's part of one agent decision, in the states of an episode."""
    environment.simulator.physics.advance(REPEAT, generator)
    environment.frames += REPEAT
    if environment.frames == environment.episode_frames:
        environment.reset()


class Task:
    """One task in three kinds of environments, equally many of each, with the same random actions."""

    def __init__(self, name: str, count: int, decisions: int) -> None:
        self.ours, self.bare = ([make(name, terminations=False) for _ in range(count)] for _ in range(2))
        for environments in (self.ours, self.bare):
            for seed, environment in enumerate(environments):
                environment.reset(seed)
        plain = plain_myo if lookup(name).suite == "myosuite" else plain_dmc
        self.plain = [plain(lookup(name).identifier, seed) for seed in range(count)]
        self.count, self.decisions = count, decisions
        self.generator = np.random.default_rng(0)

    def actions(self) -> np.ndarray:
        shape = (self.decisions, self.count, self.ours[0].action_size)
        return self.generator.uniform(-1, 1, shape).astype(np.float32)

    def run_plain(self) -> int:
        for decision in self.actions():
            for step, action in zip(self.plain, decision, strict=True):
                for _ in range(REPEAT):
                    step(action)
        return self.decisions * self.count * REPEAT

    def run_pool(self, pool: Pool) -> int:
        for decision in self.actions():
            results = pool.step(range(self.count), decision)
            pool.resets([k for k, result in enumerate(results) if result.episode is not None])  # type: ignore[union-attr]
        return self.decisions * self.count * REPEAT

    def run_crew(self, crew: Crew) -> int:
        for decision in self.actions():
            results = crew.step(range(self.count), decision)
            crew.call(
                [(k, "reset", (None,)) for k, result in enumerate(results) if result.episode is not None]
            )  # type: ignore[union-attr]
        return self.decisions * self.count * REPEAT

    def crew(self, workers: int) -> Crew:
        recipe = partial(make, self.ours[0].task.name, terminations=False)
        crew = Crew(recipe, seeds=self.count, sets=1, workers=workers)
        crew.start(self.ours[0].observation_size, self.ours[0].action_size)
        while not crew.ready():
            time.sleep(0.1)
        crew.call([(seat, "reset", (seat,)) for seat in range(self.count)])
        return crew

    def run_bare(self, executor: ThreadPoolExecutor) -> int:
        generators = [np.random.default_rng(seed) for seed in range(self.count)]
        for _ in range(self.decisions):
            list(executor.map(bare, self.bare, generators))
        return self.decisions * self.count * REPEAT

    def measurements(self, threads: list[int], ending: ExitStack) -> dict[str, Measurement]:
        """By kind, what to run; processes and threads that it needs end with `ending`."""
        found: dict[str, Measurement] = {"plain": self.run_plain}
        for number in threads:
            pool, executor = Pool(self.ours, number), ending.enter_context(ThreadPoolExecutor(number))
            found[f"pool {number}"] = lambda pool=pool: self.run_pool(pool)  # type: ignore[misc]
            if number > 1:
                crew = self.crew(number)
                ending.callback(crew.close)
                found[f"workers {number}"] = lambda crew=crew: self.run_crew(crew)  # type: ignore[misc]
            found[f"bare {number}"] = lambda executor=executor: self.run_bare(executor)  # type: ignore[misc]
        return found


def processor_time() -> float:
    """Seconds of processor time of this process and its children."""
    seconds = time.process_time()
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def measure(measurements: dict[str, Measurement], repetitions: int) -> dict[str, dict[str, float]]:
    """Frames per second of `wall` and `cpu` time: medians of alternating rounds, after a warm-up round."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in measurements}
    for repetition in range(repetitions + 1):
        for name, run in measurements.items():
            wall, cpu = time.perf_counter(), processor_time()
            frames = run()
            rates = frames / (time.perf_counter() - wall), frames / (processor_time() - cpu)
            if repetition:
                seen[name].append(rates)
    found = {}
    for name, rates in seen.items():
        wall, cpu = np.median(rates, axis=0)
        found[name] = {"wall": float(wall), "cpu": float(cpu)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tasks", nargs="*", default=["dog-run", "humanoid-run", "myo-key-turn-hard"])
    parser.add_argument("--environments", type=int, default=10)
    parser.add_argument("--decisions", type=int, default=50, help="per environment and repetition")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--json", help="where to write the numbers")
    options = parser.parse_args()
    available = len(os.sched_getaffinity(0))
    threads = sorted({min(2**power, available) for power in range(8)} | {available})
    report: dict[str, Any] = {"processors": available, "environments": options.environments, "tasks": {}}
    for name in options.tasks:
        task = Task(name, options.environments, options.decisions)
        with ExitStack() as ending:
            measurements = task.measurements(threads, ending)
            rates = report["tasks"][name] = measure(measurements, options.repetitions)
        print(f"\n{name}, {options.environments} environments: frames per second (ratio to plain, to bare)")
        for kind, rate in rates.items():
            bare = rates[kind.replace("pool", "bare").replace("workers", "bare").replace("plain", "bare 1")]
            ratios = [f"{rate[clock]:8.0f} ({rate[clock] / rates['plain'][clock]:.2f}, "
                      f"{rate[clock] / bare[clock]:.2f})" for clock in ("wall", "cpu")]  # fmt: skip
            print(f"  {kind:10} wall {ratios[0]}   cpu {ratios[1]}")
        sys.stdout.flush()
    if options.json:
        with open(options.json, "w") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
