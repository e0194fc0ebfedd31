"""SimBa (Lee et al. 2025): residual layer-norm networks on observations that running statistics normalise.

Encoder: dense, then N blocks x + dense(relu(dense(layer_norm(x)))) that expand fourfold inside, then layer
norm. On tasks that never terminate early one critic is enough. An update goes: actor, temperature, critic,
target.
"""

from dataclasses import dataclass

from crossq_wn.algorithms.actor_critic import Parts, actor_first, compose
from crossq_wn.algorithms.normalisers import normalise_observations
from crossq_wn.algorithms.passes import separate
from crossq_wn.algorithms.recipes import CriticTraits, Preset, Recipe
from crossq_wn.algorithms.settings import PolyakSettings, require, require_positive
from crossq_wn.nets.initialisers import he_normal, orthogonal
from crossq_wn.nets.layers import Layer, dense, ensemble, relu, residual, serial
from crossq_wn.nets.losses import scalar, squared_error
from crossq_wn.nets.normalisation import layer_norm
from crossq_wn.nets.optimisers import polyak
from crossq_wn.nets.policies import gaussian_head, squeezed
from crossq_wn.types import Spec


@dataclass(frozen=True, kw_only=True)
class SimBaSettings(PolyakSettings):
    """Hyperparameters of SimBa."""

    actor_blocks: int = 1  # the authors' code
    """Residual blocks of the actor."""
    critic_blocks: int = 2  # the authors' code
    """Residual blocks of each critic."""
    weight_decay: float = 0.01  # Table 1
    """AdamW decay of all parameters of actor and critics."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "actor_blocks", "critic_blocks")
        require(self, "weight_decay", self.weight_decay >= 0, "0 or above")


def parts(spec: Spec, settings: SimBaSettings) -> Parts:
    """SimBa's networks on normalised observations."""
    actor_head, critic_head = gaussian_head(spec.action_size, 1.0, 1.0), dense(1, orthogonal(1.0))
    return compose(
        spec,
        settings,
        actor=encoder(settings.actor_width, settings.actor_blocks, actor_head),
        policy=squeezed(-10.0, 2.0),
        critic=ensemble(
            encoder(settings.critic_width, settings.critic_blocks, critic_head), settings.critics
        ),
        q_pair=separate,
        target=polyak(settings.tau),
        readout=scalar(squared_error),
        actor_weight_decay=settings.weight_decay,
        critic_weight_decay=settings.weight_decay,
    )._replace(order=actor_first, around=(normalise_observations(spec),))


def encoder(width: int, blocks: int, head: Layer) -> Layer:
    """The residual encoder, with an output layer on it.

    Args:
        width: features between blocks; inside a block there are four times as many.
        blocks: number of residual blocks.
        head: the output layer.
    """
    block = residual(layer_norm(), dense(4 * width, he_normal), relu(), dense(width, he_normal))
    return serial(dense(width, orthogonal(1.0)), *[block] * blocks, layer_norm(), head)


# Table 1, column SimBa. The table says UTD 2 and 8, and figure 1 shows 2.
_TABLE_1 = SimBaSettings(
    utd=2,
    actor_width=128,
    critics=1,
    actor_learning_rate=1e-4,
    critic_learning_rate=1e-4,
    temperature_learning_rate=1e-4,
    initial_temperature=0.01,
)
PRESETS = {
    "default": Preset(
        _TABLE_1,
        "paper v2, Table 1, and the authors' code (Lee et al. 2025), "
        "which uses --critics 2 where episodes terminate (Gymnasium)",
    )
}

SIMBA = Recipe(
    summary="residual layer-norm networks behind observation statistics",
    settings=SimBaSettings,
    presets=PRESETS,
    make=parts,
    critic=lambda settings: CriticTraits(normalises=True),
)
