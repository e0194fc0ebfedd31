"""DroQ (Hiraoka et al. 2022): two critics with dropout and layer norm in place of an ensemble, UTD 20.

Each hidden layer is dense, dropout, layer norm, rectifier. Dropout stays on in every pass through a critic,
target and policy update included, because it stands in for the ensemble's spread.
"""

from dataclasses import dataclass

from crossq_wn.algorithms.actor_critic import separate
from crossq_wn.algorithms.assemble import assemble, mlp
from crossq_wn.algorithms.settings import PolyakSettings, require
from crossq_wn.nets.layers import Layer, always_training, dense, dropout, ensemble, layer_norm, relu, serial
from crossq_wn.nets.losses import mean, scalar, squared_error
from crossq_wn.nets.optimisers import polyak
from crossq_wn.nets.policies import clipped, gaussian_head
from crossq_wn.types import Algorithm


@dataclass(frozen=True, kw_only=True)
class DroQSettings(PolyakSettings):
    """Hyperparameters of DroQ."""

    policy_delay: int = 1
    """The actor and the temperature change once per this many agent decisions."""
    dropout: float
    """Share of a critic's hidden units that is dropped."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")


def droq(observation_size: int, action_size: int, discount: float, settings: DroQSettings) -> Algorithm:
    """Dropout Q-functions; the policy follows the mean of the critics."""

    def hidden() -> tuple[Layer, ...]:
        return dense(settings.critic_width), always_training(dropout(settings.dropout)), layer_norm(), relu()

    return assemble(
        settings,
        observation_size,
        action_size,
        discount,
        actor=mlp(settings.actor_width, gaussian_head(action_size)),
        policy=clipped(-20.0, 2.0),
        critic=ensemble(serial(*hidden(), *hidden(), dense(1)), settings.critics),
        q_pair=separate,
        target=polyak(settings.tau),
        readout=scalar(squared_error),
        reduce=mean,
        policy_delay=settings.policy_delay * settings.utd,
    )
