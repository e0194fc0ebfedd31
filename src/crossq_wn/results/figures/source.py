"""What do figures draw from? Runs and others' published curves, in one order, read when first needed."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from crossq_wn.environments import PAPER_TASKS
from crossq_wn.errors import UserError, nearest
from crossq_wn.learning.diagnostics import Diagnostic
from crossq_wn.results import reading
from crossq_wn.results.reading import Curves, Results

_UTD = re.compile(r" UTD (\d+)\b")


def family(system: str) -> str:
    """A system's name without its UTD ratio: `crossq-wn UTD 5 (x=1)` -> `crossq-wn (x=1)`."""
    return _UTD.sub("", system, count=1)


def utd(system: str) -> int | None:
    """Gradient updates per agent decision, where the system's name says so."""
    found = _UTD.search(system)
    return int(found[1]) if found else None


def _silent(text: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Source:
    """What a figure draws from, and how. Make one with `Source.of`."""

    paths: tuple[Path, ...]
    reference: tuple[Path, ...]
    wanted: tuple[str, ...]
    frames: int | None  # environment frames at which curves end; None: the last that most runs reached
    confidence: float
    warn: Callable[[str], None]

    @staticmethod
    def of(
        paths: Iterable[Path],
        reference: Iterable[Path] = (),
        systems: Sequence[str] = (),
        frames: int | None = None,
        confidence: float = 0.9,
        warn: Callable[[str], None] = _silent,
    ) -> "Source":
        """A source; files are read when a figure asks for them.

        Args:
            paths: run directories, folders of them, or tidy CSV files.
            reference: tidy CSV files (or runs) of others; drawn only on tasks that `paths` have.
            systems: which to draw, in this order; each a full name, or its first words (`SimBa`). By default
                all, ours first.
            frames: environment frames at which curves and comparisons end; by default the last that more than
                half of each system's runs reached.
            confidence: of the intervals.
            warn: told of what is left out.

        Raises:
            UserError: a confidence outside (0, 1), or no frames.
        """
        if not 0 < confidence < 1:
            raise UserError(f"--confidence is {confidence}: it must be between 0 and 1, such as 0.9")
        if frames is not None and frames < 1:
            raise UserError(f"--frames is {frames}: it must be at least 1 environment frame")
        once = cache(warn)  # files are read for several quantities
        return Source(tuple(paths), tuple(reference), tuple(systems), frames, confidence, once)

    @cached_property
    def ours(self) -> tuple[Path, ...]:
        """The runs and tables that count, without damaged ones: see `reading.sound`."""
        return tuple(reading.sound(self.paths, self.warn))

    @cached_property
    def theirs(self) -> tuple[Path, ...]:
        """Those of the reference."""
        return tuple(reading.sound(self.reference, self.warn))

    @cached_property
    def _ours(self) -> Results:
        return reading.read(self.ours, self.warn)

    @cached_property
    def _others(self) -> Results:
        """What the reference files hold, by names whose families none of ours has."""
        families = {family(name) for name in self._ours}
        there = reading.read(self.theirs, self.warn) if self.theirs else {}
        return {f"{name} (reference)" if family(name) in families else name: of for name, of in there.items()}

    @cached_property
    def _published(self) -> Results:
        """Of those, what is on our tasks."""
        tasks = {task for curves in self._ours.values() for task in curves}
        shared = {name: {t: c for t, c in of.items() if t in tasks} for name, of in self._others.items()}
        return {name: of for name, of in shared.items() if of}

    @cached_property
    def scores(self) -> Results:
        """Scores of the systems to draw, in the order in which they are drawn: ours first.

        Raises UserError if a system asked for is not there.
        """
        there = {name: of for part in (self._ours, self._published) for name, of in _in_order(part)}
        names = list(there) if not self.wanted else [n for want in self.wanted for n in _called(want, there)]
        return {name: there[name] for name in dict.fromkeys(names)}

    @cached_property
    def names(self) -> dict[str, str]:
        """What the figure calls each system: see `reading.short_names`. Tables keep the full names."""
        return reading.short_names(self.scores, self.published)

    @property
    def published(self) -> frozenset[str]:
        """The systems that come from the reference files."""
        return frozenset(self._published)

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """All tasks of the systems to draw: the paper's in its order, then others."""
        there = dict.fromkeys(task for curves in self.scores.values() for task in curves)
        paper = [task for task in PAPER_TASKS if task in there]
        return tuple(dict.fromkeys([*paper, *there]))

    @cached_property
    def until(self) -> int:
        """Environment frames at which curves end: others' may be longer than ours."""
        drawn = [of for name, of in self.scores.items() if name not in self.published] or self.scores.values()
        last = max(int(curve.env_steps[-1]) for of in drawn for curve in of.values())
        return last if self.frames is None else self.frames

    @property
    def interval(self) -> str:
        """What whiskers and bands reach over; for a footnote."""
        return f"{100 * self.confidence:g} % stratified bootstrap intervals"

    def footnotes(self, meaning: str, remarks: list[str]) -> list[str]:
        """What stands below the figure: what its marks mean, what all systems have in common, remarks, having
        warned of them, and how others' results are drawn.
        """
        remarks = [*remarks, *self.elsewhere()]
        for remark in remarks:
            self.warn(remark)
        others = self.published & set(self.scores)
        shared = reading.dropped(self.names)
        return [
            meaning,
            *([f"all{' of ours' if others else ''} with {shared}"] if shared else []),
            *remarks,
            *(["dashed, pale or hollow: published by others"] if others else []),
        ]

    def elsewhere(self) -> list[str]:
        """Which of the reference files' systems are on other tasks than ours; not if some were asked for."""
        names = [name for name in self._others if name not in self._published]
        whom = ", ".join(names) if self._published else "all of the reference"
        return [f"not drawn, having none of these tasks: {whom}"] if names and not self.wanted else []

    @cached_property
    def speeds(self) -> dict[str, dict[str, tuple[float, ...]]]:
        """As `reading.read_speed`."""
        return reading.read_speed(self.ours, self.warn)

    def metric(self, column: str) -> Results:
        """A column of metrics.csv of the systems to draw; without those that have none."""
        return self._drawn(reading.read_metric(self.ours, column, self.warn))

    def evaluations(self, metric: str) -> Results:
        """Another metric of eval.csv than the score, such as `q_bias_std`, unscaled."""
        return self._drawn(reading.read(self.ours, self.warn, metric))

    def diagnostic(self, diagnostic: Diagnostic) -> Results:
        """A diagnostic of the systems to draw, from the file in which it is recorded."""
        evaluated = diagnostic.file == "eval.csv"
        return self.evaluations(diagnostic.name) if evaluated else self.metric(diagnostic.name)

    def _drawn(self, found: Results) -> Results:
        return {name: found[name] for name in self.scores if name in found and name in self._ours}


def _called(want: str, there: Iterable[str]) -> list[str]:
    """The systems of that name, or else those that begin with these words."""
    there = list(there)
    found = [want] if want in there else [name for name in there if name.startswith(f"{want} ")]
    if not found:
        raise UserError(f"no system {want!r}: {nearest(want, there)}there are {', '.join(there)}")
    return found


def _in_order(results: Results) -> list[tuple[str, dict[str, Curves]]]:
    return sorted(results.items(), key=lambda item: (family(item[0]), utd(item[0]) or 0))
