"""Protocols: the conditions that must agree before runs may be compared, and how runs differ in them."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import Any, NamedTuple

from crossq_wn import files
from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.environments.suites import simulator_packages
from crossq_wn.errors import UserError, one_line, shown
from crossq_wn.files import MOST_JSON, RefusedError
from crossq_wn.runs import sources
from crossq_wn.runs.checks import check
from crossq_wn.runs.config import DAMAGED, read_json
from crossq_wn.runs.folders import walk
from crossq_wn.runs.migration import as_trained
from crossq_wn.runs.schema import ManifestFile
from crossq_wn.runs.seals import is_sound
from crossq_wn.runs.system import System

DECISIVE_OPTIONS = ("overlap", "matmul_precision")  # run options that change numbers, as settings do
_BEFORE = {"real_time": None}  # what holds where a protocol says nothing: only such runs name their rate
_BY_LENGTH = ("learning_rate_updates",)  # settings that follow from how long a run was to train


class Terms(NamedTuple):
    """The conditions under which a run was made, as far as its directory tells."""

    run: Path
    system: System | None  # None: unknown
    settings: Mapping[str, Any]  # hyperparameters and `DECISIVE_OPTIONS`; empty if unknown
    protocols: Sequence[Mapping[str, Any]]  # the latest, then those before resumptions; empty if unknown
    names: Mapping[str, str] = {}  # what the run calls values of its protocols: files, for checksums


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads a run's manifest.json.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        file = path / "manifest.json"
        content = files.read(file, MOST_JSON)
        values: dict[str, Any] = files.parsed(file, content)
        check(values, ManifestFile, "")
        if "sha256" in values and not is_sound(values, content):  # earlier versions wrote none
            raise UserError("it has been altered: its checksum differs")
    except (FileNotFoundError, RefusedError) as error:
        raise _unknown(path, (error.strerror or "") if isinstance(error, RefusedError) else "") from None
    except DAMAGED as error:  # UserError is among these
        raise _unknown(path, one_line(error)) from None
    return values


def protocols_of(manifest: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    """The protocols that a run was trained and evaluated under: the latest, then earlier ones.

    Args:
        manifest: what `read_manifest` returned.
        path: the run directory, for the message.

    Raises:
        UserError: the manifest does not hold them.
    """
    try:
        found = list(map(dict, (manifest["protocol"], *manifest.get("earlier_protocols", []))))
    except DAMAGED:
        raise _unknown(path) from None
    if not all(found):  # an empty protocol would agree with any other
        raise _unknown(path)
    return [_BEFORE | sources.NONE | each for each in found]


def _unknown(path: Path, why: str = "") -> UserError:
    return UserError(
        f"{path} has no readable manifest.json, so its protocol is unknown{f' ({why})' if why else ''}"
    )


def terms_of(path: Path, config: Mapping[str, Any] | None, manifest: Mapping[str, Any] | None) -> Terms:
    """The terms of a run.

    Args:
        path: the run directory.
        config: the contents of its config.json; None if that is missing or damaged.
        manifest: the contents of its manifest.json; None if that is missing or damaged.
    """
    system: System | None = None
    settings: dict[str, Any] = {}
    protocols: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    if config is not None:
        with contextlib.suppress(*DAMAGED):
            system = System.from_json(config["system"])
            options, settings = config["options"], _effective(system, config["settings"])
            for name in DECISIVE_OPTIONS:
                if name in options:  # older runs lack some
                    settings[name] = options[name]
            if prefilled := sources.from_json(config.get("prefilled", ())):
                names[sources.contents(prefilled)] = sources.told(prefilled)
    if manifest is not None:
        with contextlib.suppress(UserError):
            protocols = protocols_of(manifest, path)
    return Terms(path, system, settings, protocols, names)


def _effective(system: System, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a run was trained with."""
    known = ALGORITHMS.get(system.algorithm)  # a user's module is not imported to read a run
    return dict(settings) if known is None else as_trained(settings, known.settings)


