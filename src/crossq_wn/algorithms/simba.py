"""SimBa (Lee et al. 2025): a pre-layer-norm residual encoder behind running observation statistics.

Encoder: dense, N times x + dense(relu(dense(layer_norm(x)))) with fourfold expansion, layer norm. One critic
suffices on tasks that do not end early. Update order: actor, temperature, critic, target.
"""

from dataclasses import dataclass

from crossq_wn.algorithms.actor_critic import actor_first, separate
from crossq_wn.algorithms.assemble import assemble
from crossq_wn.algorithms.normalisers import normalise_observations
from crossq_wn.algorithms.settings import PolyakSettings, require, require_positive
from crossq_wn.nets.layers import (
    Layer,
    dense,
    ensemble,
    he_normal,
    layer_norm,
    orthogonal,
    relu,
    residual,
    serial,
)
from crossq_wn.nets.losses import scalar, squared_error
from crossq_wn.nets.optimisers import polyak
from crossq_wn.nets.policies import gaussian_head, squeezed
from crossq_wn.types import Algorithm


@dataclass(frozen=True, kw_only=True)
class SimBaSettings(PolyakSettings):
    """Hyperparameters of SimBa."""

    actor_blocks: int
    """Residual blocks of the actor."""
    critic_blocks: int
    """Residual blocks of each critic."""
    weight_decay: float
    """AdamW decay of all parameters of actor and critics."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "actor_blocks", "critic_blocks")
        require(self, "weight_decay", self.weight_decay >= 0, "0 or above")


def simba(observation_size: int, action_size: int, discount: float, settings: SimBaSettings) -> Algorithm:
    """Soft actor-critic with SimBa's networks."""
    actor = _encoder(settings.actor_width, settings.actor_blocks, gaussian_head(action_size, 1.0, 1.0))
    member = _encoder(settings.critic_width, settings.critic_blocks, dense(1, orthogonal(1.0)))
    algorithm = assemble(
        settings,
        observation_size,
        action_size,
        discount,
        actor=actor,
        policy=squeezed(-10.0, 2.0),
        critic=ensemble(member, settings.critics),
        q_pair=separate,
        target=polyak(settings.tau),
        readout=scalar(squared_error),
        actor_weight_decay=settings.weight_decay,
        critic_weight_decay=settings.weight_decay,
        order=actor_first,
    )
    return normalise_observations(algorithm, observation_size)


def _encoder(width: int, blocks: int, head: Layer) -> Layer:
    def block() -> Layer:
        return residual(layer_norm(), dense(4 * width, he_normal), relu(), dense(width, he_normal))

    return serial(dense(width, orthogonal(1.0)), *(block() for _ in range(blocks)), layer_norm(), head)
