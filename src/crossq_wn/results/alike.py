"""Sorts runs into groups that may be compared with each other: one group per protocol."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from crossq_wn.errors import UserError, option
from crossq_wn.results.duplicates import once_each
from crossq_wn.results.records import Input, RunRecord
from crossq_wn.runs.protocol import Terms, alike, conflicts, distinctions

Warn = Callable[[str], None]


class Group(NamedTuple):
    """Runs and tables that may be compared with each other."""

    ours: tuple[Input, ...]
    theirs: tuple[Input, ...]  # given as a reference
    protocol: str  # what sets the group apart, such as `eval_episodes 5`; empty if it is the only one


def groups(
    ours: Sequence[Input],
    theirs: Sequence[Input],
    warn: Warn,
    *,
    force: bool = False,
    wanted: Sequence[str] = (),
    tell: Warn | None = None,
) -> list[Group]:
    """Sorts runs into groups of one protocol each, and tells what is not compared with what, and why.

    A group holds each seed of a system once. Tables that belong to no run have no protocol: those of `theirs`
    are in every group, those of `ours` in the first.

    Args:
        ours: complete runs, and tables.
        theirs: a reference for them.
        warn: called with a line for each conflict, and for each input that is left out.
        force: puts everything into one group, whatever the conflicts.
        wanted: the labels of the systems to compare, or their first words; empty compares all.
        tell: called instead of `warn` with the conflicts that `force` overrides.

    Returns:
        The groups that have inputs of `ours`, the largest first.

    Raises:
        UserError: `theirs` is not empty, and nothing in it may be compared with anything in `ours`.
    """
    compared = [each for each in ours if _is_wanted(each, wanted)]
    terms = _terms([*compared, *theirs])
    found = conflicts(list(terms.values()))
    if not found or force:
        for line in found:
            (tell or warn)(line)
        return [Group(tuple(once_each(ours, warn)), tuple(once_each(theirs, warn)), "")]
    made = _apart(compared, theirs, terms, warn)
    _explain(found, made, theirs, warn)
    return made if len(made) > 1 else [made[0]._replace(protocol="")]


def _apart(
    ours: Sequence[Input], theirs: Sequence[Input], terms: dict[RunRecord, Terms], warn: Warn
) -> list[Group]:
    """The groups of one protocol each that have inputs of `ours`."""
    runs, kinds = list(terms), list(terms.values())
    members = alike(kinds)
    groups_of_terms = []
    for group in members:
        groups_of_terms.append([kinds[i] for i in group])
    made: list[Group] = []
    for number, (group, name) in enumerate(zip(members, distinctions(groups_of_terms), strict=True)):
        together: set[RunRecord | None] = {runs[i] for i in group}
        others = [each for each in theirs if _run_of(each) in {*together, None}]
        if number == 0:
            # Tables that belong to no run are shown once, with the largest group.
            together.add(None)
        mine = [each for each in ours if _run_of(each) in together]
        if mine:
            made.append(Group(tuple(once_each(mine, warn)), tuple(once_each(others, warn)), name))
    return made


def _explain(found: Sequence[str], made: Sequence[Group], theirs: Sequence[Input], warn: Warn) -> None:
    """Tells of conflicts and of what is shown by itself; raises UserError if no reference is left."""
    if theirs and not any(group.theirs for group in made):
        *before, refusal = found
        for line in before:
            warn(line)
        raise UserError(f"{refusal}; {option('force', True)} compares the runs all the same")
    for line in (*found, *_summary(made)):
        warn(line)


def _is_wanted(each: Input, wanted: Sequence[str]) -> bool:
    """Says whether an input may hold a wanted system; tables may."""
    if not wanted or not isinstance(each, RunRecord) or each.system is None:
        return True
    return any(each.system.begins(want) for want in wanted)


def _run_of(each: Input) -> RunRecord | None:
    """Returns the run that an input is, or whose table it is."""
    return each if isinstance(each, RunRecord) else each.run


def _terms(inputs: Iterable[Input]) -> dict[RunRecord, Terms]:
    """Returns the terms of the runs that these inputs are or belong to."""
    found: dict[RunRecord, Terms] = {}
    for each in inputs:
        run = _run_of(each)
        if run is not None and run not in found:
            found[run] = run.terms
    return found


def _summary(made: Sequence[Group]) -> list[str]:
    """Says which groups are shown each by itself, if there are several."""
    if len(made) < 2:
        return []
    told = []
    for number, group in enumerate(made, 1):
        count = len(group.ours)
        told.append(f"protocol {number} has {group.protocol} ({count} {'run' if count == 1 else 'runs'})")
    return [
        "runs are compared within a protocol only, so that each of these is shown by itself: "
        f"{'; '.join(told)}; {option('force', True)} compares all of them"
    ]
