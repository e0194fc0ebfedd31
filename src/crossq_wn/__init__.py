"""CrossQ + WN: sample-efficient off-policy reinforcement learning with batch and weight normalisation."""

from typing import TYPE_CHECKING, Any

from crossq_wn.errors import UserError, require_system

if TYPE_CHECKING:
    from crossq_wn.training.api import resume, train
    from crossq_wn.training.policy import load

__all__ = ["UserError", "load", "resume", "train"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Loads the functions on first use, so that `import crossq_wn.errors` loads nothing else."""
    if name in __all__:
        require_system()
    if name in ("train", "resume"):
        from crossq_wn.training import api

        return getattr(api, name)
    if name == "load":
        from crossq_wn.training import policy

        return policy.load
    raise AttributeError(f"module 'crossq_wn' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What Tab offers: also the functions that are not loaded yet."""
    return [*__all__, "__version__"]
