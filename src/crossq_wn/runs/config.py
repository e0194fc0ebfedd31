"""The configuration of a run: everything that decides its numbers, and what it records."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from crossq_wn.algorithms import ALGORITHMS, registered
from crossq_wn.algorithms.settings import Settings, require, require_types
from crossq_wn.errors import UserError, one_line

SCHEMA = 1


DAMAGED = (OSError, ValueError, KeyError, TypeError)  # what reading a damaged file raises


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a run's numbers, and what it records."""

    task: str
    metric: str  # what evaluation reports first: "return" or "success_rate"
    algorithm: str
    preset: str
    system: str  # what is being compared, as tables and figures name it
    seeds: tuple[int, ...]
    frames: int  # environment frames to train, over each seed
    action_repeat: int  # frames per decision
    episode_frames: int | None  # time limit in frames; None: the environment's own
    terminations: bool  # whether terminating tasks end the episode
    discount: float  # per decision
    eval_every: int  # environment frames between evaluations
    eval_episodes: int
    checkpoint_every: int  # environment frames between checkpoints
    log_every: int  # environment frames between rows of metrics
    video: bool
    tensorboard: bool
    wandb: str | None  # project name
    diagnostics: bool = True  # of the critic, in every row of metrics
    q_bias: bool = False  # measured at every evaluation
    overlap: bool = False  # environments step while gradient updates run
    matmul_precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"  # on accelerators
    settings: Settings

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("frames", "action_repeat", "eval_every", "eval_episodes", "checkpoint_every",
                     "log_every"):  # fmt: skip
            require(self, name, getattr(self, name) >= 1, "a whole number of at least 1")
        require(self, "episode_frames", self.episode_frames is None or self.episode_frames >= 1, "at least 1")
        require(self, "seeds", len(self.seeds) > 0, "at least one seed, such as 0 or 0,1,2")
        require(self, "seeds", len(set(self.seeds)) == len(self.seeds), "without repetition")
        require(self, "seeds", all(0 <= s < 2**31 for s in self.seeds), "whole numbers from 0 to 2147483647")
        require(self, "frames", self.frames >= self.action_repeat, "at least one decision's frames")

    @property
    def decisions(self) -> int:
        """Agent decisions to train, per seed."""
        return self.frames // self.action_repeat

    @property
    def episode_decisions(self) -> int | None:
        """Time limit in agent decisions; None: the environment's own."""
        return None if self.episode_frames is None else -(-self.episode_frames // self.action_repeat)

    @property
    def protocol(self) -> dict[str, Any]:
        """What must agree before two runs may be compared."""
        return {
            "task": self.task,
            "action_repeat": self.action_repeat,
            "episode_frames": self.episode_frames,
            "terminations": self.terminations,
            "discount": self.discount,
            "eval_every": self.eval_every,
            "eval_episodes": self.eval_episodes,
            "success_rule": "any frame of the episode",
        }

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"schema": SCHEMA, "seeds": list(self.seeds)}

    @staticmethod
    def from_json(values: dict[str, Any]) -> "RunConfig":
        """The inverse of `to_json`."""
        values = dict(values)
        values.pop("schema")
        kind = ALGORITHMS[registered(values["algorithm"])].settings
        settings = kind(**values.pop("settings"))
        return RunConfig(**{**values, "seeds": tuple(values["seeds"]), "settings": settings})


def read_config(path: Path) -> RunConfig:
    """A run's configuration. Raises UserError if there is none, or one of a newer version."""
    try:
        return RunConfig.from_json(read_json(path))
    except (KeyError, TypeError) as error:
        raise _altered(path / "config.json", error) from None


def read_names(path: Path) -> tuple[str, str]:
    """A run's system and task; of a run, too, whose settings this version does not know.

    Raises UserError if config.json does not say, or is of a newer version.
    """
    values = read_json(path)
    try:
        return str(values["system"]), str(values["task"])
    except KeyError as error:
        raise _altered(path / "config.json", error) from None


def read_json(path: Path) -> dict[str, Any]:
    """What config.json holds. Raises UserError if there is none, or one of a newer version."""
    try:
        values: dict[str, Any] = json.loads((path / "config.json").read_text())
        schema = int(values["schema"])
    except DAMAGED:
        raise UserError(
            f"{path} is not a run directory (no readable config.json): `crossq-wn list runs` names them"
        ) from None
    if schema > SCHEMA:
        raise UserError(
            f"{path} has run schema {schema}, this version reads up to {SCHEMA}: upgrade crossq-wn"
        )
    return values


def _altered(file: Path, error: Exception) -> UserError:
    return UserError(f"{file} has been altered: {one_line(error)}")


def extend(config: RunConfig, frames: int | None) -> RunConfig:
    """The same run to a new number of environment frames."""
    return config if frames is None else replace(config, frames=frames)
