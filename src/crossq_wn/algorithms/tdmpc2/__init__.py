"""TD-MPC2 (Hansen et al. 2024), single task: a latent world model, and planning in it.

The encoder z = h(s), the dynamics z' = d(z, a), the reward R(z, a), five value functions Q(z, a) and the
policy p(z) are MLPs with layer norm and Mish. A latent state consists of groups, each the output of a softmax
(SimNorm). Rewards and values are classified into 101 two-hot bins of symlog space. `model.py` holds the
networks, `learning.py` the losses and the update, and `planning.py` the search that chooses every action.
"""

from __future__ import annotations  # JAX's types are loaded on first use

import math
from dataclasses import dataclass
from functools import partial

from crossq_wn.algorithms.recipes import CriticTraits, Preset, Recipe
from crossq_wn.algorithms.settings import Condition, Settings, require, require_positive
from crossq_wn.algorithms.tdmpc2 import learning, model, planning
from crossq_wn.algorithms.tdmpc2.model import SIMNORM_GROUP, Model, normed, simnormed, two_hot_head
from crossq_wn.algorithms.tdmpc2.planning import Planner
from crossq_wn.errors import option
from crossq_wn.lazy import constant, jax, jnp, optax
from crossq_wn.nets.initialisers import narrow_normal
from crossq_wn.nets.layers import dense, ensemble, serial
from crossq_wn.nets.losses import two_hot
from crossq_wn.nets.optimisers import Transformation, deferred, polyak
from crossq_wn.types import Algorithm, Burst, InNumpy, Sampling, Spec, Tree


