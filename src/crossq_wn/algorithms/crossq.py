"""CrossQ (Bhatt et al. 2024) and CrossQ + WN (paper v2, section 4).

Both normalise the raw input and every hidden activation of actor and critic with batch norm, and both see
(s, a) and (s', a') in ONE training-mode pass. Why one pass:
1. Replay actions and policy actions are distributed differently; statistics of one do not fit the other.
2. Passed apart, Q(s, a) and Q(s', a') would be two differently normalised functions, and the temporal
   difference between them would compare unlike things.
3. Passed together they share batch statistics, so target and prediction live on one scale.
CrossQ + WN passes the same joint batch through a target critic too, and holds each hidden neuron at unit
norm, so that the effective learning rate cannot fall while weights grow.
"""

from dataclasses import dataclass
from typing import Literal

import optax

from crossq_wn import networks
from crossq_wn.actor_critic import Parts, QPair, joint, joint_target, soft_actor_critic
from crossq_wn.algorithms.settings import ActorCriticSettings, require
from crossq_wn.losses import half_squared_error, scalar
from crossq_wn.networks import Layer, dense, ensemble, relu, serial, weight_norm
from crossq_wn.optimisers import Target, adamw, no_target, polyak
from crossq_wn.policies import gaussian_head, squashed_gaussian
from crossq_wn.types import Algorithm

NORMS = {"batch-norm": networks.batch_norm, "batch-renorm": networks.batch_renorm}
PROJECTIONS = {
    "neuron": networks.per_neuron,
    "neuron-kernel": networks.per_neuron_kernel,
    "layer": networks.per_layer,
}


@dataclass(frozen=True, kw_only=True)
class CrossQSettings(ActorCriticSettings):
    """Hyperparameters of CrossQ."""

    norm: Literal["batch-norm", "batch-renorm"] = "batch-norm"
    """How the input and the hidden activations are normalised."""
    norm_momentum: float = 0.99
    """Running statistics keep this share per training pass."""
    norm_epsilon: float = 1e-3
    """Added to variances."""
    log_std_min: float = -10.0
    """Lower clip of the policy's log standard deviation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "norm_momentum", 0 <= self.norm_momentum < 1, "in [0, 1)")
        require(self, "norm_epsilon", self.norm_epsilon > 0, "above 0")


@dataclass(frozen=True, kw_only=True)
class CrossQWNSettings(CrossQSettings):
    """Hyperparameters of CrossQ + WN."""

    tau: float
    """Polyak rate of the target critics, per gradient update."""
    actor_weight_decay: float
    """AdamW decay of what is unbounded in the actor: heads and batch-norm affine parameters."""
    critic_weight_decay: float
    """AdamW decay of what is unbounded in the critics: heads and batch-norm affine parameters."""
    weight_norm: Literal["neuron", "neuron-kernel", "layer"] = "neuron"
    """What is held at fixed norm: each neuron's weights and bias, its weights alone, or the whole layer."""
    weight_norm_radius: float = 1.0
    """The fixed norm (c in equation 2)."""
    weight_norm_actor: bool = True
    """Whether the actor's hidden layers are weight-normalised too."""
    weight_norm_head: bool = False
    """Whether the critics' output layer is weight-normalised too, as in the authors' later code."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "tau", 0 <= self.tau <= 1, "in [0, 1]")
        for name in ("actor_weight_decay", "critic_weight_decay"):
            require(self, name, getattr(self, name) >= 0, "0 or above")
        require(self, "weight_norm_radius", self.weight_norm_radius > 0, "above 0")


def crossq(observation_size: int, action_size: int, discount: float, settings: CrossQSettings) -> Algorithm:
    """CrossQ: batch norm, the joint pass, no target network."""
    actor = _network(settings, dense(settings.actor_width), gaussian_head(action_size))
    member = _network(settings, dense(settings.critic_width), dense(1))
    return soft_actor_critic(
        observation_size,
        action_size,
        _parts(action_size, discount, settings, actor, member, q_pair=joint, target=no_target()),
    )


def crossq_wn(
    observation_size: int, action_size: int, discount: float, settings: CrossQWNSettings
) -> Algorithm:
    """CrossQ + WN: weight-normalised hidden layers, the joint pass also through a target critic."""

    def bound(layer: Layer) -> Layer:
        return weight_norm(layer, PROJECTIONS[settings.weight_norm], settings.weight_norm_radius)

    actor_hidden, head = dense(settings.actor_width), dense(1)
    if settings.weight_norm_actor:
        actor_hidden = bound(actor_hidden)
    if settings.weight_norm_head:  # in the authors' later code the bounded head decays all the same
        head = bound(head)._replace(decay=head.decay)
    actor = _network(settings, actor_hidden, gaussian_head(action_size))
    member = _network(settings, bound(dense(settings.critic_width)), head)
    return soft_actor_critic(
        observation_size,
        action_size,
        _parts(
            action_size,
            discount,
            settings,
            actor,
            member,
            q_pair=joint_target,
            target=polyak(settings.tau),
            actor_weight_decay=settings.actor_weight_decay,
            critic_weight_decay=settings.critic_weight_decay,
        ),
    )


def _network(settings: CrossQSettings, hidden: Layer, head: Layer) -> Layer:
    norm = NORMS[settings.norm](settings.norm_momentum, settings.norm_epsilon)
    return serial(norm, hidden, relu(), norm, hidden, relu(), norm, head)


def _parts(
    action_size: int,
    discount: float,
    settings: CrossQSettings,
    actor: Layer,
    critic_member: Layer,
    *,
    q_pair: QPair,
    target: Target,
    actor_weight_decay: float = 0.0,
    critic_weight_decay: float = 0.0,
) -> Parts:
    """What CrossQ with and without weight norm have in common."""
    critic = ensemble(critic_member, settings.critics)
    actor_rate = settings.schedule(settings.actor_learning_rate)
    critic_rate = settings.schedule(settings.critic_learning_rate)
    return Parts(
        actor=actor,
        policy=squashed_gaussian(settings.log_std_min, 2.0),
        critic=critic,
        actor_optimiser=adamw(actor, actor_rate, actor_weight_decay, settings.adam_beta1),
        critic_optimiser=adamw(critic, critic_rate, critic_weight_decay, settings.adam_beta1),
        q_pair=q_pair,
        target=target,
        readout=scalar(half_squared_error),
        discount=discount,
        initial_temperature=settings.initial_temperature,
        temperature_optimiser=optax.adam(settings.temperature_learning_rate),
        target_entropy=-settings.target_entropy_scale * action_size,
        policy_delay=settings.policy_delay,
    )
