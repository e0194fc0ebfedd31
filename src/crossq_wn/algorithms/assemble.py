"""How do the rows of Table 1 become a soft actor-critic? In one way for all of them."""

from collections.abc import Callable
from typing import Any

from crossq_wn.algorithms.actor_critic import Parts, QPair, soft_actor_critic
from crossq_wn.algorithms.settings import ActorCriticSettings
from crossq_wn.lazy import optax
from crossq_wn.nets.layers import Layer, dense, relu, serial
from crossq_wn.nets.losses import Readout
from crossq_wn.nets.optimisers import Optimiser, Target, adamw
from crossq_wn.nets.policies import Policy
from crossq_wn.types import Algorithm


def assemble(
    settings: ActorCriticSettings,
    observation_size: int,
    action_size: int,
    discount: float,
    *,
    actor: Layer,
    policy: Policy,
    critic: Layer,
    q_pair: QPair,
    target: Target,
    readout: Readout,
    actor_weight_decay: float = 0.0,
    critic_weight_decay: float = 0.0,
    build: Callable[[int, int, Parts], Algorithm] = soft_actor_critic,
    **others: Any,
) -> Algorithm:
    """Optimisers, temperature and delays from the settings, networks and rules from the caller.

    Args:
        build: makes the algorithm of the parts.
        others: fields of `Parts` that differ from their defaults.
    """

    def optimiser(layer: Layer, learning_rate: float, decay: float) -> Optimiser:
        return adamw(layer, settings.schedule(learning_rate), decay, settings.adam_beta1)

    parts = Parts(
        actor=actor,
        policy=policy,
        critic=critic,
        actor_optimiser=optimiser(actor, settings.actor_learning_rate, actor_weight_decay),
        critic_optimiser=optimiser(critic, settings.critic_learning_rate, critic_weight_decay),
        q_pair=q_pair,
        target=target,
        readout=readout,
        discount=discount,
        initial_temperature=settings.initial_temperature,
        temperature_optimiser=optax.adam(settings.schedule(settings.temperature_learning_rate)),
        target_entropy=-settings.target_entropy_scale * action_size,
        policy_delay=settings.policy_delay,
    )
    return build(observation_size, action_size, parts._replace(**others))


def mlp(width: int, head: Layer) -> Layer:
    """Two hidden layers with rectifiers."""
    return serial(dense(width), relu(), dense(width), relu(), head)
