"""REDQ (Chen et al. 2021): ten critics, targets from the minimum over a random pair of them, UTD 20.

Algorithm 1: each agent decision is followed by G critic updates, each with a fresh subset of critics for its
target, and then by one policy update against the mean of all critics.

RLPD (Ball et al. 2023) is REDQ with layer norm in its critics and data from elsewhere: `--preset rlpd` with
`--prefill FILE --prefill-share 0.5`, its symmetric sampling. A preset holds hyperparameters, so that the data
and their share have to be named. It departs from the authors' code as REDQ does here, by orthogonal
initialisation.
"""

from dataclasses import dataclass, replace
from functools import partial

from crossq_wn.algorithms.actor_critic import Parts, compose
from crossq_wn.algorithms.passes import Passed, QPair
from crossq_wn.algorithms.recipes import CriticTraits, Preset, Recipe
from crossq_wn.algorithms.settings import PolyakSettings, require
from crossq_wn.algorithms.state import State
from crossq_wn.errors import option
from crossq_wn.lazy import jax
from crossq_wn.nets.layers import Layer, dense, ensemble, mlp, relu, serial
from crossq_wn.nets.losses import mean, scalar, squared_error
from crossq_wn.nets.normalisation import layer_norm
from crossq_wn.nets.optimisers import polyak
from crossq_wn.nets.policies import clipped, gaussian_head
from crossq_wn.types import Array, Spec, Tree


@dataclass(frozen=True, kw_only=True)
class REDQSettings(PolyakSettings):
    """Hyperparameters of REDQ; all numbers are from Chen et al. 2021, table of hyperparameters."""

    policy_delay: int = 1
    """Agent decisions per update of the actor and of the temperature."""
    subset: int = 2
    """Number of randomly chosen critics whose minimum makes a target (M)."""
    layer_norm: bool = False
    """Whether the critics' hidden layers have layer norm, which bounds values beyond the data (RLPD)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self,
            "subset",
            1 <= self.subset <= self.critics,
            f"from 1 to {option('critics')} ({self.critics})",
        )


def parts(spec: Spec, settings: REDQSettings) -> Parts:
    """An ensemble of critics; the policy maximises their mean and is updated once per decision."""
    member = mlp(settings.critic_width, dense(1))
    if settings.layer_norm:
        member = serial(*_normalised(settings), *_normalised(settings), dense(1))
    return compose(
        spec,
        settings,
        actor=mlp(settings.actor_width, gaussian_head(spec.action_size)),
        policy=clipped(-20.0, 2.0),
        critic=ensemble(member, settings.critics),
        q_pair=separate_subset(settings.subset),
        target=polyak(settings.tau),
        readout=scalar(squared_error),
    )._replace(reduce=mean, policy_delay=settings.policy_delay * settings.utd)


def _normalised(settings: REDQSettings) -> tuple[Layer, ...]:
    """Dense, layer norm, rectifier: one hidden layer of RLPD's critics."""
    return dense(settings.critic_width), layer_norm(), relu()


def separate_subset(size: int) -> QPair:
    """Algorithm 1: like SAC's `separate`, but only a random subset of the target critics is evaluated.

    Args:
        size: number of critics in the subset (M), which is drawn anew for each minibatch.
    """

    def pair(critic: Layer, theta: Tree, state: State, x: Array, next_x: Array, key: Array) -> Passed:
        chosen = jax.random.choice(key, len(state.target), (size,), replace=False)
        members = tuple(_member(state.target, index) for index in chosen)
        stats = tuple(_member(state.critic.stats, index) for index in chosen)
        next_q, _ = critic.apply(members, stats, next_x, train=True)  # an ensemble of however many
        q, stats = critic.apply(theta, state.critic.stats, x, train=True)
        return q, next_q, stats

    return pair


def _member(members: tuple[Tree, ...], index: Array) -> Tree:
    """One of an ensemble's trees; without a seed axis the others are not even read."""
    return jax.lax.switch(index, [partial(_itself, member) for member in members])


def _itself(tree: Tree) -> Tree:
    return tree


# The authors set the target entropy per task, at about -|A|/2, which is the shared default.
_PUBLISHED = REDQSettings(utd=20, critic_width=256, critics=10)
PRESETS = {
    "default": Preset(_PUBLISHED, "Chen et al. 2021, but orthogonal initialisation"),
    "rlpd": Preset(
        replace(_PUBLISHED, layer_norm=True),
        "Ball et al. 2023, locomotion; name its data with --prefill, --prefill-share 0.5",
    ),
}

REDQ = Recipe(
    summary="ten critics, random pairs for targets, UTD 20",
    settings=REDQSettings,
    presets=PRESETS,
    make=parts,
    # As in DroQ, nothing stops the scale of the weights from growing that layer norm makes ineffective.
    critic=lambda settings: (
        CriticTraits(scale_free=True, remedy="--algorithm crossq-wn")
        if settings.layer_norm
        else CriticTraits()
    ),
)
