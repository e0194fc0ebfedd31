"""Makes the configuration of a run of what a user chooses."""

import dataclasses
import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np

from crossq_wn.algorithms.settings import setting_names, without_effect
from crossq_wn.data.sources import describe_all as describe_sources
from crossq_wn.environments import TaskLike, lookup
from crossq_wn.errors import UserError, stated
from crossq_wn.runs.config import RunConfig, preset_settings, system_of
from crossq_wn.runs.familiar import meant
from crossq_wn.runs.options import OPTION_NAMES, RunOptions
from crossq_wn.training.algorithms import check_options

_OTHERS = (
    "task",
    "algorithm",
    "preset",
    "out",
    "reporter",
    "progress",
    "callbacks",
)  # further arguments of `train`


def _hint(name: str, names: Sequence[str]) -> str:
    if name in _OTHERS:
        return "it is an argument of `train`, and no part of a run's configuration"
    if hint := meant(name, [*names, *_OTHERS]):
        return hint
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    told = f"the nearest are {', '.join(near)}; " if near else ""
    return f"{told}`crossq-wn train --help` lists all"


def configure(
    task: TaskLike, *, algorithm: str = "crossq-wn", preset: str = "default", **choices: Any
) -> RunConfig:
    """Makes the configuration of a run. What is left out comes from the preset and from the task's suite.

    Args:
        task: see `training.api.train`.
        algorithm: see `training.api.train`.
        preset: see `training.api.train`.
        choices: run options (the fields of `RunOptions`; `seed=3` stands for `seeds=[3]`) and hyperparameters
            (the fields of the algorithm's settings) by name.

    Returns:
        The configuration, with every value resolved.

    Raises:
        UserError: a name is unknown, a value is outside its limits, or a choice has no effect beside the
            others; the message names the nearest name, the limits or what it must be left out with.
    """
    choices = _in_python(choices)
    usual = preset_settings(algorithm, preset)
    names = [*OPTION_NAMES, *setting_names(type(usual))]
    for name in choices:
        if name not in names:
            raise UserError(f"{algorithm} has no option or hyperparameter {name!r}: {_hint(name, names)}")
    options = RunOptions(**{name: value for name, value in choices.items() if name in OPTION_NAMES})
    changes = {name: value for name, value in choices.items() if name not in OPTION_NAMES}
    chosen = dataclasses.replace(usual, **changes).pinned()
    _require_effect(choices, without_effect(options))
    different = {name: value for name, value in changes.items() if value != getattr(usual, name)}
    _require_effect(different, without_effect(chosen))
    known = lookup(task)
    action_repeat = known.action_repeat if chosen.action_repeat is None else chosen.action_repeat
    settings = chosen.for_run(options.frames // action_repeat)
    prefilled = describe_sources(options.prefill)
    config = RunConfig(
        task=known.name,
        metric=known.metric,
        # Runs of any length are of one system.
        system=system_of(algorithm, preset, chosen, prefilled, options),
        action_repeat=action_repeat,
        episode_frames=known.episode_frames if options.episode_frames is None else options.episode_frames,
        discount=known.discount if settings.discount is None else settings.discount,
        options=options,
        settings=settings,
        prefilled=prefilled,
    )
    check_options(config)
    return config


def _require_effect(choices: dict[str, Any], idle: dict[str, str]) -> None:
    """Refuses what is chosen in vain, so that nobody believes in its effect."""
    for name, left_out in idle.items():
        if name in choices:
            raise UserError(f"{stated(name, choices[name])}: it must be left out {left_out}")


def _in_python(choices: dict[str, Any]) -> dict[str, Any]:
    """The choices without types of NumPy, and with `seeds` in the place of `seed`."""
    found = {name: plain(value) for name, value in choices.items()}
    return _one_seed(**found) if "seed" in found else found


def plain(value: Any) -> Any:
    """A number or an array of NumPy as Python has it."""
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if not isinstance(value, np.ndarray | np.generic):
        return value
    found = value.tolist()  # an array without axes is a number
    return tuple(found) if isinstance(found, list) else found


def _one_seed(*, seed: Any, **choices: Any) -> dict[str, Any]:
    """Replaces `seed` by `seeds`."""
    if "seeds" in choices:
        raise UserError(f"seed is {seed!r} and seeds is {choices['seeds']!r}: give one of them")
    return {"seeds": (seed,), **choices}
