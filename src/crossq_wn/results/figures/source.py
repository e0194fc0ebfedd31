"""The runs and published curves that figures are drawn from."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import chain
from pathlib import Path

from crossq_wn.environments import PAPER_TASKS
from crossq_wn.errors import UserError, nearest, option
from crossq_wn.learning.diagnostics import Diagnostic
from crossq_wn.results import duplicates, reading
from crossq_wn.results.alike import Group, groups
from crossq_wn.results.along import Along, clocks, positions
from crossq_wn.results.curves import Results
from crossq_wn.results.names import displayed, left_out
from crossq_wn.results.practice import Practice, Practices, Timed, over, practices, timed
from crossq_wn.results.records import Input
from crossq_wn.results.sheets import Steps
from crossq_wn.results.statistics import USUAL, Aggregation, Array
from crossq_wn.runs.system import System


def silent(text: str) -> None:
    """Ignores the text."""


def in_paper_order(tasks: Iterable[str]) -> list[str]:
    """Returns the tasks, each once: the paper's in its order, then others."""
    there = dict.fromkeys(tasks)
    paper = [task for task in PAPER_TASKS if task in there]
    return list(dict.fromkeys([*paper, *there]))


@dataclass(frozen=True)
class Source:
    """What a figure draws from, and how. `Source.of` makes one from paths."""

    ours: tuple[Input, ...]  # usable runs and tables
    theirs: tuple[Input, ...]  # those of others; drawn only on tasks that ours have as well
    wanted: tuple[str, ...] = ()  # labels of systems, or their first words; empty: all
    frames: int | None = None  # environment frame at which curves end; None: the last that most runs reached
    how: Aggregation = USUAL  # how runs are summed up over tasks
    warn: Callable[[str], None] = silent  # called with a line on what is left out
    along: Along = "frames"  # what curves run over
    protocol: str = ""  # what sets these runs apart from runs of other protocols; empty if there are none

    def __post_init__(self) -> None:
        confidence = self.how.confidence
        if not 0 < confidence < 1:
            raise UserError(
                f"{option('confidence')} is {confidence}: it must be between 0 and 1, such as 0.9"
            )
        if self.frames is not None and self.frames < 1:
            raise UserError(f"{option('frames')} is {self.frames}: it must be at least 1 environment frame")

    @staticmethod
    def of(
        paths: Iterable[Path],
        reference: Iterable[Path] = (),
        systems: Sequence[str] = (),
        frames: int | None = None,
        how: Aggregation = USUAL,
        warn: Callable[[str], None] = silent,
        along: Along = "frames",
    ) -> "Source":
        """Makes a source of the usable runs and tables in these paths.

        Args:
            paths: run directories, folders of them, or CSV files of evaluations.
            reference: CSV files (or runs) of others; drawn only on tasks that `paths` have as well.
            systems: the systems to draw, in this order, each by its label or its first words (`SimBa`); empty
                draws all, ours first.
            frames: environment frame at which curves and comparisons end; None takes the last that more than
                half of each system's runs reached.
            how: how runs are summed up over tasks.
            warn: called with a line on each thing that is left out.
            along: what curves run over.

        Raises:
            UserError: the confidence or the frame is out of range, or nothing is usable.
        """
        once = cache(warn)  # a file that several quantities are read from is told of once
        ours, theirs = duplicates.usable(paths, once), duplicates.usable(reference, once)
        return Source(tuple(ours), tuple(theirs), tuple(systems), frames, how, once, along)

    def each_protocol(
        self, paths: Iterable[Path], reference: Iterable[Path] = (), *, force: bool = False
    ) -> list["Source"]:
        """Fills this source with the runs and tables in these paths: one source for each protocol they have.

        Args:
            paths: as for `of`.
            reference: as for `of`.
            force: puts runs of different protocols into one source.

        Raises:
            UserError: as for `of`, or nothing in the reference may be compared.
        """
        once = replace(self, warn=cache(self.warn))
        ours, theirs = reading.complete(paths, once.warn), reading.complete(reference, once.warn)
        found = groups(ours, theirs, once.warn, force=force, wanted=self.wanted)
        return [once.of_group(group) for group in found]

    def of_group(self, group: Group) -> "Source":
        """Returns this source with the runs and tables of one protocol."""
        return replace(self, ours=group.ours, theirs=group.theirs, protocol=group.protocol)

    @cached_property
    def _own_scores(self) -> Results:
        return reading.scores(self.ours, self.warn)

    @cached_property
    def _other_scores(self) -> Results:
        """The reference's scores; systems that could be taken for ours carry a note."""
        if not self.theirs:
            return {}
        found = reading.scores(self.theirs, self.warn)
        return {self._noted(system): tasks for system, tasks in found.items()}

    def _noted(self, system: System) -> System:
        """Adds a note to a system of the reference that could be taken for one of ours."""
        families = {own.family for own in self._own_scores}
        labels = {own.label for own in self._own_scores}
        alike = system.family in families or system.label in labels
        return replace(system, note="reference") if alike else system

    @cached_property
    def practices(self) -> Practices:
        """How each system was trained and evaluated, as far as its runs or tables say."""
        others = practices(self.theirs) if self.theirs else {}
        return practices(self.ours) | {self._noted(system): known for system, known in others.items()}

    def practice(self, system: System, tasks: Iterable[str]) -> Practice:
        """Returns how a system was trained and evaluated on these tasks."""
        return over(self.practices.get(system, {}), tasks)

    @cached_property
    def _published(self) -> Results:
        """The reference's scores on our tasks."""
        ours = set(chain.from_iterable(self._own_scores.values()))
        found: Results = {}
        for system, tasks in self._other_scores.items():
            shared = {task: curves for task, curves in tasks.items() if task in ours}
            if shared:
                found[system] = shared
        return found

    @cached_property
    def scores(self) -> Results:
        """The scores of the systems to draw, in drawing order: ours first.

        Raises:
            UserError: a wanted system is missing.
        """
        there = _in_order(self._own_scores) | _in_order(self._published)
        if not self.wanted:
            return there
        wanted: list[System] = []
        for want in self.wanted:
            try:
                wanted += called(want, there)
            except UserError as error:
                if not self.protocol:
                    raise
                self.warn(f"with {self.protocol}: {error}")  # it may have another protocol
        if not wanted:
            raise UserError(
                f"none of the systems that {option('systems')} names has runs with {self.protocol}"
            )
        return {system: there[system] for system in wanted}

    @property
    def published(self) -> frozenset[System]:
        """The systems that come from the reference."""
        return frozenset(self._published)

    @property
    def own_systems(self) -> list[System]:
        """Our systems among those to draw."""
        return [system for system in self.scores if system not in self.published]

    @cached_property
    def shown(self) -> dict[System, System]:
        """Each system as the figure displays it (see `names.displayed`); tables keep the full labels."""
        return displayed(self.scores, self.published)

    @cached_property
    def names(self) -> dict[System, str]:
        """What the figure calls each system."""
        return {system: short.label for system, short in self.shown.items()}

    @property
    def shared(self) -> str:
        """The settings that all of ours change in the same way, which names leave out."""
        return left_out(self.shown)

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """All tasks of the systems to draw: the paper's in its order, then others."""
        return tuple(in_paper_order(chain.from_iterable(self.scores.values())))

    @cached_property
    def until(self) -> int:
        """The environment frame at which curves end: the last of ours, since others' curves may be longer."""
        if self.frames is not None:
            return self.frames
        last = 0
        for system in self.own_systems or self.scores:
            for curves in self.scores[system].values():
                last = max(last, int(curves.env_steps[-1]))
        return last

    @property
    def last(self) -> int | None:
        """The environment frame at which curves end; None: with their runs (over updates or hours)."""
        return self.until if self.along == "frames" else self.frames

    @cached_property
    def clocks(self) -> Results:
        """Our systems' gradient updates or hours over environment frames; empty where frames are the axis."""
        return clocks(self.ours, self.along, self.warn)

    def positions(
        self, system: System, tasks: Iterable[str], frames: Steps, seed: str | None = None
    ) -> Array:
        """Returns where some environment frames of a system lie on the x axis.

        Args:
            system: the system.
            tasks: the tasks of the curve.
            frames: [points].
            seed: the seed, if it is a single seed's curve.

        Returns:
            The positions [points]; NaN if the updates or hours are unknown on one of the tasks.
        """
        if self.along == "frames":
            return frames.astype(float)
        known = self.clocks.get(system, {})
        there = [task for task in tasks if task in self.scores[system]]
        found = [known[task] for task in there if task in known]
        return positions(found if len(found) == len(there) else [], frames, seed)

    @property
    def unplaced(self) -> list[System]:
        """The systems to draw whose place on an x axis of updates or hours is unknown."""
        return [] if self.along == "frames" else [each for each in self.scores if each not in self.clocks]

    @property
    def interval(self) -> str:
        """What whiskers and bands show, for a footnote."""
        return f"{100 * self.how.confidence:g} % stratified bootstrap intervals"

    def footnotes(self, meaning: str, remarks: Sequence[str]) -> list[str]:
        """Returns the lines below the figure; also warns of the remarks.

        Args:
            meaning: what the figure's marks mean.
            remarks: what else a reader must know.
        """
        told = [*remarks, *self.elsewhere()]
        for remark in told:
            self.warn(remark)
        others = self.published & set(self.scores)
        lines = [meaning]
        if self.protocol:
            lines.append(f"only runs with {self.protocol}; runs of other protocols are drawn by themselves")
        if self.shared:
            lines.append(f"all{' of ours' if others else ''} with {self.shared}")
        lines += told
        if others:
            lines.append("dashed, pale or hollow: published by others")
        return lines

    def elsewhere(self) -> list[str]:
        """Says which of the reference's systems have none of our tasks; empty if systems were chosen."""
        absent = [system.label for system in self._other_scores if system not in self._published]
        if not absent or self.wanted:
            return []
        whom = ", ".join(absent) if self._published else "all of the reference"
        return [f"not drawn, having none of these tasks: {whom}"]

    @cached_property
    def speeds(self) -> dict[System, dict[str, tuple[float, ...]]]:
        """How fast systems trained: ours (`reading.speeds`), and others where the hardware is known."""
        found = reading.speeds(self.ours, self.warn)
        for system, tasks in self.timed.items():
            found[system] = {task: known.rates for task, known in tasks.items()}
        return found

    @cached_property
    def timed(self) -> dict[System, dict[str, Timed]]:
        """The published speeds of the reference's systems, with the hardware."""
        return {self._noted(system): tasks for system, tasks in timed(self.theirs, self.warn).items()}

    def evaluations(self, metric: str) -> Results:
        """Returns a metric of eval.csv, such as `q_bias_std`, of our systems to draw; it is not scaled."""
        return self._drawn(reading.evaluations(self.ours, metric, self.warn))

    def diagnostic(self, diagnostic: Diagnostic) -> Results:
        """Returns a diagnostic of our systems to draw, from the file that has it."""
        if diagnostic.file == "eval.csv":
            return self.evaluations(diagnostic.name)
        return self._drawn(reading.logged(self.ours, diagnostic.name, self.warn))

    def _drawn(self, found: Results) -> Results:
        """Keeps our systems among those to draw."""
        own = found.keys() & self._own_scores.keys()
        return {system: found[system] for system in self.scores if system in own}


def called(want: str, there: Iterable[System]) -> list[System]:
    """Returns the systems with that label, or else those whose labels begin with these words.

    Raises:
        UserError: there are none; the message suggests the nearest.
    """
    labels, whole, begun = [], [], []
    for system in there:
        labels.append(system.label)
        if system.label == want:
            whole.append(system)
        elif system.begins(want):
            begun.append(system)
    if not whole and not begun:
        known = [*labels, *(label.partition(" ")[0] for label in labels)]  # first words will do
        raise UserError(f"no system {want!r}: {nearest(want, known)}choose from {', '.join(labels)}")
    return whole or begun


def _in_order(results: Results) -> Results:
    """Sorts systems by family, then by UTD ratio."""
    return dict(sorted(results.items(), key=lambda item: (item[0].family.label, item[0].utd or 0)))
