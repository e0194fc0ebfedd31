"""How often is a system how good? Performance profiles: the fraction of runs that score above a threshold."""

import numpy as np
from matplotlib.transforms import nonsingular

from crossq_wn.results.figures.curves import key
from crossq_wn.results.figures.ends import at_end
from crossq_wn.results.figures.source import Source
from crossq_wn.results.figures.style import (
    Picture,
    bounded,
    legend,
    looks,
    lowest,
    note,
    styled,
    unit,
    wrapped,
)
from crossq_wn.results.statistics import performance_profile

_THRESHOLDS = 101


@styled
def profiles(source: Source) -> Picture:
    """Performance profiles (Agarwal et al. 2021): the fraction of runs above each score."""
    end = at_end(source, source.scores)
    looked = looks(source.scores, source.published)
    frames = {point.panel: point.frames for point in end.points}
    figure, axes = wrapped(end.titles, 3, 2.2, 2.0)
    rows = []
    for each, (panel, tasks) in zip(axes, end.panels.items(), strict=True):
        here = {system: end.scores[panel, system] for system in looked if (panel, system) in end.scores}
        every = np.concatenate([task for of in here.values() for task in of])
        top = 1.0 if bounded(tasks) else np.nanmax(every)
        # Equal returns, none above 0, have room around them.
        bottom, top = nonsingular(min(0.0, np.nanmin(every)), top, expander=0.5)
        taus = np.linspace(bottom, top, _THRESHOLDS)
        for system, scores in here.items():
            value, low, high = performance_profile(scores, taus, confidence=source.confidence)
            if max(len(task) for task in scores) == 1:
                low = high = np.full(len(taus), np.nan)  # nothing is known of the spread
            look = looked[system]
            each.step(taus, value, where="post", color=look.colour, linestyle=look.dash, linewidth=1.8)
            each.fill_between(taus, low, high, step="post", color=look.colour, alpha=0.18, linewidth=0)
            numbers = zip(taus, value, low, high, strict=True)
            rows += [
                {"panel": panel, "system": system, "frames": frames[panel], "score": float(tau),
                 "value": float(v), "low": float(lo), "high": float(hi), "confidence": source.confidence}
                for tau, v, lo, hi in numbers
            ]  # fmt: skip
        each.set(xlim=(taus[0], taus[-1]), ylim=(0, 1.05))
    for each, tasks in zip(axes, end.panels.values(), strict=True):
        if each in lowest(axes):
            each.set_xlabel(unit(tasks))
        spec = each.get_subplotspec()
        if spec is None or spec.is_first_col():
            each.set_ylabel("fraction of runs above")
    legend(figure, key(end.points, looked, source.names))
    note(figure, source.footnotes(f"bands: pointwise {source.interval}", end.remarks))
    return Picture(figure, rows)
