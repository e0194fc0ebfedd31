"""SR-SAC (D'Oro et al. 2023): SAC at a replay ratio of 32, which full resets make possible.

A reset rebuilds actor, critics, targets, temperature and optimisers, and keeps the replay.
"""

from dataclasses import dataclass, replace

from crossq_wn.algorithms.actor_critic import Parts, compose
from crossq_wn.algorithms.passes import separate
from crossq_wn.algorithms.recipes import Preset, Recipe
from crossq_wn.algorithms.resets import on_grid
from crossq_wn.algorithms.settings import PolyakSettings, require_positive
from crossq_wn.nets.layers import dense, ensemble, mlp
from crossq_wn.nets.losses import scalar, squared_error
from crossq_wn.nets.optimisers import polyak
from crossq_wn.nets.policies import gaussian_head, squeezed
from crossq_wn.types import Spec


@dataclass(frozen=True, kw_only=True)
class SRSACSettings(PolyakSettings):
    """Hyperparameters of SR-SAC."""

    reset_updates: int = 2_560_000  # Table 1: every 80k decisions, at UTD 32
    """Gradient updates between resets."""
    reset_grid: int = 5_000  # its code: the interval between evaluations
    """Resets wait for the next agent decision divisible by this."""
    evaluate_before_reset: bool = True  # its code
    """Whether that decision's updates and evaluation come before the reset, or else after it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "reset_updates", "reset_grid")


def parts(spec: Spec, settings: SRSACSettings) -> Parts:
    """Plain networks as in SAC, with the authors' squeezed log standard deviation and schedule of resets."""
    return compose(
        spec,
        settings,
        actor=mlp(settings.actor_width, gaussian_head(spec.action_size)),
        policy=squeezed(-10.0, 2.0),
        critic=ensemble(mlp(settings.critic_width, dense(1)), settings.critics),
        q_pair=separate,
        target=polyak(settings.tau),
        readout=scalar(squared_error),
    )._replace(
        resets=on_grid(
            settings.reset_updates,
            settings.utd,
            settings.warmup,
            settings.reset_grid,
            after=settings.evaluate_before_reset,
        ),
    )


# Table 1, column SR-SAC, but the target entropy of the authors' code, -|A|/2, which is the shared default.
_DEFAULT = SRSACSettings(utd=32, warmup=10_000, critic_width=256)
PRESETS = {
    "default": Preset(_DEFAULT, "paper v2, Table 1, and the authors' code (D'Oro et al. 2023)"),
    "paper-v2": Preset(replace(_DEFAULT, target_entropy_scale=1.0), "paper v2, Table 1 as printed"),
}

SR_SAC = Recipe(summary="SAC at UTD 32 with full resets", settings=SRSACSettings, presets=PRESETS, make=parts)
