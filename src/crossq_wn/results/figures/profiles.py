"""Performance profiles: the fraction of runs that score above a threshold."""

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import nonsingular

from crossq_wn.results.figures.captions import has_intervals
from crossq_wn.results.figures.curves import key
from crossq_wn.results.figures.ends import at_end
from crossq_wn.results.figures.source import Source
from crossq_wn.results.figures.style import (
    Look,
    Picture,
    Row,
    bounded,
    end_of_scores,
    first_in_row,
    legend,
    looks,
    lowest,
    note,
    styled,
    unit,
    wrapped,
)
from crossq_wn.results.statistics import Aggregation, Array, Estimate, performance_profile
from crossq_wn.runs.system import System

_THRESHOLDS = 101
_BEYOND = 0.05  # of the range of unbounded scores, above the highest


@styled
def profiles(source: Source) -> Picture:
    """Performance profiles (Agarwal et al. 2021): the fraction of runs above each score."""
    end = at_end(source, source.scores)
    looked = looks(source.scores, source.published)
    figure, axes = wrapped(end.titles, 3, 2.2, 2.0)
    rows: list[Row] = []
    for each, (panel, tasks) in zip(axes, end.panels.items(), strict=True):
        here = {system: end.scores[panel, system] for system in looked if (panel, system) in end.scores}
        taus = _thresholds(tasks, here)  # [thresholds]
        for system, scores in here.items():
            profile = _profile(scores, taus, source.how)
            _draw(each, taus, profile, looked[system])
            about = {"panel": panel, "system": system.label, "frames": end.frames[panel]}
            rows += _rows(about, taus, profile, source.how)
        each.set(xlim=(taus[0], taus[-1]), ylim=(0, 1.05))
    _label(axes, [*end.panels.values()])
    legend(figure, key(end.points, looked, source.names))
    told = "lines: share of runs"
    if has_intervals(end.points):
        told += f"; bands: pointwise {source.interval}"
    note(figure, source.footnotes(told, end.remarks))
    return Picture(figure, rows)


def _thresholds(tasks: Sequence[str], scores: Mapping[System, Sequence[Array]]) -> Array:
    """Spreads thresholds evenly from where all runs are above to where the axis of scores ends.

    That is from 0 or, because a run that scores 0 is not above 0, from below the lowest score.
    """
    every = np.concatenate(list(chain.from_iterable(scores.values())))  # [runs]
    lowest, top = np.nanmin(every), np.nanmax(every)
    # Where the best run's step is seen.
    top = min(1.0, end_of_scores(top)) if bounded(tasks) else top + _BEYOND * (top - min(0.0, lowest))
    # Equal returns, none above 0, have room around them.
    bottom, top = nonsingular(min(0.0, lowest), top, expander=0.5)
    taus = np.linspace(bottom, top, _THRESHOLDS)
    return taus if bottom < lowest else np.concatenate([[2 * taus[0] - taus[1]], taus])


def _profile(scores: Sequence[Array], taus: Array, how: Aggregation) -> Estimate:
    """Computes a profile, without an interval if no task has a second run: the spread is unknown then."""
    found = performance_profile(scores, taus, **how._asdict())
    if max(map(len, scores)) > 1:
        return found
    nothing = np.full(len(taus), np.nan)
    return found._replace(low=nothing, high=nothing)


def _draw(axes: Axes, taus: Array, profile: Estimate, look: Look) -> None:
    # In steps, because the fraction changes only where a run has its score.
    axes.step(taus, profile.value, where="post", color=look.colour, linestyle=look.dash, linewidth=1.8)
    axes.fill_between(
        taus, profile.low, profile.high, step="post", color=look.colour, alpha=0.18, linewidth=0
    )


def _rows(about: Row, taus: Array, profile: Estimate, how: Aggregation) -> list[Row]:
    rows: list[Row] = []
    for tau, value, low, high in zip(taus, *profile, strict=True):
        numbers = {"score": float(tau), "value": float(value), "low": float(low), "high": float(high)}
        rows.append({**about, **numbers, **how._asdict()})
    return rows


def _label(axes: Sequence[Axes], tasks: Sequence[Sequence[str]]) -> None:
    below = lowest(axes)
    for each, those in zip(axes, tasks, strict=True):
        if each in below:
            each.set_xlabel(unit(those))
        if first_in_row(each):
            each.set_ylabel("fraction of runs above")
