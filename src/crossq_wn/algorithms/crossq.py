"""CrossQ (Bhatt et al. 2024) and CrossQ + WN (paper v2, section 4).

Both normalise the raw input and every hidden activation of actor and critic with batch norm, and the critic
sees (s, a) and (s', a') in ONE training-mode pass (section 2), for three reasons:
1. Replayed actions and the policy's actions are distributed differently, so the batch statistics of one do
   not fit the other.
2. In two passes, Q(s, a) and Q(s', a') would be two differently normalised functions, and their temporal
   difference would compare unlike things.
3. In one pass they share batch statistics, so prediction and target are on one scale.

Batch norm makes the critic independent of the scale of its hidden weights (theorem 1). Gradients therefore
let these weights grow, and growing weights shrink the gradients (theorem 2): the effective learning rate
falls, and faster the more updates are made per decision. CrossQ + WN holds each hidden neuron at unit norm
(equation 2) and decays the remaining parameters, and it passes the same joint batch through a target critic.

To read CrossQ + WN, read this file (its networks, passes and numbers), `actor_critic.py` (the update),
`nets/normalisation.py` (batch norm and weight norm) and `settings.py` (the rows of Table 1 that algorithms
share).
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from crossq_wn.algorithms.actor_critic import Parts, compose
from crossq_wn.algorithms.passes import Passed
from crossq_wn.algorithms.recipes import CriticTraits, Preset, Recipe
from crossq_wn.algorithms.resets import every_updates
from crossq_wn.algorithms.settings import ActorCriticSettings, Condition, PolyakSettings, require
from crossq_wn.algorithms.state import State
from crossq_wn.errors import option
from crossq_wn.lazy import jnp
from crossq_wn.nets.layers import Layer, dense, ensemble, relu, serial
from crossq_wn.nets.losses import half_squared_error, scalar
from crossq_wn.nets.normalisation import (
    batch_norm,
    batch_renorm,
    l2_penalty,
    layer_norm,
    per_layer,
    per_neuron,
    per_neuron_kernel,
    weight_norm,
    without_decay,
)
from crossq_wn.nets.optimisers import no_target, polyak
from crossq_wn.nets.policies import clipped, gaussian_head
from crossq_wn.types import Array, Spec, Tree

_LOG_STD_MAX = 2.0


@dataclass(frozen=True, kw_only=True)
class CrossQSettings(ActorCriticSettings):
    """Hyperparameters of CrossQ."""

    norm: Literal["batch-norm", "batch-renorm", "layer-norm"] = "batch-norm"
    """How the input and the hidden activations of actor and critic are normalised."""
    norm_momentum: float = 0.99  # Table 1
    """Share of batch norm's running statistics that each training pass keeps."""
    norm_epsilon: float = 1e-3  # the authors' later code
    """Added to variances before a normalisation divides by their root."""
    log_std_min: float = -10.0  # jaxrl and the authors' later code
    """Lower limit of the policy's log standard deviation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "norm_momentum", 0 <= self.norm_momentum < 1, "in [0, 1)")
        require(self, "norm_epsilon", self.norm_epsilon > 0, "above 0")
        require(self, "log_std_min", self.log_std_min < _LOG_STD_MAX, f"below {_LOG_STD_MAX}")

    def conditions(self) -> list[Condition]:
        """See `Settings.conditions`."""
        layer = f"with {option('norm', 'layer-norm')}, which keeps no statistics"
        return [*super().conditions(), Condition("norm_momentum", self.norm != "layer-norm", layer)]


@dataclass(frozen=True, kw_only=True)
class CrossQWNSettings(CrossQSettings, PolyakSettings):
    """Hyperparameters of CrossQ + WN."""

    actor_weight_decay: float = 0.01  # Table 1
    """AdamW decay in the actor of what weight norm does not hold: heads, batch-norm scales and biases."""
    critic_weight_decay: float = 0.01  # Table 1
    """AdamW decay in the critics of what weight norm does not hold: heads, batch-norm scales and biases."""
    weight_norm: Literal["neuron", "neuron-kernel", "layer", "none", "l2"] = "neuron"  # the later code
    """What hidden layers hold at a fixed norm: each neuron's weights and bias (neuron), its weights alone
    (neuron-kernel), a whole layer (layer) or nothing (none); with l2 the norms are penalised instead."""
    weight_norm_radius: float = 1.0  # section 4: unit norm
    """The fixed norm of weight normalisation (c in the paper's equation 2)."""
    l2_scale: float = 1e-3  # ours: the paper does not give the scales of its ablation
    """Scale of the penalty on the critics' hidden layers if --weight-norm is l2; the actor has none."""
    weight_norm_actor: bool = True  # the later code
    """Whether the actor's hidden layers are weight-normalised too."""
    weight_norm_head: bool = False  # section 4
    """Whether output layers' weights are held at a fixed norm too, as in the authors' later code."""
    target_network: bool = True  # section 4
    """Whether targets come from Polyak-averaged critics; if not, they come from the critics themselves."""
    reset_updates: int | None = None
    """Gradient updates between full resets of the learner; by default it is never reset."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("actor_weight_decay", "critic_weight_decay"):
            require(self, name, getattr(self, name) >= 0, "0 or above")
        require(self, "weight_norm_radius", self.weight_norm_radius > 0, "above 0")
        require(self, "l2_scale", self.l2_scale >= 0, "0 or above")
        require(self, "reset_updates", self.reset_updates is None or self.reset_updates >= 1, "at least 1")

    def conditions(self) -> list[Condition]:
        """See `Settings.conditions`."""
        holds, norm = self.weight_norm not in ("none", "l2"), option("weight_norm")
        free = f"where {norm} holds nothing and {option('actor_weight_decay')} is 0"
        target = f"with {option('target_network', False)}, as no critics are averaged then"
        return [
            *super().conditions(),
            Condition("l2_scale", self.weight_norm == "l2", f"unless {norm} is l2"),
            Condition(
                "weight_norm_radius", holds or self.weight_norm_head, "where nothing is held at fixed norm"
            ),
            Condition("weight_norm_actor", holds or self.actor_weight_decay > 0, free),
            Condition("tau", self.target_network, target),
        ]


def crossq(spec: Spec, settings: CrossQSettings) -> Parts:
    """CrossQ: batch norm, the joint pass, no target network (section 2)."""
    actor_head, critic_head = gaussian_head(spec.action_size), dense(1)
    member = network(settings, dense(settings.critic_width), critic_head)
    return compose(
        spec,
        settings,
        actor=network(settings, dense(settings.actor_width), actor_head),
        policy=clipped(settings.log_std_min, _LOG_STD_MAX),
        critic=ensemble(member, settings.critics),
        q_pair=joint,
        target=no_target(),
        readout=scalar(half_squared_error),
    )


def crossq_wn(spec: Spec, settings: CrossQWNSettings) -> Parts:
    """CrossQ + WN: weight-normalised hidden layers, and the joint pass also through a target critic."""
    actor_hidden, critic_hidden = dense(settings.actor_width), bounded(settings, dense(settings.critic_width))
    actor_head, critic_head = gaussian_head(spec.action_size), dense(1)
    if settings.weight_norm_actor:
        l2 = settings.weight_norm == "l2"  # a penalty on the critics alone
        actor_hidden = without_decay(actor_hidden) if l2 else bounded(settings, actor_hidden)
    if settings.weight_norm_head:
        actor_head, critic_head = bounded_head(settings, actor_head), bounded_head(settings, critic_head)
    parts = compose(
        spec,
        settings,
        actor=network(settings, actor_hidden, actor_head),
        policy=clipped(settings.log_std_min, _LOG_STD_MAX),
        critic=ensemble(network(settings, critic_hidden, critic_head), settings.critics),
        q_pair=joint_target if settings.target_network else joint,
        target=polyak(settings.tau) if settings.target_network else no_target(),
        readout=scalar(half_squared_error),
        actor_weight_decay=settings.actor_weight_decay,
        critic_weight_decay=settings.critic_weight_decay,
    )
    if settings.reset_updates is None:
        return parts
    return parts._replace(resets=every_updates(settings.reset_updates, settings.utd, settings.warmup))


def joint(critic: Layer, theta: Tree, state: State, x: Array, next_x: Array, key: Array) -> Passed:
    """CrossQ (section 2): one pass over (s, a) and (s', a'), which then share batch statistics; no target.

    Args:
        critic: the ensemble of critics.
        theta: their parameters, of which the loss is a function.
        state: of one seed; gives the running statistics.
        x: (s, a), [B, observation_size + action_size].
        next_x: (s', a'), of the same shape.
        key: unused; the pass draws nothing.
    """
    both, stats = critic.apply(theta, state.critic.stats, jnp.concatenate([x, next_x]), train=True)
    q, next_q = jnp.split(both, 2, axis=1)
    return q, next_q, stats


def joint_target(critic: Layer, theta: Tree, state: State, x: Array, next_x: Array, key: Array) -> Passed:
    """CrossQ + WN (section 4): the joint pass through critic and target critic, both in training mode.

    With batch norm, a training pass does not read the running statistics. Batch renorm does read them;
    prediction and target must then be corrected alike, so both passes use those of the online critic.

    Args:
        critic: the ensemble of critics; the targets are evaluated by the same function.
        theta: the online parameters, of which the loss is a function.
        state: of one seed; gives the target parameters and the running statistics.
        x: (s, a), [B, observation_size + action_size].
        next_x: (s', a'), of the same shape.
        key: unused; the passes draw nothing.
    """
    both = jnp.concatenate([x, next_x])
    q, stats = critic.apply(theta, state.critic.stats, both, train=True)
    target_q, _ = critic.apply(state.target, state.critic.stats, both, train=True)
    # Prediction on (s, a) and target on (s', a'); the other half of each pass served the statistics only.
    return q[:, : len(x)], target_q[:, len(x) :], stats


def network(settings: CrossQSettings, hidden: Layer, head: Layer) -> Layer:
    """A network with two hidden layers, in which the input and every hidden activation are normalised.

    Args:
        settings: say which normalisation.
        hidden: the layer that stands twice, each time with its own parameters.
        head: the output layer.
    """
    norm = normalisation(settings)
    return serial(norm, hidden, relu(), norm, hidden, relu(), norm, head)


def normalisation(settings: CrossQSettings) -> Layer:
    """The layer that `settings.norm` names."""
    match settings.norm:
        case "batch-norm":
            return batch_norm(settings.norm_momentum, settings.norm_epsilon)
        case "batch-renorm":
            return batch_renorm(settings.norm_momentum, settings.norm_epsilon)
        case "layer-norm":
            return layer_norm(settings.norm_epsilon)


def bounded(settings: CrossQWNSettings, hidden: Layer) -> Layer:
    """A hidden layer whose norm is kept as `settings.weight_norm` says; it has no weight decay.

    Args:
        settings: `weight_norm`, and the radius or the scale of the penalty.
        hidden: a dense layer.
    """
    match settings.weight_norm:
        case "neuron":
            return weight_norm(hidden, per_neuron, settings.weight_norm_radius)
        case "neuron-kernel":
            return weight_norm(hidden, per_neuron_kernel, settings.weight_norm_radius)
        case "layer":
            return weight_norm(hidden, per_layer, settings.weight_norm_radius)
        case "l2":
            return l2_penalty(hidden, settings.l2_scale)
        case "none":
            return without_decay(hidden)


def bounded_head(settings: CrossQWNSettings, head: Layer) -> Layer:
    """An output layer whose kernel is held at a fixed norm; it still decays, as in the authors' code."""
    return weight_norm(head, per_neuron_kernel, settings.weight_norm_radius)._replace(decay=head.decay)


def crossq_wn_critic(settings: CrossQWNSettings) -> CriticTraits:
    """The traits of CrossQ + WN's critic, which depend on what its settings hold at a fixed norm."""
    if settings.weight_norm in ("none", "l2"):
        return CriticTraits(scale_free=True, bounded=False, remedy="--weight-norm neuron")
    decay = "a higher --critic-weight-decay"
    remedy = decay if settings.weight_norm_head else f"--weight-norm-head or {decay}"
    return CriticTraits(scale_free=True, bounded=True, remedy=remedy)


# Presets: departures from the defaults above and in `settings.py`

_TABLE_1: dict[str, Any] = {"policy_delay": 3, "temperature_learning_rate": 1e-4}  # v2, both columns
_V1: dict[str, Any] = {"actor_learning_rate": 1e-4, "critic_learning_rate": 1e-4}  # v1, both columns
_MEASURED: dict[str, Any] = {"initial_temperature": 0.1, "temperature_learning_rate": 3e-4}  # docs/results.md

_CROSSQ = CrossQSettings(utd=1, **_TABLE_1)  # as in figure 3, which also has UTD 5
_OFFICIAL: dict[str, Any] = {
    "critic_width": 2048,
    "actor_learning_rate": 1e-3,
    "critic_learning_rate": 1e-3,
    "temperature_learning_rate": 1e-3,
    "target_entropy_scale": 1.0,
    "adam_beta1": 0.5,
    "norm": "batch-renorm",
    "log_std_min": -20.0,
}
CROSSQ_PRESETS = {
    "default": Preset(
        replace(_CROSSQ, **_MEASURED), "paper v2, Table 1, with the temperature settings of crossq-wn"
    ),
    "paper-v2": Preset(_CROSSQ, "paper v2, Table 1 as printed"),
    "paper-v1": Preset(replace(_CROSSQ, **_V1), "paper v1, Table 1"),
    "official": Preset(
        replace(_CROSSQ, **_OFFICIAL),
        "CrossQ's own repository (Bhatt et al. 2024), but orthogonal initialisation, and batch renorm "
        "as published (Ioffe 2017)",
    ),
}

_CROSSQ_WN = CrossQWNSettings(utd=2, **_TABLE_1)  # as in figure 1; figure 4 has UTD 1, 2, 5, 10 and 20
_CODE: dict[str, Any] = {
    "initial_temperature": 0.01,
    "temperature_learning_rate": 3e-4,
    "learning_rate_end": 0.1,
    "weight_norm_head": True,  # the code calls its projection without the flag that spares the last layer
}
CROSSQ_WN_PRESETS = {
    "default": Preset(
        replace(_CROSSQ_WN, **_MEASURED),
        "paper v2, Table 1, with the temperature settings that learn best in our runs",
    ),
    "paper-v2": Preset(_CROSSQ_WN, "paper v2, Table 1 as printed"),
    "paper-v1": Preset(replace(_CROSSQ_WN, utd=5, **_V1), "paper v1, Table 1"),
    "code": Preset(replace(_CROSSQ_WN, **_CODE), "the authors' later public code"),
}

CROSSQ = Recipe(
    summary="CrossQ: batch normalisation, no target network",
    settings=CrossQSettings,
    presets=CROSSQ_PRESETS,
    make=crossq,
    # Batch norm removes the effect of hidden weights' scale, and nothing stops that scale from growing.
    critic=lambda settings: CriticTraits(scale_free=True, remedy="--algorithm crossq-wn"),
)
CROSSQ_WN = Recipe(
    summary="CrossQ + batch and weight normalisation, target network (the paper)",
    settings=CrossQWNSettings,
    presets=CROSSQ_WN_PRESETS,
    make=crossq_wn,
    critic=crossq_wn_critic,
)
