"""The contents of a run's JSON files, as records that type what is read; `checks` enforces them."""

from typing import Any, Literal, NotRequired, Required, TypedDict


class Name(str):
    """A text for people, such as a task, a system or a version: printable, on one line."""


Plain = Name | int | float | bool | None


class FileName(str):
    """The name of a file of a checkpoint or of replay, without a folder."""


class SeedNumber(str):
    """A training seed as the key of a record."""


class Count(int):
    """A whole number of at least 0."""


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
    failed: dict["SeedNumber", "FailureEntry"]  # likewise
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
    good: Count | None  # environment frames of its last good state
    updates: NotRequired[Count | None]  # of that state, if this checkpoint has it
    unevaluated: NotRequired[bool]  # whether an evaluation is still to be made there


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


class BoundsEntry(TypedDict):
    """The bounds of flat observations; null where there are none."""

    low: list[float | None]
    high: list[float | None]


class Common(TypedDict):
    """The values that all seeds of a checkpoint share."""

    decisions: Count
    updates: Count
    failed: dict[SeedNumber, FailureEntry]
    logs: list[list[Position | Count]]
    interface: InterfaceEntry
    bounds: NotRequired[BoundsEntry | None]  # earlier versions kept none
    config: NotRequired[dict[str, Any]]
    streams: NotRequired[dict[str, Any]]
    unevaluated: NotRequired[dict[SeedNumber, FailureEntry]]  # why the evaluation at this checkpoint failed


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
    since: NotRequired[Count]  # the row of replay with the first decision after that state of the environment
    evaluation_environment: dict[str, Any] | None
