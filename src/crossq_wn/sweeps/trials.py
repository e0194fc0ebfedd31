"""What a trial of a search trains: its runs, their stages, and what they were worth."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from crossq_wn import files
from crossq_wn.environments import require_named
from crossq_wn.errors import UserError
from crossq_wn.files import MOST_TABLE
from crossq_wn.sweeps.plans import Planned, Run, plan
from crossq_wn.sweeps.sheets import Section, Sheet
from crossq_wn.sweeps.spaces import Range, Space, require_comparison, toml
from crossq_wn.training.warmup import require_learning

_STAGES = 3  # at most: the first is trained for 1/keep^2 of the frames, the second for 1/keep


def runs_of(sheet: Sheet, out: Path, options: Any) -> list[Run]:
    """The runs of a trial, to their ends.

    Args:
        sheet: the sweep's file, with one section that makes one assignment.
        out: the folder of the sweep.
        options: that were proposed.
    """
    (section,) = sheet.sections
    (values,) = section.assignments()

    def planned(more: Any) -> list[Run]:
        every = Section(section.name, {**values, **options, **more}, {}, [{}])
        return plan(Sheet([every], sheet.seeds_per_process), out)

    whole = planned({})
    if sheet.search is None:
        return whole
    first = at(whole[0], stages_of(whole[0], sheet.search)[0]).config
    require_comparison(first)
    # What follows from the length of a run, such as a falling learning rate, is that of the whole run.
    short = planned({"frames": first.options.frames})[0].config.settings
    settings, fixed = whole[0].config.settings, {}
    for each in fields(settings):
        if getattr(settings, each.name) != getattr(short, each.name):
            fixed[each.name] = getattr(settings, each.name)
    return planned(fixed) if fixed else whole


def stages_of(run: Run, space: Space) -> list[int]:
    """The environment frames per seed at the end of each stage of a run; evaluations are made there.

    Args:
        run: to its end.
        space: `keep` says how many times as long each stage is as the one before; 1: there is one stage.
    """
    whole, every = run.config.options.frames, run.config.options.eval_every
    if space.keep == 1:
        return [whole]
    found: list[int] = []
    frames = math.ceil(whole / space.keep ** (_STAGES - 1) / every) * every
    while frames < whole and len(found) < _STAGES - 1:
        found.append(frames)
        frames *= space.keep  # where the pruner compares again
    return [*found, whole]


def at(run: Run, frames: int) -> Run:
    """A run that ends after fewer environment frames."""
    return run._replace(config=replace(run.config, options=replace(run.config.options, frames=frames)))


def value_of(runs: Sequence[Planned]) -> float | None:
    """The mean over seeds of the evaluations at the ends of runs; None if one is missing or not a number."""
    found: list[float] = []
    for run in runs:
        try:
            scores = _last_scores(run)
        except (OSError, ValueError, LookupError, TypeError, csv.Error):  # it is missing, or damaged
            return None
        if len(scores) < len(run.config.options.seeds):
            return None
        found += scores.values()
    mean = sum(found) / len(found)
    return mean if math.isfinite(mean) else None


def _last_scores(run: Planned) -> dict[str, float]:
    """The score of each seed at the end of a run."""
    text = files.read(run.path / "eval.csv", MOST_TABLE).decode(errors="replace")
    found = {}
    for row in csv.DictReader(io.StringIO(text)):
        if (row["metric"], row["env_step"]) == (run.config.metric, str(run.config.trained_frames)):
            found[row["seed"]] = float(row["value"])
    return found


def refuse_hopeless(sheet: Sheet, out: Path) -> None:
    """Raises UserError for a value of the search space with which no run can be trained.

    A value that goes with some of the others will do: trials that are proposed without them fail alone.

    Args:
        sheet: the sweep's file, which has a space.
        out: the folder of the sweep.
    """
    assert sheet.search is not None
    for name, choice in sheet.search.options.items():
        for value in _values(choice):
            reasons: list[UserError] = []
            for others in _beside(name, sheet.search):
                try:
                    _try(sheet, out, {**others, name: value})
                    break
                except UserError as reason:
                    reasons.append(reason)
            else:
                raise UserError(f"search.space.{name} = {toml(value)} cannot be trained: {reasons[0]}")


def _values(choice: Range | tuple[Any, ...]) -> Sequence[Any]:
    """A list's values; the ends of a range, and a number between them unless all are whole."""
    if not isinstance(choice, Range):
        return choice
    ends = choice.low, choice.high
    return ends if choice.whole else (*ends, min(choice.between, choice.high))


def _beside(name: str, space: Space) -> Iterator[dict[str, Any]]:
    """What may be chosen beside an option: nothing, a value of one of the others, or the last of each."""
    yield {}
    last = {}
    for other, choice in space.options.items():
        for value in _values(choice) if other != name else ():
            yield {other: value}
            last[other] = value
    yield last


def _try(sheet: Sheet, out: Path, options: dict[str, Any]) -> None:
    for run in runs_of(sheet, out, options):
        require_learning(run.config)
        require_named(run.config.task)


def example(sheet: Sheet, out: Path) -> list[Run]:
    """The runs of a trial with the last of each option's values, as a measure of what all cost."""
    options = {}
    for name, choice in (sheet.search.options if sheet.search else {}).items():
        options[name] = choice.high if isinstance(choice, Range) else choice[-1]
    return runs_of(sheet, out, options)
