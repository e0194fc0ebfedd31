"""The contents of a run's JSON files, as records that type what is read, and a check against them."""

import re
from types import UnionType
from typing import (
    Any,
    Literal,
    NotRequired,
    Required,
    TypedDict,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from crossq_wn.errors import UserError

_MOST = 2**53  # larger whole numbers are not exact everywhere
_HUGE = 1e300  # larger numbers are taken for infinite
_LONG = 4096  # characters of a name


class Name(str):
    """A text for people, such as a task, a system or a version: printable, on one line."""


Plain = Name | int | float | bool | None


class FileName(str):
    """The name of a file of a checkpoint or of replay, without a folder."""


class SeedNumber(str):
    """A training seed as the key of a record."""


class Count(int):
    """A whole number of at least 0."""


_WORDS = {
    int: "a whole number",
    Count: "a whole number from 0 on",
    float: "a finite number",
    str: "a text",
    Name: "a text of printable letters",
    FileName: "the name of a file of ours",
    SeedNumber: "the number of a seed",
    bool: "true or false",
}
_LEAST = {int: -_MOST, Count: 0}
_PATTERNS = {
    FileName: r"(seed-[0-9]{1,10}(-[0-9]+-[0-9]+)?|prefill-[0-9]+)\.safetensors",
    SeedNumber: r"0|[1-9][0-9]{0,9}",
}


class SystemEntry(TypedDict):
    """A system in config.json."""

    algorithm: Name
    preset: Name
    utd: Count | None
    changes: dict[str, Plain | list[Plain]]


class ConfigFile(TypedDict):
    """The contents of config.json in the current schema; options and settings check themselves."""

    task: Name
    metric: Literal["return", "success_rate"]
    system: SystemEntry
    action_repeat: Count
    episode_frames: Count | None
    discount: float
    options: dict[str, Plain | list[Plain]]
    settings: dict[str, Plain | list[Plain]]
    prefilled: NotRequired[list["SourceEntry"]]  # earlier versions had none
    schema: int
    sha256: NotRequired[str]


class SourceEntry(TypedDict):
    """A source of recorded transitions in config.json."""

    name: Name
    kind: Name
    sha256: Name
    rows: Count


class ManifestFile(TypedDict, total=False):
    """The known contents of a run's manifest.json; `suite` checks itself."""

    schema: int
    commands: list[list[str]]
    python: str
    versions: dict[str, Name | None]
    device: dict[str, Plain]
    system: str
    protocol: dict[str, Plain]
    protocol_sha256: str
    executable: str
    suite: "SuiteEntry"
    earlier_versions: list[dict[str, str | None]]
    earlier_protocols: list[dict[str, Plain]]
    lost_replay: list[dict[str, int]]
    logs: dict[str, "Position"]  # by file name, when training ended
    sha256: str


class SuiteEntry(TypedDict, total=False):
    """A suite from outside this package, as `Suite.description` returns it."""

    name: Required[Name]
    title: Required[Name]
    panel: Required[Name]
    tasks: Required[dict[str, Name]]
    groups: Required[list[list[Name | Count | list[Name] | None]]]
    module: Required[Name]
    metric: Literal["return", "success_rate"]
    scale: float
    bounded: bool
    action_repeat: Count
    episode_frames: Count | None
    discount: float
    packages: list[Name]
    install: Name
    extra: Name
    own_names: Name
    opengl: list[Name]


class Position(TypedDict):
    """Where a log ended, in bytes, with the checksum up to there; `text` is the content of a `kept` table."""

    size: Count
    sha256: str | None
    text: NotRequired[str]


class FailureEntry(TypedDict):
    """A seed that stopped."""

    reason: str
    good: Count | None


class InterfaceEntry(TypedDict, total=False):
    """An environment as a policy sees it; see `environments.interface.describe`."""

    observation_size: Required[Count]
    observation: list[list[list[str | int]]]
    action_low: Required[list[Any] | float]  # a number where actions have no axis
    action_high: Required[list[Any] | float]
    action_dtype: Literal[
        "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
        "uint64", "bool",
    ]  # fmt: skip


class Common(TypedDict):
    """The values that all seeds of a checkpoint share."""

    decisions: Count
    updates: Count
    failed: dict[SeedNumber, FailureEntry]
    logs: list[list[Position | Count]]
    interface: InterfaceEntry
    config: NotRequired[dict[str, Any]]
    streams: NotRequired[dict[str, Any]]


class SegmentEntry(TypedDict):
    """A file of replay."""

    file: FileName
    first: Count
    last: Count
    sha256: str


class ReplayEntry(TypedDict):
    """A seed's replay."""

    end: Count
    segments: list[SegmentEntry]
    pinned: NotRequired[SegmentEntry]  # the rows behind the ring


class SeedEntry(TypedDict):
    """A seed in a checkpoint; `plain` is what its environments and generators carry."""

    file: FileName
    sha256: str
    plain: dict[str, Any]
    replay: ReplayEntry


class CheckpointBody(TypedDict):
    """The contents of a checkpoint's manifest.json, without its checksum."""

    schema: Count
    frames: Count
    common: dict[str, Any]
    seeds: dict[SeedNumber, SeedEntry]


class PlainState(TypedDict):
    """The state of a seed besides its learner, replay and tensors."""

    warmup: dict[str, Any]
    sampling: dict[str, Any]
    observation: Any
    episodes: Count
    last_episode: dict[str, int | float]
    evaluation: float | None
    resets: Count
    priorities: NotRequired[dict[str, Any]]  # of replay, where samples are drawn by them
    statistics: NotRequired[dict[str, Any]]
    environment: dict[str, Any] | None
    evaluation_environment: dict[str, Any] | None


def check(value: Any, kind: Any, where: str) -> None:
    """Checks that a JSON value is of a type.

    Args:
        value: as `json` returns it.
        kind: a record of this file, a type, or a union, `list[...]` or `dict[..., ...]` of them.
        where: the name of the value, such as `system.utd`.

    Raises:
        UserError: it is not; the message names the field and says what it must be.
    """
    if kind is Any:
        return
    if is_typeddict(kind):
        _check_record(value, kind, where)
    elif get_origin(kind) is dict and isinstance(value, dict):
        key, content = get_args(kind)
        _check_items(value, key, content, where)
    elif get_origin(kind) is list and isinstance(value, list):
        for i, item in enumerate(value):
            check(item, get_args(kind)[0], f"{where}[{i}]")
    elif get_origin(kind) in (Union, UnionType):
        _check_union(value, kind, where)
    else:
        _require(_is_of(value, kind), value, _described(kind), where)


def _check_items(value: dict[str, Any], key: Any, content: Any, where: str) -> None:
    key = Name if key is str else key
    for name, item in value.items():
        _require(_is_text(name, key), name, _described(key), f"a key of {where}")
        check(item, content, f"{where}.{name}")


def _check_record(value: Any, kind: Any, where: str) -> None:
    _require(isinstance(value, dict), value, "a record", where)
    prefix = f"{where}." if where else ""
    hints = get_type_hints(kind)
    for name in value:
        if name not in hints:
            raise UserError(f"{prefix}{_shown(name)} is a field that is not known")
    for name, item in hints.items():
        if name in value:
            check(value[name], item, f"{prefix}{name}")
        elif name in kind.__required_keys__:
            raise UserError(f"{prefix}{name} is missing")


def _check_union(value: Any, kind: Any, where: str) -> None:
    structured = [each for each in get_args(kind) if is_typeddict(each) or get_origin(each) in (dict, list)]
    for each in structured:  # a union has at most one list and one record
        if isinstance(value, list if get_origin(each) is list else dict):
            check(value, each, where)
            return
    simple = [each for each in get_args(kind) if each not in structured]
    wanted = " or ".join(map(_described, get_args(kind)))
    _require(any(_is_of(value, each) for each in simple), value, wanted, where)


def _is_of(value: Any, kind: Any) -> bool:
    if kind is float:
        return type(value) in (int, float) and abs(value) < _HUGE  # not NaN either
    if kind in _LEAST:
        return type(value) is int and _LEAST[kind] <= value <= _MOST
    if get_origin(kind) is Literal or kind is Name or kind in _PATTERNS:
        return isinstance(value, str) and _is_text(value, kind)
    return get_origin(kind) is None and isinstance(value, kind)


def _is_text(value: str, kind: Any) -> bool:
    if kind is Name:
        return value.isprintable() and len(value) <= _LONG
    if kind in _PATTERNS:
        return re.fullmatch(_PATTERNS[kind], value) is not None
    return value in get_args(kind)


def _require(valid: bool, value: Any, wanted: str, where: str) -> None:
    if not valid:
        raise UserError(f"{where or 'all of it'} is {_shown(value)}: it must be {wanted}")


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) > 10**30:
        return "a huge number"
    text = repr(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
    return text if len(text) < 80 else f"{text[:80]}..."


def _described(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    if is_typeddict(kind) or get_origin(kind) is dict:
        return "a record"
    if get_origin(kind) is list:
        return "a list"
    return _WORDS.get(kind, "null")