@dataclass(frozen=True, kw_only=True)
class TDMPC2Settings(Settings):
    """Hyperparameters of TD-MPC2; the numbers are those of the authors' 5M-parameter single-task model."""

    encoder_width: int = 256
    """Units of the encoder's hidden layer."""
    latent_size: int = 512
    """Size of the latent state, a multiple of 8."""
    width: int = 512
    """Units per hidden layer of dynamics, reward, value functions and policy."""
    value_functions: int = 5
    """Number of value functions; the minimum of two random ones makes a target."""
    dropout: float = 0.01
    """Dropout rate in the first layer of the value functions."""
    bins: int = 101
    """Number of bins into which rewards and values are classified."""
    bin_limit: float = 10.0
    """The bins cover symlog values from minus this to this (10 stands for about 22,000)."""
    learning_rate: float = 3e-4
    """Adam learning rate of the world model and of the policy."""
    encoder_rate: float = 0.3
    """Learning rate of the encoder, as a share of --learning-rate."""
    gradient_clip: float = 20.0
    """Gradients with a larger global norm than this are scaled down to it."""
    tau: float = 0.01
    """Polyak rate per gradient update of the target value functions, and of the running scale of values."""
    horizon: int = 3
    """Agent decisions over which the model is unrolled, in training and in planning."""
    rho: float = 0.5
    """Ratio of the weights of consecutive unrolled decisions in the loss; below 1 the first counts most."""
    consistency_weight: float = 20.0
    """Weight of the latent consistency loss."""
    reward_weight: float = 0.1
    """Weight of the reward loss."""
    value_weight: float = 0.1
    """Weight of the value loss."""
    entropy_weight: float = 1e-4
    """Weight of the entropy bonus in the policy's loss."""
    iterations: int = 6
    """Iterations of the planner; two more are made with 20 or more action dimensions."""
    samples: int = 512
    """Action sequences that the planner tries per iteration."""
    policy_samples: int = 24
    """How many of these sequences the policy proposes; the others are drawn around the current plan."""
    elites: int = 64
    """Number of best sequences to which mean and spread of the next iteration are fitted."""
    min_std: float = 0.05
    """Smallest standard deviation of the planner's actions."""
    max_std: float = 2.0
    """Largest standard deviation of the planner's actions, with which it starts."""
    planner_temperature: float = 0.5
    """Elites are weighted by the exponential of this times their value: higher ones favour the best more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "encoder_width", "latent_size", "width", "iterations", "samples", "elites")
        require(self, "horizon", self.horizon >= 2, "a whole number of at least 2")
        require(self, "latent_size", self.latent_size % SIMNORM_GROUP == 0, "a multiple of 8")
        require(self, "value_functions", self.value_functions >= 2, "a whole number of at least 2")
        require(self, "bins", self.bins >= 2, "a whole number of at least 2")
        require(self, "tau", 0 <= self.tau <= 1, "in [0, 1]")
        require(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")
        require(self, "learning_rate", 0 <= self.learning_rate < 1, "in [0, 1)")
        require(self, "rho", 0 < self.rho <= 1, "above 0 and at most 1")
        for name in ("consistency_weight", "reward_weight", "value_weight", "entropy_weight", "encoder_rate"):
            require(self, name, getattr(self, name) >= 0, "0 or above")
        for name in ("bin_limit", "gradient_clip", "min_std", "planner_temperature"):
            require(self, name, getattr(self, name) > 0, "above 0")
        require(
            self, "max_std", self.max_std >= self.min_std, f"at least {option('min_std')} ({self.min_std})"
        )
        require(
            self, "policy_samples", 0 < self.policy_samples < self.samples, f"from 1 to {self.samples - 1}"
        )
        require(self, "elites", self.elites <= self.samples, f"at most {option('samples')} ({self.samples})")

    def conditions(self) -> list[Condition]:
        """See `Settings.conditions`."""
        one = f"with {option('elites', 1)}, which has all the weight"
        return [*super().conditions(), Condition("planner_temperature", self.elites > 1, one)]


def tdmpc2(spec: Spec, settings: TDMPC2Settings) -> Algorithm:
    """Binds the world model and the planner into an algorithm."""
    made, planner = world_model(spec, settings), planner_of(spec, settings)
    prior = partial(planning.prior, made)
    return Algorithm(
        init=partial(model.init, made),
        explore=partial(planning.explore, planner, made),
        exploit=partial(planning.exploit, planner, made),
        update=partial(learning.update, made),
        memory=planning.no_plan(planner, spec.action_size),
        sampling=Sampling(horizon=settings.horizon),
        burst=Burst(settings.warmup),
        view=partial(learning.view, made),
        appraise=partial(model.appraise, made),
        prior=prior,
        in_numpy=InNumpy(prior, partial(planning.network, made)),
    )


def world_model(spec: Spec, settings: TDMPC2Settings) -> Model:
    """The networks, and how they are trained."""
    width, latent, logits = settings.width, settings.latent_size, two_hot_head(settings.bins)
    one_value = serial(normed(width, settings.dropout), normed(width), logits)
    return Model(
        spec=spec,
        latent_size=latent,
        encoder=serial(normed(settings.encoder_width), simnormed(latent)),
        dynamics=serial(normed(width), normed(width), simnormed(latent)),
        reward=serial(normed(width), normed(width), logits),
        values=ensemble(one_value, settings.value_functions),
        value_pair=ensemble(one_value, 2),
        policy=serial(normed(width), normed(width), dense(2 * spec.action_size, narrow_normal)),
        bins=two_hot(settings.bins, settings.bin_limit),
        world_optimiser=world_optimiser(settings),
        policy_optimiser=policy_optimiser(settings),
        target=polyak(settings.tau),
        learning_rate=settings.learning_rate,
        horizon=settings.horizon,
        step_weights=constant(lambda: settings.rho ** jnp.arange(settings.horizon + 1)),
        consistency_weight=settings.consistency_weight,
        reward_weight=settings.reward_weight,
        value_weight=settings.value_weight,
        entropy_weight=settings.entropy_weight,
        tau=settings.tau,
        value_functions=settings.value_functions,
    )


def world_optimiser(settings: TDMPC2Settings) -> Transformation:
    """Adam on the clipped gradient of the world model, with a lower learning rate for the encoder."""

    def slower(changes: Tree) -> Tree:
        encoder, *others = changes  # in the order of `model.World`
        return (jax.tree.map(lambda leaf: settings.encoder_rate * leaf, encoder), *others)

    return deferred(
        lambda: optax.chain(
            optax.clip_by_global_norm(settings.gradient_clip),
            optax.adam(settings.learning_rate),
            optax.stateless(lambda changes, params: slower(changes)),
        )
    )


def policy_optimiser(settings: TDMPC2Settings) -> Transformation:
    """Adam behind a clip of the whole gradient."""
    return deferred(
        lambda: optax.chain(
            optax.clip_by_global_norm(settings.gradient_clip), optax.adam(settings.learning_rate, eps=1e-5)
        )
    )


def planner_of(spec: Spec, settings: TDMPC2Settings) -> Planner:
    """The planner that the settings describe."""
    return Planner(
        horizon=settings.horizon,
        iterations=settings.iterations + 2 * (spec.action_size >= 20),  # as the authors' code
        samples=settings.samples,
        policy_samples=settings.policy_samples,
        elites=settings.elites,
        min_std=settings.min_std,
        max_std=settings.max_std,
        temperature=settings.planner_temperature,
    )


PRESETS = {
    "default": Preset(
        # Warm-up: five episodes of DeepMind Control; the code's rule is max(1000, 5 episodes).
        TDMPC2Settings(utd=1, warmup=2_500),
        "the authors' code (Hansen et al. 2024), "
        "which uses --no-terminations --action-repeat 1 --warmup 1000 on MyoSuite",
    )
}

TDMPC2 = Recipe(
    summary="latent world model and planning",
    settings=TDMPC2Settings,
    presets=PRESETS,
    make=tdmpc2,
    critic=lambda settings: CriticTraits(most=math.expm1(settings.bin_limit)),  # where its bins end
)
