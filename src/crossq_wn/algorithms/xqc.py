"""XQC (Palenicek et al. 2025): the authors' successor; every layer normalised, a categorical critic.

Blocks are dense (no bias), batch norm, relu: batch norm comes before the activation here. Weight norm holds
every dense kernel, the heads' included (their biases stay free). Critics are categorical on [-5, 5], trained
by cross-entropy, which rewards divided by the return's standard deviation fit into.
"""

from dataclasses import dataclass

from crossq_wn.algorithms.actor_critic import joint_target
from crossq_wn.algorithms.assemble import assemble
from crossq_wn.algorithms.normalisers import deviation_of_return, scale_rewards
from crossq_wn.algorithms.settings import PolyakSettings, require, require_positive
from crossq_wn.nets.layers import (
    Layer,
    batch_norm,
    dense,
    ensemble,
    linear,
    per_neuron,
    per_neuron_kernel,
    relu,
    serial,
    weight_norm,
)
from crossq_wn.nets.losses import categorical
from crossq_wn.nets.optimisers import polyak
from crossq_wn.nets.policies import clipped, gaussian_head
from crossq_wn.types import Algorithm


@dataclass(frozen=True, kw_only=True)
class XQCSettings(PolyakSettings):
    """Hyperparameters of XQC."""

    hidden_layers: int
    """Hidden layers of actor and critics."""
    atoms: int
    """Atoms of each critic's distribution."""
    value_limit: float
    """The distribution's support is from minus this to this."""
    norm_momentum: float = 0.99
    """Running statistics keep this share per training pass."""
    norm_epsilon: float = 1e-3
    """Added to variances."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "hidden_layers")
        require(self, "atoms", self.atoms >= 2, "a whole number of at least 2")
        require(self, "value_limit", self.value_limit > 0, "above 0")
        require(self, "norm_momentum", 0 <= self.norm_momentum < 1, "in [0, 1)")
        require(self, "norm_epsilon", self.norm_epsilon > 0, "above 0")


def xqc(observation_size: int, action_size: int, discount: float, settings: XQCSettings) -> Algorithm:
    """Soft actor-critic with XQC's networks and scaled rewards."""
    actor = _network(settings, settings.actor_width, gaussian_head(action_size))
    member = _network(settings, settings.critic_width, dense(settings.atoms))
    algorithm = assemble(
        settings,
        observation_size,
        action_size,
        discount,
        actor=actor,
        policy=clipped(-10.0, 2.0),
        critic=ensemble(member, settings.critics),
        q_pair=joint_target,
        target=polyak(settings.tau),
        readout=categorical(-settings.value_limit, settings.value_limit, settings.atoms),
    )
    return scale_rewards(algorithm, discount, deviation_of_return)


def _network(settings: XQCSettings, width: int, head: Layer) -> Layer:
    norm = batch_norm(settings.norm_momentum, settings.norm_epsilon)
    block = serial(weight_norm(linear(width), per_neuron), norm, relu())
    return serial(norm, *[block] * settings.hidden_layers, weight_norm(head, per_neuron_kernel))
