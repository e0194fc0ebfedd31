"""DroQ (Hiraoka et al. 2022): two critics with dropout and layer norm replace REDQ's ensemble; UTD 20.

Each hidden layer is dense, dropout, layer norm, rectifier. Dropout stays on in every pass through a critic,
those for targets and for the policy included, because it provides the spread that REDQ gets from its
ensemble.
"""

from dataclasses import dataclass

from crossq_wn.algorithms.actor_critic import Parts, compose
from crossq_wn.algorithms.passes import separate
from crossq_wn.algorithms.recipes import CriticTraits, Preset, Recipe
from crossq_wn.algorithms.settings import PolyakSettings, require
from crossq_wn.nets.layers import Layer, always_training, dense, dropout, ensemble, mlp, relu, serial
from crossq_wn.nets.losses import mean, scalar, squared_error
from crossq_wn.nets.normalisation import layer_norm
from crossq_wn.nets.optimisers import polyak
from crossq_wn.nets.policies import clipped, gaussian_head
from crossq_wn.types import Spec


@dataclass(frozen=True, kw_only=True)
class DroQSettings(PolyakSettings):
    """Hyperparameters of DroQ; those that Hiraoka et al. 2022 do not change are REDQ's."""

    policy_delay: int = 1
    """Agent decisions per update of the actor and of the temperature."""
    dropout: float = 0.01
    """Probability that a hidden unit of a critic is dropped."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")


def parts(spec: Spec, settings: DroQSettings) -> Parts:
    """Critics with dropout; the policy maximises their mean and is updated once per decision."""
    member = serial(*hidden_layer(settings), *hidden_layer(settings), dense(1))
    return compose(
        spec,
        settings,
        actor=mlp(settings.actor_width, gaussian_head(spec.action_size)),
        policy=clipped(-20.0, 2.0),
        critic=ensemble(member, settings.critics),
        q_pair=separate,
        target=polyak(settings.tau),
        readout=scalar(squared_error),
    )._replace(reduce=mean, policy_delay=settings.policy_delay * settings.utd)


def hidden_layer(settings: DroQSettings) -> tuple[Layer, ...]:
    """Dense, dropout, layer norm, rectifier: one hidden layer of a critic."""
    # The policy's loss evaluates the critics, which would otherwise switch dropout off.
    return dense(settings.critic_width), always_training(dropout(settings.dropout)), layer_norm(), relu()


_PUBLISHED = DroQSettings(utd=20, critic_width=256)
PRESETS = {"default": Preset(_PUBLISHED, "Hiraoka et al. 2022, but orthogonal initialisation")}

DROQ = Recipe(
    summary="dropout and layer norm critics, UTD 20",
    settings=DroQSettings,
    presets=PRESETS,
    make=parts,
    # Layer norm removes the effect of hidden weights' scale, and nothing stops that scale from growing.
    critic=lambda settings: CriticTraits(scale_free=True, remedy="--algorithm crossq-wn"),
)
