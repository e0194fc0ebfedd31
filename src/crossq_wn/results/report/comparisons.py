"""Who beats whom? A verdict on each pair of systems, and the finding that sums them up."""

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import NamedTuple

from crossq_wn.environments.groups import tasks_and_groups
from crossq_wn.errors import UserError, one_line
from crossq_wn.results.comparison import Comparison, compare, scopes
from crossq_wn.results.reading import Curves
from crossq_wn.results.report.html import Html, bullets, details, section, table, tag
from crossq_wn.results.report.study import Study
from crossq_wn.results.verdicts import EQUAL_CALLED_BETTER
from crossq_wn.results.wording import fraction, number, on, place, seeds_of, sentence, span

_WORDS = ("better", "inconclusive")
_MANY = 8  # comparisons that are read at once


class Pair(NamedTuple):
    """Two systems, one at least of our own, compared on tasks whose scores may be averaged."""

    ours: str  # the short name, as everywhere on the page
    theirs: str
    published: bool  # the second
    result: Comparison
    group: str | None = None  # what its tasks are called together

    @property
    def sentence(self) -> str:
        """The verdict and its numbers."""
        return sentence(self.ours, self.theirs, self.result)

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


def pairs(study: Study) -> tuple[list[Pair], list[str]]:
    """Every comparison that can be made, and what keeps the others from being made."""
    found, notes = [], []
    for ours, theirs in _couples(study):
        mine, other = study.scores[ours], study.scores[theirs]
        first, second = study.names[ours], study.names[theirs]
        for tasks in scopes([task for task in mine if task in other]):
            try:
                results = _compare(mine, other, tasks, study.source.confidence)
            except UserError as error:
                on = ", ".join(tasks)
                notes.append(f"{first} and {second} are not compared on {on}: {one_line(error)}")
            else:
                published = theirs in study.source.published
                found += [Pair(first, second, published, each) for each in results]
    return found, notes


def parts(study: Study) -> list[Pair]:
    """The comparisons of many tasks at once, on each of the paper's groups and on each task."""
    found = []
    for ours, theirs in _couples(study):
        mine, other = study.scores[ours], study.scores[theirs]
        for whole in scopes([task for task in mine if task in other]):
            for group, tasks in _narrower(whole):
                with contextlib.suppress(UserError):  # as `pairs` says
                    some = {task: mine[task] for task in tasks}
                    result = compare(some, other, confidence=study.source.confidence)
                    published = theirs in study.source.published
                    found.append(Pair(study.names[ours], study.names[theirs], published, result, group))
    return found


def _narrower(whole: tuple[str, ...]) -> Iterator[tuple[str | None, tuple[str, ...]]]:
    """The groups of several tasks that are not all of these, by name, and then each task, if not alone."""
    known = tasks_and_groups(whole).items()
    yield from ((name, tasks) for name, tasks in known if 1 < len(tasks) < len(whole))
    yield from ((None, (task,)) for task in whole if len(whole) > 1)


def _couples(study: Study) -> Iterator[tuple[str, str]]:
    """Two systems each, the first of our own."""
    for ours, theirs in combinations(study.scores, 2):
        if ours not in study.source.published:
            yield ours, theirs


def _compare(
    ours: dict[str, Curves], theirs: dict[str, Curves], tasks: tuple[str, ...], confidence: float
) -> list[Comparison]:
    """On all tasks at once; on each of them if they have no frame in common. Raises UserError if none has."""
    try:
        return [compare({task: ours[task] for task in tasks}, theirs, confidence=confidence)]
    except UserError:
        found = []
        for task in tasks:
            with contextlib.suppress(UserError):
                found.append(compare({task: ours[task]}, theirs, confidence=confidence))
        if not found:
            raise
        return found


def finding(found: list[Pair]) -> str:
    """What to remember: a sentence on our systems, and one on published ones."""
    inner = [pair for pair in found if not pair.published]
    outer = [pair for pair in found if pair.published]
    said = [_decided(inner)] if inner else []
    return " ".join([*said, f"Against published curves: {_decided(outer)}"] if outer else said)


