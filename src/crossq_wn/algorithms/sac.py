"""SAC (Haarnoja et al., arXiv 1812.05905): soft actor-critic with plain two-layer networks.

Two critics are regressed on the minimum of two target critics (equations 5 and 6), which follow them by
Polyak averaging; the policy minimises equation 7 and the temperature equation 18. Sizes and initialisation
are those of jaxrl, the code that the paper builds on.
"""

from crossq_wn.algorithms.actor_critic import Parts, compose
from crossq_wn.algorithms.passes import separate
from crossq_wn.algorithms.recipes import Preset, Recipe
from crossq_wn.algorithms.settings import PolyakSettings
from crossq_wn.nets.layers import dense, ensemble, mlp
from crossq_wn.nets.losses import scalar, squared_error
from crossq_wn.nets.optimisers import polyak
from crossq_wn.nets.policies import clipped, gaussian_head
from crossq_wn.types import Spec


def parts(spec: Spec, settings: PolyakSettings) -> Parts:
    """Plain networks; online and target critics each get their own pass."""
    return compose(
        spec,
        settings,
        actor=mlp(settings.actor_width, gaussian_head(spec.action_size, mean_gain=1.0)),
        policy=clipped(-10.0, 2.0),
        critic=ensemble(mlp(settings.critic_width, dense(1)), settings.critics),
        q_pair=separate,
        target=polyak(settings.tau),
        readout=scalar(squared_error),
    )


# Paper v1, Table 1, column SAC. Its cell for the target entropy is blank; the shared default is jaxrl's.
PRESETS = {
    "default": Preset(
        PolyakSettings(utd=1, warmup=10_000, critic_width=256),
        "paper v1, Table 1; target entropy as in jaxrl",
    )
}

SAC = Recipe(summary="soft actor-critic", settings=PolyakSettings, presets=PRESETS, make=parts)
