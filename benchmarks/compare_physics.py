"""Two sets of simulators, task by task: the same starts and the same actions, in two environments of Python.

    .venv/bin/python benchmarks/compare_physics.py record published.npz
    .venv-current/bin/python benchmarks/compare_physics.py record current.npz
    python benchmarks/compare_physics.py compare published.npz current.npz

`record` plays `EPISODES` episodes of uniform actions on each task (all that the set has, or those that are
named) and keeps observations and rewards. `compare` prints how far they are apart at the start, after one
decision and after ten, and both mean returns. Contacts amplify the last bit, so that trajectories part in
time even where the physics is the same up to rounding; what carries over then is the distribution, not the
trajectory. A task whose starts, or whose first decision, differ visibly has been changed.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossq_wn.environments import SUITES, make
from crossq_wn.errors import UserError
from crossq_wn.installation import SIMULATORS, simulator_set, version

EPISODES, DECISIONS = 4, 100
SAME, ROUNDED = "the same bits", "the same up to rounding"
VISIBLE = 1e-4  # of the size of the observations, after one decision


def record(file: Path, tasks: Sequence[str]) -> None:
    """Plays the episodes; keeps observations [episode, 1 + decision, part], rewards [episode, decision]."""
    kept: dict[str, Any] = {}
    for task in tasks:
        try:
            kept[f"{task} observations"], kept[f"{task} rewards"] = play(task)
        except UserError as error:
            print(f"{task}: {error}")
    about = {name: version(name) for name in SIMULATORS} | {"set": simulator_set()}
    np.savez_compressed(file, about=json.dumps(about), **kept)


def play(task: str) -> tuple[np.ndarray, np.ndarray]:
    """Plays episodes of uniform actions, which depend on nothing but their number."""
    environment = make(task, terminations=False)
    observations, rewards = [], []
    for episode in range(EPISODES):
        generator = np.random.default_rng(episode)
        seen, paid = [environment.reset(episode)], []
        for _ in range(DECISIONS):
            transition = environment.step(
                generator.uniform(-1, 1, environment.action_size).astype(np.float32)
            )
            seen.append(transition.next_observation)
            paid.append(transition.reward)
            if transition.episode is not None:
                break
        missing = DECISIONS - len(paid)  # of an episode that ended
        observations.append(np.pad(np.array(seen), ((0, missing), (0, 0)), mode="edge"))
        rewards.append(np.pad(np.array(paid), (0, missing)))
    environment.close()
    return np.array(observations), np.array(rewards)


def compare(left: Path, right: Path) -> None:
    """Prints a row per task that both files have."""
    one, other = np.load(left), np.load(right)
    for file, values in ((left, one), (right, other)):
        print(f"{file.name}: {json.loads(str(values['about']))}")
    print(
        "\n| task | start | 1 decision | 10 decisions | return | return | verdict |"
        "\n|---|---|---|---|---|---|---|"
    )
    for key in one:
        task, _, what = key.rpartition(" ")
        if what == "observations" and key in other:
            print(row(task, one, other))


def row(task: str, one: Any, other: Any) -> str:
    """The row of one task: largest differences relative to the size of its observations, returns, verdict."""
    mine, theirs = one[f"{task} observations"], other[f"{task} observations"]
    if mine.shape != theirs.shape:
        return f"| {task} | | | | | | other observations: {mine.shape[-1]} and {theirs.shape[-1]} |"
    size = max(1.0, float(np.abs(mine).max()))
    apart = [float(np.abs(mine[:, : n + 1] - theirs[:, : n + 1]).max()) / size for n in (0, 1, 10)]
    returns = [values[f"{task} rewards"].sum(axis=1).mean() for values in (one, other)]
    if np.array_equal(mine, theirs):
        verdict = SAME
    elif max(apart[:2]) < VISIBLE:
        verdict = ROUNDED
    else:
        verdict = "changed: " + ("its start" if apart[0] >= VISIBLE else "its first decision")
    shown = " | ".join(f"{each:.0e}" if each else "0" for each in apart)
    return f"| {task} | {shown} | {returns[0]:.2f} | {returns[1]:.2f} | {verdict} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    recording = verbs.add_parser("record")
    recording.add_argument("file", type=Path)
    recording.add_argument(
        "tasks", nargs="*", default=[name for suite in SUITES.values() for name in suite.tasks]
    )
    comparing = verbs.add_parser("compare")
    comparing.add_argument("left", type=Path)
    comparing.add_argument("right", type=Path)
    parsed = parser.parse_args()
    if parsed.verb == "record":
        record(parsed.file, parsed.tasks)
    else:
        compare(parsed.left, parsed.right)


if __name__ == "__main__":
    main()
