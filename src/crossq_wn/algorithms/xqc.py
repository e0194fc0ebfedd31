"""XQC (Palenicek et al. 2025): the authors' successor, with every layer normalised and categorical critics.

A block is dense (no bias), batch norm, relu; unlike in CrossQ + WN, batch norm comes before the activation.
Weight norm holds every dense kernel, including those of the heads (whose biases stay free). Critics are
categorical on [-5, 5] and trained by cross-entropy; rewards are divided by the return's standard deviation to
fit that range.
"""

from dataclasses import dataclass

from crossq_wn.algorithms.actor_critic import Parts, compose
from crossq_wn.algorithms.crossq import joint_target
from crossq_wn.algorithms.normalisers import (
    RewardScale,
    deviation_of_return,
    restarting,
    scale_rewards,
    spread_of_return,
)
from crossq_wn.algorithms.recipes import CriticTraits, Preset, Recipe
from crossq_wn.algorithms.settings import ScaledRewardSettings, require, require_positive
from crossq_wn.nets.layers import Layer, dense, ensemble, linear, relu, serial
from crossq_wn.nets.losses import categorical
from crossq_wn.nets.normalisation import batch_norm, per_neuron, per_neuron_kernel, weight_norm
from crossq_wn.nets.optimisers import polyak
from crossq_wn.nets.policies import clipped, gaussian_head
from crossq_wn.types import Spec


@dataclass(frozen=True, kw_only=True)
class XQCSettings(ScaledRewardSettings):
    """Hyperparameters of XQC; all numbers are from the authors' code."""

    hidden_layers: int = 4
    """Hidden layers of actor and critics."""
    norm_momentum: float = 0.99
    """Share of batch norm's running statistics that each training pass keeps."""
    norm_epsilon: float = 1e-3
    """Added to variances before a normalisation divides by their root."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "hidden_layers")
        require(self, "norm_momentum", 0 <= self.norm_momentum < 1, "in [0, 1)")
        require(self, "norm_epsilon", self.norm_epsilon > 0, "above 0")


def parts(spec: Spec, settings: XQCSettings) -> Parts:
    """XQC's networks, the joint pass of CrossQ + WN, and scaled rewards."""
    member = network(settings, settings.critic_width, dense(settings.atoms))
    return compose(
        spec,
        settings,
        actor=network(settings, settings.actor_width, gaussian_head(spec.action_size)),
        policy=clipped(-10.0, 2.0),
        critic=ensemble(member, settings.critics),
        q_pair=joint_target,
        target=polyak(settings.tau),
        readout=categorical(-settings.value_limit, settings.value_limit, settings.atoms),
    )._replace(around=(scale_rewards(spec, reward_scale(settings)),))


def reward_scale(settings: XQCSettings) -> RewardScale:
    """The authors' statistics of the return, or those of earlier versions of this package."""
    if settings.return_statistics == "code":
        return spread_of_return()
    return RewardScale(deviation_of_return, restarting)


def network(settings: XQCSettings, width: int, head: Layer) -> Layer:
    """Normalised blocks, with an output layer whose kernel is held at unit norm.

    Args:
        settings: `hidden_layers`, and the numbers of batch norm.
        width: units per hidden layer.
        head: the output layer.
    """
    norm = batch_norm(settings.norm_momentum, settings.norm_epsilon)
    block = serial(weight_norm(linear(width), per_neuron), norm, relu())
    return serial(norm, *[block] * settings.hidden_layers, weight_norm(head, per_neuron_kernel))


_CODE = XQCSettings(
    utd=2,
    initial_temperature=0.01,
    policy_delay=3,
    learning_rate_end=0.1,
)
PRESETS = {"default": Preset(_CODE, "the authors' code (Palenicek et al. 2025)")}

XQC = Recipe(
    summary="batch and weight norm throughout, categorical critic",
    settings=XQCSettings,
    presets=PRESETS,
    make=parts,
    critic=lambda settings: CriticTraits(
        scale_free=True, bounded=True, scales_rewards=True
    ),  # all kernels are held
)
