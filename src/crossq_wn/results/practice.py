"""How systems were trained and evaluated: what a reader must know beside their scores.

Equal environment frames are not equal effort: with an action repeat of 2 a system decides half as often,
larger minibatches and more gradient updates per frame cost more, and fewer evaluation episodes make noisier
scores.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from crossq_wn.algorithms import updates_per_decision
from crossq_wn.errors import UserError, option
from crossq_wn.results.records import CurveTable, Input, RunRecord
from crossq_wn.runs.protocol import Terms
from crossq_wn.runs.system import System

# What is reported, and its name for people.
FIELDS = {
    "action_repeat": "action repeat",
    "batch_size": "batch size",
    "updates_per_frame": "updates per frame",
    "eval_episodes": "evaluation episodes",
}

Practice = Mapping[str, tuple[float, ...]]  # by field: the values that a system's runs have; empty if unknown
Practices = dict[System, dict[str, Practice]]  # system -> task -> what is known


def practices(inputs: Iterable[Input]) -> Practices:
    """Reads how the systems in run directories and tables were trained and evaluated.

    Published tables say so where they have the columns `action_repeat`, `batch_size` and `eval_episodes`;
    the updates per frame follow from `updates_per_decision`, or else `utd`, and the action repeat.

    Args:
        inputs: what to read.

    Raises:
        UserError: a table cannot be read.
    """
    found: dict[tuple[System, str], dict[str, set[float]]] = {}
    for each in inputs:
        for system, task, known in _known(each):
            values = found.setdefault((system, task), {name: set() for name in FIELDS})
            for name, some in known.items():
                values[name] |= some
    result: Practices = {}
    for (system, task), values in found.items():
        result.setdefault(system, {})[task] = {name: tuple(sorted(some)) for name, some in values.items()}
    return result


class Timed(NamedTuple):
    """The published speed of a system on a task."""

    rates: tuple[float, ...]  # environment frames per second, of all seeds side by side
    hardware: str  # on which they were measured


def timed(inputs: Iterable[Input], warn: Callable[[str], None]) -> dict[System, dict[str, Timed]]:
    """Reads the speeds in published tables: their columns `frames_per_second` and `hardware`.

    Args:
        inputs: what to read; run directories have their own clocks.
        warn: called with a line on each system whose table gives a speed, but not on which hardware. It is
            left out, because nothing follows from such a number.

    Raises:
        UserError: a table cannot be read.
    """
    found: dict[System, dict[str, Timed]] = {}
    for each in inputs:
        if isinstance(each, RunRecord) or each.run is not None:
            continue
        for system, task in _owners(each):
            rates = set[float]().union(*map(_number, each.told(system, task, "frames_per_second")))
            hardware = ", ".join(filter(None, each.told(system, task, "hardware")))
            if rates and hardware:
                found.setdefault(system, {})[task] = Timed(tuple(sorted(rates)), hardware)
            elif rates:
                warn(f"{system.label}: no speed on {task}, since the table does not name the hardware")
    return found


def over(known: Mapping[str, Practice], tasks: Iterable[str]) -> Practice:
    """Joins what is known of a system on several tasks.

    Args:
        known: by task.
        tasks: those to join; unknown ones are ignored.
    """
    there = [known[task] for task in tasks if task in known]
    joined = {}
    for name in FIELDS:
        values: set[float] = set()
        for practice in there:
            values |= set(practice[name])
        joined[name] = tuple(sorted(values))
    return joined


def differing(beside: Sequence[Practice]) -> list[str]:
    """Returns the fields whose known values differ between systems that stand side by side."""
    return [name for name in FIELDS if len(_values(beside, name)) > 1]


def _values(beside: Sequence[Practice], name: str) -> set[tuple[float, ...]]:
    """Returns the values of one field for the systems whose value is known."""
    return {each[name] for each in beside if each[name]}


def shared(beside: Sequence[Practice]) -> str:
    """Says what systems that stand side by side have in common, and what is unknown for some of them."""
    same, unknown = _same(beside), []
    for name, title in FIELDS.items():
        if not all(each[name] for each in beside):
            unknown.append(title)
    said = []
    if same:
        where = "wherever known" if unknown else "for all"
        said.append(f"the same {where}: {', '.join(same)}")
    if unknown:
        said.append(f"unknown for some: {', '.join(unknown)}")
    return "; ".join(said)


def _same(beside: Sequence[Practice]) -> list[str]:
    """What is known of some of the systems, and the same for all of these."""
    found, differ = [], differing(beside)
    for name, title in FIELDS.items():
        known = _values(beside, name)
        if known and name not in differ:
            found.append(f"{title} {written(known.pop())}")
    return found


def contrast(one: Practice, other: Practice) -> tuple[str, str]:
    """Says in what two systems differ: `batch size 256` of the first, `batch size 128` of the second.

    Args:
        one: how the first was trained and evaluated.
        other: how the second was.

    Returns:
        A text on each; both are empty if nothing that is known differs.
    """
    names = differing([one, other])
    first = [f"{FIELDS[name]} {written(one[name])}" for name in names]
    second = [f"{FIELDS[name]} {written(other[name])}" for name in names]
    return ", ".join(first), ", ".join(second)


def written(values: Sequence[float]) -> str:
    """Writes the values of one field; a question mark if they are unknown."""
    return " or ".join(f"{value:.4g}" for value in values) if values else "?"


def _known(each: Input) -> list[tuple[System, str, dict[str, set[float]]]]:
    """Returns what an input says about each system and task in it."""
    if isinstance(each, RunRecord):
        identity = each.identity
        return [(identity.system, identity.task, _of_terms(each.terms))]
    if each.run is not None:
        known = _of_terms(each.run.terms)
        return [(system, task, known) for system, task in _owners(each)]
    return [(system, task, _of_table(each, system, task)) for system, task in _owners(each)]


def _owners(table: CurveTable) -> list[tuple[System, str]]:
    """Returns the systems and tasks of a table, each once."""
    return list(dict.fromkeys((system, task) for system, task, _ in table.contents))


def _of_terms(terms: Terms) -> dict[str, set[float]]:
    known: dict[str, set[float]] = {}
    for protocol in terms.protocols[:1]:  # the present one, if there is any
        for name in ("action_repeat", "eval_episodes"):
            known[name] = _number(protocol.get(name))
    known["batch_size"] = _number(terms.settings.get("batch_size"))
    name = "" if terms.system is None else terms.system.algorithm
    updates = {updates_per_decision(name, utd) for utd in _number(terms.settings.get("utd"))}
    return known | _pace(updates, known.get("action_repeat", set()))


def _of_table(table: CurveTable, system: System, task: str) -> dict[str, set[float]]:
    known: dict[str, set[float]] = {}
    for name in ("action_repeat", "batch_size", "eval_episodes"):
        known[name] = set[float]().union(*map(_number, table.told(system, task, name)))
    updates = set[float]().union(*map(_number, table.told(system, task, "updates_per_decision")))
    if not updates:
        updates = {updates_per_decision(system.algorithm, utd) for utd in _number(system.utd)}
    return known | _pace(updates, known["action_repeat"])


def _pace(updates: set[float], repeats: set[float]) -> dict[str, set[float]]:
    """Returns the gradient updates per environment frame: updates per decision over frames per decision."""
    return {"updates_per_frame": {each / repeat for each in updates for repeat in repeats if repeat}}


def _number(value: Any) -> set[float]:
    """Returns a set with the number, or an empty one if the value is not a number."""
    try:
        return {float(value)}
    except (TypeError, ValueError):
        return set()


def without_evaluations(run: Input) -> bool:
    """Whether this is a run that was trained with `eval_every` 0, as one in real time may be."""
    try:
        return isinstance(run, RunRecord) and bool(run.protocols[0].get("eval_every") == 0)
    except UserError:  # it cannot be read
        return False


def unevaluated(run: RunRecord) -> UserError:
    """The error for a run whose eval.csv has no evaluations."""
    if without_evaluations(run):
        told = f"it was trained without evaluations ({option('eval_every', 0)}): `crossq-wn plot {run.path}`"
        return UserError(f"{told} draws its training episodes, and `crossq-wn eval` evaluates it")
    if run.failed_early:
        causes = "; ".join(dict.fromkeys(entry["reason"] for entry in run.failed.values()))
        return UserError(f"it failed before its first evaluation{causes and f': {causes}'}")
    return UserError("it is not evaluated yet")


def unlogged(inputs: Iterable[Input]) -> UserError | None:
    """The error for runs of which none trained long enough for a row of metrics; None if one did.

    Args:
        inputs: runs; tables are not asked.
    """
    found = None
    for run in inputs:
        if not isinstance(run, RunRecord) or not (run.path / "metrics.csv").exists():
            continue
        if run.logged("frames"):
            return None
        found = found or run
    if found is None:
        return None
    every = option("log_every")
    return UserError(
        f"{found.path} has no row of metrics or timing: there is one every "
        f"{found.config.options.log_every:,} frames ({every}), and it did not train for that long: train "
        f"longer, or a new run with a smaller {every}"
    )
