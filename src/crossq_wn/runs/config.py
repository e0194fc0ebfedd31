"""The configuration of a run, as stored in config.json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from crossq_wn import files
from crossq_wn.algorithms import loaded_recipe, recipe_of, updates_per_decision
from crossq_wn.algorithms.own_networks import NAMES as NETWORKS
from crossq_wn.algorithms.settings import (
    Settings,
    require,
    require_positive,
    require_types,
    setting_names,
    unloaded,
    values_of,
)
from crossq_wn.errors import UserError, nearest, one_line, option
from crossq_wn.files import MOST_JSON, RefusedError
from crossq_wn.runs import sources
from crossq_wn.runs.checks import check
from crossq_wn.runs.manifests import way_back
from crossq_wn.runs.migration import as_trained, migrate
from crossq_wn.runs.options import AGENT_OPTIONS, OPTION_NAMES, USUAL, RunOptions, unusual
from crossq_wn.runs.schema import ConfigFile, Count
from crossq_wn.runs.seals import is_sound
from crossq_wn.runs.sources import Source
from crossq_wn.runs.system import System

SCHEMA = 2
DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError)  # reading a damaged file raises these


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a run's numbers and what the run records."""

    task: str
    metric: str  # the metric that results are about: "return" or "success_rate"
    system: System
    action_repeat: int  # environment frames per agent decision
    episode_frames: int | None  # time limit in environment frames; None: the environment's own
    discount: float  # per agent decision
    options: RunOptions
    settings: Settings
    prefilled: tuple[Source, ...] = ()  # what `options.prefill` names, when the run was configured

    def __post_init__(self) -> None:
        require_types(self)
        self._check_prefill()
        require_positive(self, "action_repeat")
        enough = self.options.frames >= self.action_repeat
        require(self.options, "frames", enough, f"at least {self.action_repeat}, the frames of one decision")
        most = (2**31 - 1) // self.settings.utd * self.action_repeat  # updates are counted in 32 bits
        within = self.options.frames <= most
        require(
            self.options, "frames", within, f"at most {most} where {option('utd')} is {self.settings.utd}"
        )

    def _check_prefill(self) -> None:
        rows, own = self.prefilled_rows, self.settings.batch_size - self.pinned_samples
        if self.options.prefill_share is None:
            enough = self.settings.replay_size >= rows
            require(self.settings, "replay_size", enough, f"at least {rows}, the rows of {option('prefill')}")
        else:
            both = 0 < own < self.settings.batch_size
            size = self.settings.batch_size
            require(self.options, "prefill_share", both, f"a share that leaves both some of {size} samples")

    @property
    def prefilled_rows(self) -> int:
        """The rows of replay that the run begins with."""
        return sum(source.rows for source in self.prefilled)

    @property
    def pinned_samples(self) -> int:
        """The samples of each minibatch that come from these rows, which then stay apart; 0: they do not."""
        return round((self.options.prefill_share or 0) * self.settings.batch_size)

    @property
    def decisions(self) -> int:
        """The number of agent decisions to train, per seed."""
        return self.options.frames // self.action_repeat

    @property
    def learns(self) -> bool:
        """Whether any decision comes after the warm-up, so that gradient updates are made."""
        return self.decisions > self.settings.warmup

    @property
    def updates_per_decision(self) -> float:
        """The gradient updates per agent decision and seed after the warm-up, on average."""
        return updates_per_decision(self.system.algorithm, self.settings.utd)

    @property
    def trained_frames(self) -> int:
        """The environment frames per seed of all these decisions: `options.frames`, or slightly fewer."""
        return self.decisions * self.action_repeat

    @property
    def episode_decisions(self) -> int | None:
        """The time limit in agent decisions; None: the environment's own."""
        return None if self.episode_frames is None else -(-self.episode_frames // self.action_repeat)

    @property
    def protocol(self) -> dict[str, Any]:
        """The conditions that must agree before two runs may be compared."""
        paced = {} if self.options.real_time is None else {"real_time": self.options.real_time}
        return {
            "task": self.task,
            "action_repeat": self.action_repeat,
            "episode_frames": self.episode_frames,
            "terminations": self.options.terminations,
            "discount": self.discount,
            "eval_every": self.options.eval_every,
            "eval_episodes": self.options.eval_episodes,
            "success_rule": "any frame of the episode",
            **paced,
            **sources.in_protocol(self.prefilled, self.options.prefill_share),
        }

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain JSON values."""
        own = {"system": self.system.to_json(), "settings": values_of(self.settings), "schema": SCHEMA}
        return asdict(self) | own

    @staticmethod
    def from_json(values: dict[str, Any]) -> "RunConfig":
        """The inverse of `to_json`. Nothing is imported: see `with_algorithm` for a user's own algorithm."""
        values = {name: value for name, value in values.items() if name != "sha256"}
        del values["schema"]
        system = System.from_json(values["system"])
        recipe = loaded_recipe(system.algorithm)
        if recipe is None and ":" not in system.algorithm:
            recipe_of(system.algorithm)  # raises: it names the nearest
        settings = (
            unloaded(values["settings"]) if recipe is None else _of_kind(recipe.settings, values["settings"])
        )
        records = {
            "options": RunOptions(**values["options"]),
            "settings": settings,
            "prefilled": sources.from_json(values.get("prefilled", ())),
        }
        return RunConfig(**values | {"system": system} | records)


def with_algorithm(config: RunConfig) -> RunConfig:
    """The configuration with the settings of its algorithm's own kind; imports a user's module.

    Raises:
        UserError: the algorithm or one of its settings is unknown.
    """
    kind = recipe_of(config.system.algorithm).settings
    try:
        return replace(config, settings=_of_kind(kind, values_of(config.settings)))
    except (KeyError, TypeError) as error:
        raise UserError(f"the settings do not fit {config.system.algorithm}: {one_line(error)}") from None


def _of_kind(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    return kind(**as_trained(values, kind))


def extend(config: RunConfig, frames: int | None) -> RunConfig:
    """The same run with another total of environment frames per seed; with None, unchanged."""
    return config if frames is None else replace(config, options=replace(config.options, frames=frames))


def preset_settings(algorithm: str, preset: str) -> Settings:
    """The settings of a preset.

    Args:
        algorithm: its name.
        preset: the name of one of its presets.

    Raises:
        UserError: a name is unknown, or a hyperparameter of a user's algorithm has the name of a run option.
    """
    known = recipe_of(algorithm).presets
    if not isinstance(preset, str):
        raise UserError(f"{option('preset')} is {preset!r}: give one name, such as {next(iter(known))!r}")
    if preset not in known:
        raise UserError(
            f"{algorithm} has no preset {preset!r}: {nearest(preset, known)}choose from {', '.join(known)}"
        )
    settings = known[preset].settings
    for name in setting_names(type(settings)):
        if name in OPTION_NAMES:
            raise UserError(f"{algorithm} has a hyperparameter {name!r}, which is a run option: rename it")
    return settings


def system_of(
    algorithm: str,
    preset: str,
    settings: Settings,
    prefilled: Sequence[Source] = (),
    options: RunOptions = USUAL,
) -> System:
    """The system that an algorithm, a preset, the actual settings, options and data from elsewhere make.

    Its changes are the settings, other than the UTD ratio, that differ from the preset's, the options that
    change the agent, and that data.
    """
    usual = preset_settings(algorithm, preset)
    changes = []
    for name in setting_names(type(settings)):
        value = getattr(settings, name)
        if name != "utd" and value != getattr(usual, name):
            changes.append((name, value))
    chosen = unusual(options)
    changes += [(name, chosen[name]) for name in AGENT_OPTIONS if name in chosen]
    if prefilled:
        changes.append(("prefill", sources.told(prefilled)))
        share = options.prefill_share
        changes += [] if share is None else [("prefill_share", share)]
    return System(algorithm, settings.utd, preset, tuple(changes))


class Identity(NamedTuple):
    """The system, task and metric that a run's results belong to."""

    system: System
    task: str
    metric: str  # the metric that results are about: "return" or "success_rate"


def read_config(path: Path) -> RunConfig:
    """Reads a run's configuration.

    Raises:
        UserError: there is none, a newer version wrote it, or its algorithm or a setting is unknown.
    """
    return config_of(read_json(path), path)


def config_of(values: dict[str, Any], path: Path) -> RunConfig:
    """Makes a configuration of JSON values; raises as `read_config` does.

    Args:
        values: what `read_json` returned.
        path: the run directory, for messages.
    """
    try:
        return RunConfig.from_json(values)
    except DAMAGED as error:  # UserError is among these
        raise _altered(path, error) from None


def identity_of(values: dict[str, Any]) -> Identity:
    """A run's system, task and metric, even if its algorithm or its settings are unknown here.

    Args:
        values: what `read_json` returned.
    """
    return Identity(System.from_json(values["system"]), values["task"], values["metric"])


def read_json(path: Path) -> dict[str, Any]:
    """Reads config.json in the current schema, whichever schema it was written in.

    Raises:
        UserError: it is missing, damaged or altered, or a newer version wrote it.
    """
    values, content = load_whole(path)
    known = present(values, path)  # first, so that a newer schema is named and not called altered
    if "sha256" in values and not is_sound(values, content):  # earlier versions wrote none
        raise UserError(
            f"{path / 'config.json'} has been altered (its checksum differs): put it back as it was, or "
            f"let `crossq-wn resume {path}` restore it from a checkpoint"
        )
    if "sha256" not in values and values["schema"] == SCHEMA:
        _require_whole(known, path)
    return known


# Names that came after checksums, so that a config.json without a checksum may lack them.
_SINCE = (
    "return_statistics", "evaluate_before_reset", "n_step", "real_time", "layer_norm", "prefill",
    "prefill_share", "frame_stack", "normalise_observations", *NETWORKS,
)  # fmt: skip


def _require_whole(values: Mapping[str, Any], path: Path) -> None:
    """Raises UserError if a config.json without a checksum lacks what its version wrote into it."""
    recipe = loaded_recipe(values["system"]["algorithm"])
    settings = [*setting_names(Settings if recipe is None else recipe.settings)]
    for part, names in (("options", OPTION_NAMES), ("settings", settings)):
        for name in names:
            if name not in values[part] and name not in _SINCE:
                raise UserError(
                    f"{path / 'config.json'} lacks {part}.{name} and a checksum: put it back as it was, or "
                    f"let `crossq-wn resume {path}` restore it from a checkpoint"
                )


def load_json(path: Path) -> dict[str, Any]:
    """Reads config.json as it was written, checking only its schema number.

    Raises:
        UserError: it cannot be read.
    """
    return load_whole(path)[0]


def load_whole(path: Path) -> tuple[dict[str, Any], bytes]:
    """Reads config.json as `load_json` does; returns the content of the file too, for `is_sound`."""
    try:
        file = path / "config.json"
        content = files.read(file, MOST_JSON)
        values: dict[str, Any] = files.parsed(file, content)
        check(values["schema"], Count, "schema")
    except DAMAGED as error:
        why = f": it {error.strerror}" if isinstance(error, RefusedError) else ""
        what = f"is not a run directory (no readable config.json{why}): `crossq-wn list runs` names them"
        if back := way_back(path):
            what = f"has no readable config.json{why}{back}"
        raise UserError(f"{path} {what}") from None
    return values, content


def present(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """Converts a configuration to the current schema.

    Args:
        values: what `load_json` returned.
        path: the run directory, for messages.

    Raises:
        UserError: a newer version wrote it, or a part is missing.
    """
    if int(values["schema"]) > SCHEMA:
        raise UserError(
            f"{path} has run schema {values['schema']}, this version reads up to {SCHEMA}: upgrade crossq-wn"
        )
    try:
        migrated = migrate(values)
        check(migrated, ConfigFile, "")
    except DAMAGED as error:  # UserError is among these
        raise _altered(path, error) from None
    return migrated


def _altered(path: Path, error: Exception) -> UserError:
    what = "" if isinstance(error, UserError) else f" has been altered{way_back(path)}"
    return UserError(f"{path / 'config.json'}{what}: {one_line(error)}")
