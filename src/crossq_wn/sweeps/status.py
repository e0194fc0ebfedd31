"""Where the runs of a sweep stand, for people and programs that look at it from outside."""

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from crossq_wn import files
from crossq_wn.files import MOST_TABLE
from crossq_wn.runs import leases
from crossq_wn.sweeps.history import RETRIES, History
from crossq_wn.sweeps.plans import Run
from crossq_wn.sweeps.scheduling import Outlook, Standing, outlook
from crossq_wn.sweeps.states import State, state_of, stopped_seeds

NO_ESTIMATES: Mapping[Path, float] = MappingProxyType({})


class Line(NamedTuple):
    """Where a run stands."""

    run: Path
    task: str
    system: str
    seeds: tuple[int, ...]
    standing: Standing
    frames: int  # environment frames per seed so far
    total: int  # likewise, in the end
    speed: float | None  # environment frames per second and seed; None where that is unknown
    hours: float | None  # left, at that speed
    why: str  # it failed, or has to wait


class Summary(NamedTuple):
    """A sweep in numbers."""

    standings: dict[Standing, int]  # number of runs
    hours: float | None  # wall-clock hours left, as many running side by side as now; None: unknown


def lines(runs: Sequence[Run], out: Path) -> list[Line]:
    """Looks at every run of a sweep."""
    history, found = History(out), []
    for run in runs:
        state = state_of(run)
        alive = leases.alive(run.path, state.seen)
        attempts = history.of(history.name(run.path))
        retries = attempts[-1].retries if attempts else RETRIES  # as the sweep was told
        stands = outlook(state, attempts, alive=alive, retries=retries)
        config, frames, speed = run.config, state.frames, None
        if alive:
            frames, speed = _pace(run, frames)
        elif worked := [each for each in attempts if each.seconds and each.after > each.before]:
            speed = (worked[-1].after - worked[-1].before) / worked[-1].seconds
        total = config.trained_frames
        hours = (total - frames) / speed / 3600 if speed and stands.standing != "done" else None
        found.append(
            Line(
                run=run.path,
                task=config.task,
                system=config.system.label,
                seeds=config.options.seeds,
                standing=stands.standing,
                frames=frames,
                total=total,
                speed=speed,
                hours=hours,
                why=_why(run, state, stands),
            )
        )
    return found


def _why(run: Run, state: State, stands: Outlook) -> str:
    """What went wrong with a run, and when it is tried again."""
    if stands.standing == "done":
        return stopped_seeds(run, state)
    again = stands.next_try(time.time()) if stands.standing == "waiting" else ""
    return again + stands.why


def summary(found: Sequence[Line], estimates: Mapping[Path, float] = NO_ESTIMATES) -> Summary:
    """Counts runs, and estimates how long the rest will take.

    The longest runs start first, so those that have been measured are not like those that wait. Of the latter
    the plan's estimates count, corrected by how much longer than estimated the measured ones take.

    Args:
        found: all runs.
        estimates: seconds of each run from beginning to end, as they were planned.
    """
    standings: dict[Standing, int] = {"running": 0, "waiting": 0, "done": 0, "failed": 0}
    for line in found:
        standings[line.standing] += 1
    measured = {line.run: line.total / line.speed for line in found if line.speed}  # seconds of a whole run
    if not measured or not standings["running"]:
        return Summary(standings, None)
    whole = _seconds(measured, estimates)
    unfinished = [line for line in found if line.standing in ("running", "waiting")]
    left = [whole(line.run) * (1 - line.frames / line.total) for line in unfinished]
    seconds = max(sum(left) / standings["running"], max(left))
    return Summary(standings, seconds / 3600)


def _seconds(measured: Mapping[Path, float], estimates: Mapping[Path, float]) -> Callable[[Path], float]:
    """How to tell the seconds of a whole run: as measured, else as estimated, else as of the others."""
    usual = sum(measured.values()) / len(measured)
    both = measured.keys() & estimates.keys()
    planned = sum(estimates[run] for run in both)
    factor = sum(measured[run] for run in both) / planned if planned else 0.0
    return lambda run: measured.get(run) or factor * estimates.get(run, 0.0) or usual


def _pace(run: Run, frames: int) -> tuple[int, float | None]:
    """The frames and the frames per second and seed of the newest row of timing.csv.

    The speed of a warm-up, in which nothing is updated, says nothing of what follows.
    """
    try:
        text = files.read(run.path / "timing.csv", MOST_TABLE).decode(errors="replace")
        *_, last = csv.DictReader(io.StringIO(text))
        speed = float(last["frames_per_second"]) / len(run.config.options.seeds)
        warming = run.config.learns and not float(last.get("updates_per_second", 1))
        return max(frames, int(last["frames"])), None if warming else speed or None
    except (OSError, ValueError, KeyError, TypeError, csv.Error):  # nothing has been logged yet
        return frames, None
