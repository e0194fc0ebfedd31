"""The options of a run: everything that the user chooses besides task, algorithm and hyperparameters."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from crossq_wn.algorithms.settings import Condition, require, require_positive, require_types
from crossq_wn.errors import option
from crossq_wn.machine import expanded

MOST_SEEDS = 1_000  # in one process
MOST_HERTZ = 1_000
MOST_FRAMES_STACKED = 100
Precision = Literal["float32", "tensorfloat32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Every option of a run.

    The command line, the Python functions and config.json take names, types, defaults and help texts from
    here.
    """

    frames: int = 1_000_000
    """Environment frames to train per seed; the paper uses 1,000,000, and 200,000 on easier tasks."""
    seeds: tuple[int, ...] = field(default=(0,), metadata={"ranges": True})
    """Training seeds, such as 0,1,2 or 0-9. They train side by side, each as if it were alone."""
    episode_frames: int | None = None
    """Time limit of an episode in environment frames; by default that of the task's suite."""
    terminations: bool = True
    """End an episode when its task terminates; otherwise it continues to the time limit."""
    eval_every: int = 25_000
    """Environment frames between evaluations; a shorter run has one before training and one at the end."""
    eval_episodes: int = 5
    """Episodes per evaluation with the deterministic policy; more make the scores less noisy."""
    checkpoint_every: int = 25_000
    """Environment frames between checkpoints: at most this much training is repeated after a crash."""
    log_every: int = 1_000
    """Environment frames between rows of metrics.csv; lower it to see training in finer detail."""
    video: bool = True
    """Record a video of the trained policy at the end; turn it off where nothing can render."""
    tensorboard: bool = True
    """Write TensorBoard event files; turn them off to save disk space in large sweeps."""
    wandb: str | None = None
    """A Weights & Biases project to log to as well; nothing is sent unless this is given."""
    diagnostics: bool = True
    """Log norms, effective learning rates, dead neurons and the like; turn them off to save some time."""
    q_bias: bool = False
    """Also measure the critics' bias at every evaluation, each time for some 2,500 more agent decisions."""
    real_time: float | None = None
    """Learn at a fixed control rate, in decisions per second, with one environment: that of a robot."""
    overlap: bool = False
    """Step the environments while gradient updates run: faster, but updates miss the newest transition."""
    prefill: tuple[str, ...] = ()
    """Data to learn from besides the run's own: .npz or .parquet files, run directories, Minari data sets."""
    prefill_share: float | None = None
    """Share of each minibatch that comes from --prefill; by default that data is the first in replay."""
    frame_stack: int = 1
    """Observations that the agent is given at once: the newest, and those of the decisions before."""
    normalise_observations: bool = False
    """Bring observations to mean 0 and variance 1 for the networks, by running statistics of training."""
    matmul_precision: Precision = "float32"
    """Precision of matrix products on accelerators; lower ones are faster. CPUs always use float32."""

    def __post_init__(self) -> None:
        if isinstance(self.seeds, Sequence) and not isinstance(self.seeds, str):
            object.__setattr__(self, "seeds", tuple(self.seeds))  # Python users write lists and ranges
        object.__setattr__(self, "prefill", _names(self.prefill))
        several = isinstance(self.seeds, tuple)
        require(self, "seeds", several, "several numbers, such as [3] for seed 3 or range(3) for three seeds")
        require_types(self)
        require_positive(self, "frames", "eval_episodes", "checkpoint_every", "log_every")
        require(self, "episode_frames", self.episode_frames is None or self.episode_frames >= 1, "at least 1")
        share = self.prefill_share
        require(self, "prefill_share", share is None or 0 < share < 1, "above 0 and below 1")
        require(
            self,
            "prefill_share",
            share is None or bool(self.prefill),
            f"left out without {option('prefill')}",
        )
        stacked = 1 <= self.frame_stack <= MOST_FRAMES_STACKED
        require(self, "frame_stack", stacked, f"a whole number from 1 to {MOST_FRAMES_STACKED}")
        require(self, "seeds", len(self.seeds) <= MOST_SEEDS, f"at most {MOST_SEEDS:,} of them")
        require(self, "seeds", len(self.seeds) > 0, "at least one seed, such as 0 or 0,1,2")
        require(self, "seeds", len(set(self.seeds)) == len(self.seeds), "without repetition")
        require(self, "seeds", all(0 <= s < 2**31 for s in self.seeds), "whole numbers from 0 to 2147483647")
        _require_one_robot(self)

    def conditions(self) -> list[Condition]:
        """What must hold for options to have an effect; those that are not named always have one."""
        robot = f"where {option('real_time')} is given, because the robot would have to move for it"
        never = f"with {option('eval_every', 0)}, as there are no evaluations then"
        return [
            Condition("video", not self.video or self.real_time is None, robot),
            Condition("eval_episodes", self.eval_every > 0, never),
        ]


def _names(prefill: object) -> object:
    """Names of files as texts; Python users write one, lists and paths."""
    if isinstance(prefill, str | Path):
        return (str(expanded(prefill)),)
    if isinstance(prefill, Sequence) and all(isinstance(each, str | Path) for each in prefill):
        return tuple(str(expanded(each)) for each in prefill)
    return prefill


OPTION_NAMES = tuple(option.name for option in fields(RunOptions))
# What these change is the agent: runs with and without them are compared as two systems.
AGENT_OPTIONS = ("frame_stack", "normalise_observations")


def _require_one_robot(options: RunOptions) -> None:
    """Checks the options that `real_time` rules out, or allows."""
    if options.real_time is None:
        where = f"at least 1; 0, for no evaluations, goes with {option('real_time')}"
        require(options, "eval_every", options.eval_every >= 1, where)
        return
    possible = 0 < options.real_time <= MOST_HERTZ
    require(options, "real_time", possible, f"decisions per second, above 0 and at most {MOST_HERTZ:,}")
    require(options, "eval_every", options.eval_every >= 0, "a whole number, or 0 for no evaluations")
    where = f"where {option('real_time')} is given"
    require(options, "seeds", len(options.seeds) == 1, f"a single one {where}, because there is one robot")
    for name in ("q_bias", "overlap"):
        require(options, name, not getattr(options, name), f"left out {where}")


USUAL = RunOptions()


def unusual(options: RunOptions) -> dict[str, Any]:
    """The options that are not as usual, by name."""
    return {name: value for name, value in vars(options).items() if value != getattr(USUAL, name)}
