"""The command line that means a configuration."""

from typing import Any

from crossq_wn.runs.config import RunConfig
from crossq_wn.runs.options import OPTION_NAMES, unusual


def arguments(config: RunConfig) -> tuple[str, ...]:
    """The arguments of crossq-wn that train a run from its beginning, in the next free directory."""
    system = config.system
    chosen = {"algorithm": system.algorithm, "preset": system.preset, "utd": system.utd}
    # The system also lists options that change the agent, which follow with all others.
    chosen |= {name: value for name, value in system.changes if name not in OPTION_NAMES}
    words = ["train", config.task]
    for name, value in (chosen | unusual(config.options)).items():
        words += _option(name, value)
    return tuple(words)


def _option(name: str, value: Any) -> list[str]:
    """An option or hyperparameter with its value."""
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag] if value else [f"--no-{flag[2:]}"]
    if not isinstance(value, tuple):
        return [flag, str(value)]
    if all(isinstance(each, int | float) for each in value):
        return [flag, ",".join(map(str, value))] if value else [flag]
    return [flag, *map(str, value)]
