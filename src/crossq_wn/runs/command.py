"""The command line that means a configuration."""

from crossq_wn.algorithms.settings import without_effect
from crossq_wn.errors import words
from crossq_wn.runs.config import RunConfig
from crossq_wn.runs.options import OPTION_NAMES, unusual


def arguments(config: RunConfig) -> tuple[str, ...]:
    """The arguments of crossq-wn that train a run from its beginning, in the next free directory."""
    system = config.system
    chosen = {"algorithm": system.algorithm, "preset": system.preset, "utd": system.utd}
    # The system also lists options that change the agent, which follow with all others.
    chosen |= {name: value for name, value in system.changes if name not in OPTION_NAMES}
    idle = without_effect(config.settings) | without_effect(config.options)  # as earlier versions took
    found = ["train", config.task]
    for name, value in (chosen | unusual(config.options)).items():
        found += words(name, value) if name not in idle else []
    return tuple(found)
