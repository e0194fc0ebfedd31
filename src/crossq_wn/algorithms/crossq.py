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

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from crossq_wn.algorithms.actor_critic import joint, joint_target
from crossq_wn.algorithms.assemble import assemble
from crossq_wn.algorithms.resets import every_updates
from crossq_wn.algorithms.settings import ActorCriticSettings, PolyakSettings, require, require_effect
from crossq_wn.nets.layers import (
    Layer,
    batch_norm,
    batch_renorm,
    dense,
    ensemble,
    l2_penalty,
    layer_norm,
    per_layer,
    per_neuron,
    per_neuron_kernel,
    relu,
    serial,
    weight_norm,
    without_decay,
)
from crossq_wn.nets.losses import half_squared_error, scalar
from crossq_wn.nets.optimisers import no_target, polyak
from crossq_wn.nets.policies import clipped, gaussian_head
from crossq_wn.types import Algorithm

_LOG_STD_MAX = 2.0


@dataclass(frozen=True, kw_only=True)
class CrossQSettings(ActorCriticSettings):
    """Hyperparameters of CrossQ."""

    norm: Literal["batch-norm", "batch-renorm", "layer-norm"] = "batch-norm"
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
        left_out = "left out with --norm layer-norm, which keeps no statistics"
        require_effect(self, "norm_momentum", self.norm != "layer-norm", left_out)
        require(self, "norm_epsilon", self.norm_epsilon > 0, "above 0")
        require(self, "log_std_min", self.log_std_min < _LOG_STD_MAX, f"below {_LOG_STD_MAX}")


@dataclass(frozen=True, kw_only=True)
class CrossQWNSettings(CrossQSettings, PolyakSettings):
    """Hyperparameters of CrossQ + WN."""

    actor_weight_decay: float
    """AdamW decay of what is unbounded in the actor: heads and batch-norm affine parameters."""
    critic_weight_decay: float
    """AdamW decay of what is unbounded in the critics: heads and batch-norm affine parameters."""
    weight_norm: Literal["neuron", "neuron-kernel", "layer", "none", "l2"] = "neuron"
    """What is held at fixed norm: each neuron's weights and bias, its weights alone, or the whole layer; or
    nothing (none), or a penalty on the hidden layers' norms instead (l2)."""
    weight_norm_radius: float = 1.0
    """The fixed norm (c in equation 2)."""
    l2_scale: float = 1e-3
    """The penalty's scale, where --weight-norm is l2; the actor has none."""
    weight_norm_actor: bool = True
    """Whether the actor's hidden layers are weight-normalised too."""
    weight_norm_head: bool = False
    """Whether the output layers' kernels are normalised per neuron too, as in the authors' later code."""
    target_network: bool = True
    """Whether targets come from Polyak-averaged critics or, as in CrossQ, from the critics themselves."""
    reset_updates: int | None = None
    """Gradient updates between full resets of the learner; none by default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("actor_weight_decay", "critic_weight_decay"):
            require(self, name, getattr(self, name) >= 0, "0 or above")
        require(self, "weight_norm_radius", self.weight_norm_radius > 0, "above 0")
        require(self, "l2_scale", self.l2_scale >= 0, "0 or above")
        require_effect(self, "l2_scale", self.weight_norm == "l2", "left out unless --weight-norm is l2")
        held = self.weight_norm not in ("none", "l2") or self.weight_norm_head
        require_effect(self, "weight_norm_radius", held, "left out where nothing is held at fixed norm")
        require(self, "reset_updates", self.reset_updates is None or self.reset_updates >= 1, "at least 1")


# By setting: settings -> the layer that normalises.
NORMS: dict[str, Callable[[CrossQSettings], Layer]] = {
    "batch-norm": lambda s: batch_norm(s.norm_momentum, s.norm_epsilon),
    "batch-renorm": lambda s: batch_renorm(s.norm_momentum, s.norm_epsilon),
    "layer-norm": lambda s: layer_norm(s.norm_epsilon),
}
# By setting: settings -> what bounds a dense layer.
BOUNDS: dict[str, Callable[[CrossQWNSettings], Callable[[Layer], Layer]]] = {
    "neuron": lambda s: lambda layer: weight_norm(layer, per_neuron, s.weight_norm_radius),
    "neuron-kernel": lambda s: lambda layer: weight_norm(layer, per_neuron_kernel, s.weight_norm_radius),
    "layer": lambda s: lambda layer: weight_norm(layer, per_layer, s.weight_norm_radius),
    "none": lambda s: without_decay,
    "l2": lambda s: lambda layer: l2_penalty(layer, s.l2_scale),
}


def crossq(observation_size: int, action_size: int, discount: float, settings: CrossQSettings) -> Algorithm:
    """CrossQ: batch norm, the joint pass, no target network."""
    return assemble(
        settings,
        observation_size,
        action_size,
        discount,
        actor=_network(settings, dense(settings.actor_width), gaussian_head(action_size)),
        policy=clipped(settings.log_std_min, _LOG_STD_MAX),
        critic=ensemble(_network(settings, dense(settings.critic_width), dense(1)), settings.critics),
        q_pair=joint,
        target=no_target(),
        readout=scalar(half_squared_error),
    )


def crossq_wn(
    observation_size: int, action_size: int, discount: float, settings: CrossQWNSettings
) -> Algorithm:
    """CrossQ + WN: weight-normalised hidden layers, the joint pass also through a target critic."""
    bound = BOUNDS[settings.weight_norm](settings)
    actor_hidden, actor_head, head = dense(settings.actor_width), gaussian_head(action_size), dense(1)
    if settings.weight_norm_actor:
        actor_hidden = bound(actor_hidden)
    if settings.weight_norm_head:  # in the authors' later code the bounded heads decay all the same
        actor_head, head = (
            weight_norm(layer, per_neuron_kernel, settings.weight_norm_radius)._replace(decay=layer.decay)
            for layer in (actor_head, head)
        )
    member = _network(settings, bound(dense(settings.critic_width)), head)
    algorithm = assemble(
        settings,
        observation_size,
        action_size,
        discount,
        actor=_network(settings, actor_hidden, actor_head),
        policy=clipped(settings.log_std_min, _LOG_STD_MAX),
        critic=ensemble(member, settings.critics),
        q_pair=joint_target if settings.target_network else joint,
        target=polyak(settings.tau) if settings.target_network else no_target(),
        readout=scalar(half_squared_error),
        actor_weight_decay=settings.actor_weight_decay,
        critic_weight_decay=settings.critic_weight_decay,
    )
    if settings.reset_updates is None:
        return algorithm
    return algorithm._replace(resets=every_updates(settings.reset_updates, settings.utd, settings.warmup))


def _network(settings: CrossQSettings, hidden: Layer, head: Layer) -> Layer:
    norm = NORMS[settings.norm](settings)
    return serial(norm, hidden, relu(), norm, hidden, relu(), norm, head)
