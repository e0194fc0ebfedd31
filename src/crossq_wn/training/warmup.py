"""Whether a run is long enough to learn: in its warm-up actions are random, and nothing is updated."""

from collections.abc import Callable

from crossq_wn.errors import UserError, counted, option
from crossq_wn.runs.config import RunConfig


def require_learning(config: RunConfig) -> None:
    """Raises UserError for a run that would end within the warm-up of its preset.

    Who has set a warm-up of that length has asked for random actions alone.
    """
    warmup = config.settings.warmup
    if config.learns or "warmup" in dict(config.system.changes):
        return
    shorter, whole = max(1, config.decisions // 4), config.decisions + (config.decisions == warmup)
    raise UserError(
        f"{option('frames')} is {config.options.frames}: nothing would be learned, because {_all(config)} "
        f"fall into the warm-up of {warmup:,}, in which actions are random; train for more than "
        f"{warmup * config.action_repeat:,} frames or shorten the warm-up, as by "
        f"{option('warmup', shorter)} ({option('warmup', whole)} says that random actions are meant)"
    )


def tell_of_warmup(config: RunConfig, tell: Callable[[str], None]) -> None:
    """Tells that a run will end within its warm-up, if it will."""
    if not config.learns:
        tell(
            f"nothing is learned: {_all(config)} fall into the warm-up of {config.settings.warmup:,}, in "
            "which actions are random"
        )


def _all(config: RunConfig) -> str:
    return f"all {counted(config.decisions, 'agent decision')}"