def read_terms(paths: Iterable[Path]) -> list[Terms]:
    """Reads the terms of runs.

    Args:
        paths: run directories, folders of them, or eval.csv files in them; other files are passed over.
    """
    runs: dict[Path, None] = {}
    for path in paths:
        runs |= dict.fromkeys(_described(path))
    found = []
    for run in runs:
        config: dict[str, Any] | None = None
        manifest: dict[str, Any] | None = None
        with contextlib.suppress(UserError):
            config = read_json(run)
        with contextlib.suppress(UserError):
            manifest = read_manifest(run)
        found.append(terms_of(run, config, manifest))
    return found


def _described(path: Path) -> list[Path]:
    """The run directories below a folder, or the one that a file belongs to, damaged ones included."""
    if not path.is_dir():
        return [path.parent] if path.name == "eval.csv" and is_described(path.parent) else []
    folders = []
    for folder, names in walk(path):
        if "eval.csv" in names and is_described(Path(folder)):
            folders.append(Path(folder))
    return sorted(folders)


def is_described(folder: Path) -> bool:
    """Whether a folder is a run directory, even a damaged one."""
    return (folder / "config.json").exists() or (folder / "manifest.json").exists()


def conflicts(terms: Iterable[Terms]) -> list[str]:
    """Reasons not to compare runs: different protocols on a task, or different settings of a system.

    Args:
        terms: of the runs.

    Returns:
        A line per conflict.
    """
    compared = list(terms)
    if len(compared) < 2:
        return []  # with nothing to compare it to, it does not matter if a run changed its simulator
    lines = []
    for each in compared:
        if not each.protocols:
            lines.append(f"the protocol of {each.run} is unknown: it has no readable manifest.json")
    for line in protocol_conflicts(compared):
        lines.append(f"the protocols differ: {line}")
    for line in setting_conflicts(compared):
        lines.append(f"runs of the same system have different settings: {line}")
    return lines


def protocol_conflicts(terms: Iterable[Terms]) -> list[str]:
    """How runs of one task differ in protocol, a line per difference; without any, they may be compared.

    A run that was resumed under another simulator differs from itself.
    """
    compared, entries = list(terms), []
    for where, values in _histories(compared):
        entries.append((str(values.get("task")), where, values))
    return _differences(entries, _names(compared))


def simulator_conflicts(terms: Iterable[Terms]) -> list[str]:
    """How runs of any tasks differ in the versions of their simulators, a line per difference."""
    known = simulator_packages()
    entries = []
    for where, values in _histories(terms):
        versions = {name: value for name, value in values.items() if name in known}
        entries.append(("simulators", where, versions))
    return _differences(entries)


def alike(terms: Sequence[Terms]) -> list[list[int]]:
    """Sorts runs into groups, within each of which nothing conflicts.

    A run that conflicts with none on its own task joins the group whose protocol agrees most with its own.

    Args:
        terms: of the runs.

    Returns:
        Each group as indices into `terms`; the largest group first.
    """
    everyone = list(range(len(terms)))
    if not conflicts(terms):
        return [everyone] if everyone else []
    clashes: dict[int, set[int]] = {i: set() for i in everyone}
    for i, j in combinations(everyone, 2):
        if conflicts((terms[i], terms[j])):
            clashes[i].add(j)
            clashes[j].add(i)
    groups: list[list[int]] = []
    for i in sorted(everyone, key=lambda run: -len(clashes[run])):
        free = [group for group in groups if clashes[i].isdisjoint(group)]
        if free:
            max(free, key=lambda group: _agreement(terms[i], terms[group[0]])).append(i)
        else:
            groups.append([i])
    return sorted(map(sorted, groups), key=lambda group: (-len(group), group[0]))


def _agreement(one: Terms, other: Terms) -> int:
    """How many parts of two runs' present protocols are the same."""
    if not one.protocols or not other.protocols:
        return 0
    theirs = other.protocols[0]
    return sum(theirs.get(name) == value for name, value in one.protocols[0].items())


