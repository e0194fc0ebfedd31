"""A verdict on each pair of systems, and the finding that sums them up."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from crossq_wn.environments.groups import tasks_and_groups
from crossq_wn.errors import UserError, one_line
from crossq_wn.results.comparison import Comparison, compare, scopes
from crossq_wn.results.curves import Curves
from crossq_wn.results.practice import contrast
from crossq_wn.results.report.contents import Report
from crossq_wn.results.report.html import Html, bullets, details, table, tag
from crossq_wn.results.statistics import Aggregation
from crossq_wn.results.verdicts import ADVICE_CAME_TRUE, EQUAL_CALLED_BETTER, POWER
from crossq_wn.results.wording import fraction, number, on, place, seeds_of, sentence, span

_WORDS = ("better", "inconclusive")
_MANY = 8  # up to this many comparisons are shown unfolded


class Pair(NamedTuple):
    """Two systems, at least one of them ours, compared on tasks whose scores may be averaged."""

    ours: str  # the first system's name on this page
    theirs: str
    published: bool  # whether others published the second
    result: Comparison
    group: str | None = None  # the name of the group of tasks
    contrast: tuple[str, str] = ("", "")  # how training and evaluation of the two differ

    @property
    def sentence(self) -> str:
        """The verdict and its numbers."""
        return sentence(self.ours, self.theirs, self.result)

    @property
    def difference(self) -> str:
        """A sentence on how training and evaluation of the two differ; empty if nothing known does."""
        one, other = self.contrast
        return f" {self.ours} has {one}; {self.theirs} has {other}." if one else ""

    @property
    def word(self) -> str:
        """The verdict in a word."""
        return "better" if self.result.decided else "inconclusive"

    @property
    def outcome(self) -> str:
        """The verdict, saying which of the two is better."""
        if not self.result.decided:
            return "inconclusive"
        return f"{self.ours if self.result.gain.value > 0 else self.theirs} is better"


class _Couple(NamedTuple):
    """Two systems, the first of them ours, and their curves by task."""

    ours: str  # its short name
    theirs: str
    published: bool  # whether others published the second
    mine: dict[str, Curves]  # only the tasks that both have
    other: dict[str, Curves]
    contrast: tuple[str, str]  # how training and evaluation of the two differ on these tasks


def _couples(report: Report) -> Iterator[_Couple]:
    published = report.source.published
    for ours, theirs in combinations(report.scores, 2):
        # Two published systems are not ours to judge; in all other pairs the first is ours.
        if ours in published:
            continue
        other = report.scores[theirs]
        mine = {task: curves for task, curves in report.scores[ours].items() if task in other}
        practices = [report.source.practice(system, mine) for system in (ours, theirs)]
        differ = contrast(*practices)
        yield _Couple(report.names[ours], report.names[theirs], theirs in published, mine, other, differ)


def pairs(report: Report) -> tuple[list[Pair], list[str]]:
    """Makes every comparison that can be made.

    Returns:
        The pairs, and a line for each comparison that cannot be made, with the reason.
    """
    found, notes = [], []
    for couple in _couples(report):
        ours, theirs, published, mine, _, differ = couple
        if not mine:
            notes.append(f"{ours} and {theirs} are not compared: they have no task in common")
        for tasks in scopes(list(mine)):
            try:
                for result in _compare(couple, tasks, report.source.how):
                    found.append(Pair(ours, theirs, published, result, contrast=differ))
            except UserError as error:
                where = ", ".join(tasks)
                notes.append(f"{ours} and {theirs} are not compared on {where}: {one_line(error)}")
    return found, notes


def parts(report: Report) -> list[Pair]:
    """Repeats comparisons over many tasks for each of the paper's groups and each task."""
    found = []
    for couple in _couples(report):
        ours, theirs, published, mine, other, differ = couple
        for group, tasks in _narrower(list(mine)):
            with contextlib.suppress(UserError):  # `pairs` says why
                some = {task: mine[task] for task in tasks}
                result = compare(some, other, how=report.source.how)
                found.append(Pair(ours, theirs, published, result, group, differ))
    return found


def _narrower(tasks: Sequence[str]) -> Iterator[tuple[str | None, tuple[str, ...]]]:
    """Yields the groups among these tasks with their names, and then each task alone."""
    for whole in scopes(tasks):
        for name, some in tasks_and_groups(whole).items():
            if 1 < len(some) < len(whole):
                yield name, some
        if len(whole) > 1:
            for task in whole:
                yield None, (task,)


def _compare(couple: _Couple, tasks: tuple[str, ...], how: Aggregation) -> list[Comparison]:
    """Compares on all tasks at once, or on each alone if the tasks have no frame in common.

    Raises UserError if no task can be compared on.
    """
    mine = {task: couple.mine[task] for task in tasks}
    try:
        return [compare(mine, couple.other, how=how)]
    except UserError:
        found = []
        for task, curves in mine.items():
            with contextlib.suppress(UserError):
                found.append(compare({task: curves}, couple.other, how=how))
        if not found:
            raise
        return found


def finding(found: list[Pair]) -> str:
    """Sums up: a sentence on our systems, and one on published ones."""
    inner, outer = _apart(found)
    said = [_decided(inner)] if inner else []
    if outer:
        said.append(f"Against published curves: {_decided(outer)}")
    return " ".join(said)