def _decided(found: list[Pair]) -> str:
    """Who won against whom; of published systems, from ours' point of view."""
    if len(found) == 1:
        return found[0].sentence
    places: dict[tuple[str, ...], list[Pair]] = defaultdict(list)
    for pair in found:
        places[pair.result.tasks].append(pair)
    said = [
        sentence + (f" {on(tasks)}" if len(places) > 1 else "")
        for tasks, some in places.items()
        for sentence in _meetings(some)
    ]
    if count := sum(not pair.result.decided for pair in found):
        said.append(f"{count} of {len(found)} comparisons are inconclusive with these seeds")
    return f"{'; '.join(said)}."


def _meetings(found: list[Pair]) -> list[str]:
    """`A beats B and loses to C`, for each system, of comparisons in one place."""
    wins: dict[str, dict[str, None]] = defaultdict(dict)
    losses: dict[str, dict[str, None]] = defaultdict(dict)
    for pair in found:
        if pair.result.decided and pair.result.gain.value > 0:
            wins[pair.ours][pair.theirs] = None
        elif pair.result.decided and pair.published:
            losses[pair.ours][pair.theirs] = None
        elif pair.result.decided:
            wins[pair.theirs][pair.ours] = None
    return [
        f"{system} "
        + " and ".join(
            f"{verb} {_and(others[system])}"
            for verb, others in (("beats", wins), ("loses to", losses))
            if system in others
        )
        for system in {**wins, **losses}
    ]


def verdicts(study: Study, found: list[Pair]) -> Html:
    """A sentence on each pair, ours first, and the numbers in a table."""
    if not found:
        return section("Verdicts", tag("p", "There is one system: nothing to compare it with."))
    lists = []
    for published in (False, True):
        some = [pair for pair in found if pair.published == published]
        lines = [
            tag("span", tag("b", pair.word, class_=pair.word), " ", pair.sentence)
            for word in _WORDS
            for pair in some
            if pair.word == word
        ]
        whose = "Against published curves" if published else "Between these runs"
        if lines:
            lists.append(details(f"{whose}: {_counts(some)}", bullets(lines), open_=len(lines) <= _MANY))
    narrower = parts(study)
    tables = [details("All comparisons as a table", _pairs_table("Comparisons", found))]
    if narrower:
        tables.append(
            details(
                f"By group and task: {_counts(narrower)}",
                _pairs_table("Comparisons by group and task", narrower),
            )
        )
    explained = tag("p", _explained(study, len(found) + len(narrower)), class_="note")
    return section("Verdicts", *lists, *tables, explained)


def _counts(found: list[Pair]) -> str:
    """`2 better, 1 inconclusive`."""
    return ", ".join(f"{n} {word}" for word in _WORDS if (n := sum(p.word == word for p in found)))


def _explained(study: Study, comparisons: int) -> str:
    confidence = f"{study.source.confidence:.0%}"
    said = (
        f"A system is called better if the {confidence} interval of the difference between the tasks' mean "
        "scores, which is in brackets, excludes 0 and the IQMs agree; otherwise the comparison is "
        "inconclusive, and either system may be the better one. The interval is Welch's and allows for few "
        f"seeds; that of the probability is the stratified bootstrap's. {EQUAL_CALLED_BETTER} How many seeds "
        "would tell takes the observed difference for the true one; with so many, about half of the "
        "experiments would."
    )
    if comparisons <= _MANY:
        return said
    return (
        f"{said} {comparisons} comparisons, with those by group and task, are many: even of equal systems, "
        "some would be called better."
    )


def _pairs_table(caption: str, found: list[Pair]) -> Html:
    rows = [
        (
            f"{pair.ours} – {pair.theirs}",
            place(pair.result, group=pair.group),
            " / ".join(seeds_of(seeds, unit="") for seeds in pair.result.seeds),
            _odds(pair.result),
            _gain(pair.result),
            pair.outcome,
        )
        for pair in found
    ]
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
    """The probability of improvement and its interval, which one seed does not have."""
    value = fraction(result.probability.value)
    return value if result.fewest < 2 else f"{value} ({span(result.probability, fraction)})"


def _gain(result: Comparison) -> str:
    """The difference of the means and its interval, which too few seeds do not have."""
    value = number(result.gain.value)
    return value if result.too_few else f"{value} ({span(result.gain)})"


def _and(names: Iterable[str]) -> str:
    """`A`, `A and B`, `A, B and C`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
