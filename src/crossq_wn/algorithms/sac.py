"""SAC (Haarnoja et al. 2018): plain two-layer networks, two Polyak target critics, their minimum."""

from dataclasses import dataclass

import optax

from crossq_wn.actor_critic import Parts, separate, soft_actor_critic
from crossq_wn.algorithms.settings import ActorCriticSettings, require
from crossq_wn.losses import scalar, squared_error
from crossq_wn.networks import Layer, dense, ensemble, relu, serial
from crossq_wn.optimisers import adamw, polyak
from crossq_wn.policies import gaussian_head, squashed_gaussian
from crossq_wn.types import Algorithm


@dataclass(frozen=True, kw_only=True)
class SACSettings(ActorCriticSettings):
    """Hyperparameters of SAC."""

    tau: float
    """Polyak rate of the target critics, per gradient update."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "tau", 0 <= self.tau <= 1, "in [0, 1]")


def sac(observation_size: int, action_size: int, discount: float, settings: SACSettings) -> Algorithm:
    """Soft actor-critic as in jaxrl, the code base that the paper builds on."""

    def mlp(width: int, head: Layer) -> Layer:
        return serial(dense(width), relu(), dense(width), relu(), head)

    head = gaussian_head(action_size, mean_gain=1.0)
    actor = mlp(settings.actor_width, head)
    critic = ensemble(mlp(settings.critic_width, dense(1)), settings.critics)
    parts = Parts(
        actor=actor,
        policy=squashed_gaussian(-10.0, 2.0),
        critic=critic,
        actor_optimiser=adamw(
            actor, settings.schedule(settings.actor_learning_rate), beta1=settings.adam_beta1
        ),
        critic_optimiser=adamw(
            critic, settings.schedule(settings.critic_learning_rate), beta1=settings.adam_beta1
        ),
        q_pair=separate,
        target=polyak(settings.tau),
        readout=scalar(squared_error),
        discount=discount,
        initial_temperature=settings.initial_temperature,
        temperature_optimiser=optax.adam(settings.temperature_learning_rate),
        target_entropy=-settings.target_entropy_scale * action_size,
        policy_delay=settings.policy_delay,
    )
    return soft_actor_critic(observation_size, action_size, parts)
