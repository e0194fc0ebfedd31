"""SR-SAC (D'Oro et al. 2023): soft actor-critic at a replay ratio of 32, which full resets make bearable.

Resets rebuild actor, critics, targets, temperature and optimisers and keep the replay.
"""

from dataclasses import dataclass

from crossq_wn.algorithms.actor_critic import separate
from crossq_wn.algorithms.assemble import assemble, mlp
from crossq_wn.algorithms.resets import on_grid
from crossq_wn.algorithms.settings import PolyakSettings, require_positive
from crossq_wn.nets.layers import dense, ensemble
from crossq_wn.nets.losses import scalar, squared_error
from crossq_wn.nets.optimisers import polyak
from crossq_wn.nets.policies import gaussian_head, squeezed
from crossq_wn.types import Algorithm


@dataclass(frozen=True, kw_only=True)
class SRSACSettings(PolyakSettings):
    """Hyperparameters of SR-SAC."""

    reset_updates: int
    """A reset is due after so many gradient updates since the last."""
    reset_grid: int
    """It then happens at the next decision divisible by this, before its updates."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "reset_updates", "reset_grid")


def sr_sac(observation_size: int, action_size: int, discount: float, settings: SRSACSettings) -> Algorithm:
    """As in the authors' code: tanh-squeezed log standard deviation, resets on the evaluation grid."""
    algorithm = assemble(
        settings,
        observation_size,
        action_size,
        discount,
        actor=mlp(settings.actor_width, gaussian_head(action_size)),
        policy=squeezed(-10.0, 2.0),
        critic=ensemble(mlp(settings.critic_width, dense(1)), settings.critics),
        q_pair=separate,
        target=polyak(settings.tau),
        readout=scalar(squared_error),
    )
    schedule = on_grid(settings.reset_updates, settings.utd, settings.warmup, settings.reset_grid)
    return algorithm._replace(resets=schedule)