def _apart(found: list[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Separates the comparisons between our own systems from those with published ones."""
    inner: list[Pair] = []
    outer: list[Pair] = []
    for pair in found:
        (outer if pair.published else inner).append(pair)
    return inner, outer


def _decided(found: list[Pair]) -> str:
    """Says which systems beat which; published systems are named as seen from ours."""
    if len(found) == 1:
        return found[0].sentence
    places: dict[tuple[str, ...], list[Pair]] = {}
    for pair in found:
        places.setdefault(pair.result.tasks, []).append(pair)
    said = []
    for tasks, some in places.items():
        where = f" {on(tasks)}" if len(places) > 1 else ""
        for meeting in _meetings(some):
            said.append(f"{meeting}{where}")
    inconclusive = sum(not pair.result.decided for pair in found)
    if inconclusive:
        said.append(f"{inconclusive} of {len(found)} comparisons are inconclusive with these seeds")
    return f"{'; '.join(said)}."


def _meetings(found: list[Pair]) -> list[str]:
    """Writes `A beats B and loses to C` for each system; the comparisons are on the same tasks."""
    # System -> whom; the inner dictionaries are ordered sets.
    wins: dict[str, dict[str, None]] = {}
    losses: dict[str, dict[str, None]] = {}
    for pair in found:
        if not pair.result.decided:
            continue
        if pair.result.gain.value > 0:
            wins.setdefault(pair.ours, {})[pair.theirs] = None
        elif pair.published:
            losses.setdefault(pair.ours, {})[pair.theirs] = None
        else:
            wins.setdefault(pair.theirs, {})[pair.ours] = None
    said = []
    for system in {**wins, **losses}:
        verbs = []
        if system in wins:
            verbs.append(f"beats {_and(wins[system])}")
        if system in losses:
            verbs.append(f"loses to {_and(losses[system])}")
        said.append(f"{system} {' and '.join(verbs)}")
    return said


def verdicts(report: Report, found: list[Pair], unpaired: Sequence[str]) -> Html:
    """Writes a sentence on each pair, ours first, and a table of the numbers.

    Args:
        report: the report.
        found: the comparisons that can be made.
        unpaired: a line for each that cannot.
    """
    if not found:
        return report.section("Verdicts", tag("p", alone(report)), bullets(unpaired) if unpaired else "")
    lists = []
    for whose, some in zip(("Between these runs", "Against published curves"), _apart(found), strict=True):
        if some:
            some.sort(key=lambda pair: _WORDS.index(pair.word))
            lines = bullets(map(_line, some))
            lists.append(details(f"{whose}: {_counts(some)}", lines, open_=len(some) <= _MANY))
    narrower = parts(report)
    tables = [details("All comparisons as a table", _pairs_table("Comparisons", found))]
    if narrower:
        by_part = _pairs_table("Comparisons by group and task", narrower)
        tables.append(details(f"By group and task: {_counts(narrower)}", by_part))
    explained = tag("p", _explained(report, len(found) + len(narrower)), class_="note")
    return report.section("Verdicts", *lists, *tables, explained)


def alone(report: Report) -> str:
    """Says why no two systems are compared."""
    systems = len(report.scores)
    if systems == 1:
        return "There is one system: nothing to compare it with."
    return f"None of the {systems} systems can be compared with another."


def _line(pair: Pair) -> Html:
    said = f"{pair.sentence}{pair.difference}"
    before, word, after = said.partition("is better" if pair.result.decided else "Inconclusive")
    return tag("span", before, tag("b", word, class_=pair.word), after)


def _counts(found: list[Pair]) -> str:
    """Counts verdicts: `2 better, 1 inconclusive`."""
    words = [pair.word for pair in found]
    return ", ".join(f"{words.count(word)} {word}" for word in _WORDS if word in words)


def _explained(report: Report, comparisons: int) -> str:
    confidence = f"{report.source.how.confidence:.0%}"
    said = (
        f"A system is called better if the {confidence} interval of the difference between the tasks' mean "
        "scores (in brackets) excludes 0 and the IQMs agree; tasks have equal weight. Otherwise the "
        "comparison is inconclusive: either system may be the better one. The interval is Welch's, which "
        "allows for few seeds; the interval of the probability is a stratified bootstrap's. "
        f"{EQUAL_CALLED_BETTER} The number of seeds that would tell takes the observed difference for the "
        f"true one; if it is, {POWER:.0%} of experiments with that many would find it. On published curves, "
        "where a few seeds often make a difference look larger than it is, "
        f"{ADVICE_CAME_TRUE[0]} did on one task and {ADVICE_CAME_TRUE[1]} over a group of tasks."
    )
    if comparisons <= _MANY:
        return said
    return (
        f"{said} {comparisons} comparisons, with those by group and task, are many: even among equal systems "
        "some would be called better."
    )


def _pairs_table(caption: str, found: list[Pair]) -> Html:
    rows = []
    for pair in found:
        who, where = f"{pair.ours} – {pair.theirs}", place(pair.result, group=pair.group)
        seeds = " / ".join(seeds_of(each, unit="") for each in pair.result.seeds)
        rows.append((who, where, seeds, _odds(pair.result), _gain(pair.result), pair.outcome))
    head = [
        "first – second",
        "where",
        "seeds",
        "probability that a run of the first beats one of the second",
        "difference of means",
        "verdict",
    ]
    return table(caption, head, rows)


def _odds(result: Comparison) -> str:
    """Writes the probability of improvement, with its interval if there are several seeds."""
    if [sum(each) for each in result.seeds] == [1, 1]:  # two runs have no probability
        return "–"
    value = fraction(result.probability.value)
    return value if result.fewest < 2 else f"{value} ({span(result.probability, fraction)})"


def _gain(result: Comparison) -> str:
    """Writes the difference of the means, with its interval if there are enough seeds."""
    value = number(result.gain.value)
    return value if result.too_few else f"{value} ({span(result.gain)})"


def _and(names: Iterable[str]) -> str:
    """Lists names: `A`, `A and B`, `A, B and C`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
