"""SAC (Haarnoja et al. 2018): plain two-layer networks, two Polyak target critics, their minimum."""

from crossq_wn.algorithms.actor_critic import separate
from crossq_wn.algorithms.assemble import assemble, mlp
from crossq_wn.algorithms.settings import PolyakSettings
from crossq_wn.nets.layers import dense, ensemble
from crossq_wn.nets.losses import scalar, squared_error
from crossq_wn.nets.optimisers import polyak
from crossq_wn.nets.policies import clipped, gaussian_head
from crossq_wn.types import Algorithm


def sac(observation_size: int, action_size: int, discount: float, settings: PolyakSettings) -> Algorithm:
    """Soft actor-critic as in jaxrl, the code base that the paper builds on."""
    return assemble(
        settings,
        observation_size,
        action_size,
        discount,
        actor=mlp(settings.actor_width, gaussian_head(action_size, mean_gain=1.0)),
        policy=clipped(-10.0, 2.0),
        critic=ensemble(mlp(settings.critic_width, dense(1)), settings.critics),
        q_pair=separate,
        target=polyak(settings.tau),
        readout=scalar(squared_error),
    )