def distinctions(groups: Sequence[Sequence[Terms]]) -> list[str]:
    """Says of each group what sets it apart, such as `action_repeat 2, eval_episodes 5`.

    Args:
        groups: of runs, as `alike` sorts them.

    Returns:
        One text per group, with the parts in which runs of one task, or of one system, differ between groups.
    """
    differing, names = _differing(chain.from_iterable(groups)), _names(chain.from_iterable(groups))
    told = []
    for group in groups:
        parts = []
        for name in differing:
            values: dict[str, None] = {}  # the keys are an ordered set
            for each in group:
                for known in (*each.protocols[:1], each.settings):
                    if name in known:
                        values[_shown(known[name], names)] = None
            if values:
                parts.append(f"{name} {' or '.join(values)}")
        told.append(", ".join(parts) if parts else "unknown or changed on resumption")
    return told


def _differing(terms: Iterable[Terms]) -> list[str]:
    """The parts of protocols and settings that are not the same in all runs of a task or a system."""
    first: dict[tuple[str, str], Any] = {}
    differing: dict[str, None] = {}  # the keys are an ordered set
    for each in terms:
        known = [(str(values.get("task")), values) for values in each.protocols[:1]]
        if each.system:
            known.append((each.system.label, each.settings))
        for owner, values in known:
            for name, value in values.items():
                if first.setdefault((owner, name), value) != value:
                    differing[name] = None
    return list(differing)


def _histories(terms: Iterable[Terms]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each protocol of each run, with the run in words."""
    for each in terms:
        for i, values in enumerate(each.protocols):
            yield f"{each.run} before it was resumed" if i else f"{each.run}", values


def setting_conflicts(terms: Iterable[Terms]) -> list[str]:
    """How runs of one system differ in settings, a line per difference.

    A system is named by its changes from a preset, so its runs have equal settings unless the preset was
    changed between them.
    """
    entries: list[tuple[str, str, Mapping[str, Any]]] = []
    for each in terms:
        if each.system is None:
            continue
        settings = dict(each.settings)
        length = {name: settings.pop(name) for name in _BY_LENGTH if name in settings}
        task = str(each.protocols[0].get("task")) if each.protocols else ""
        entries.append((each.system.label, str(each.run), settings))
        entries.append((f"{each.system.label} on {task}", str(each.run), length))
    return _differences(entries)


def _names(terms: Iterable[Terms]) -> dict[str, str]:
    """What runs call values of their protocols; the first one's names count."""
    found: dict[str, str] = {}
    for each in terms:
        found = {**each.names, **found}
    return found


def _shown(value: Any, names: Mapping[str, str]) -> str:
    return shown(names.get(value, value) if isinstance(value, str) else value)


def _differences(
    entries: Iterable[tuple[str, str, Mapping[str, Any]]], names: Mapping[str, str] = {}
) -> list[str]:
    """Lists where values differ that should agree.

    Args:
        entries: a group whose values should agree, where an entry is from, and its values.
        names: what to call some of the values.

    Returns:
        A line per difference; entries that differ in the same way share one.
    """
    # A value that only some entries have is no difference: older versions recorded less.
    first: dict[tuple[str, str], tuple[str, Any]] = {}
    lines: dict[str, str] = {}
    for group, where, values in entries:
        differs: dict[str, Any] = {}
        told = []  # the same in words
        for name, value in values.items():
            other, usual = first.setdefault((group, name), (where, value))
            if value != usual:
                differs[name] = value
                told.append(
                    f"{name} is {_shown(usual, names)} in {other} and {_shown(value, names)} in {where}"
                )
        if told:
            # One line, of the first entry, for all entries that differ in the same way.
            lines.setdefault(f"{group}{differs}", f"{group}: {', '.join(told)}")
    return list(lines.values())
