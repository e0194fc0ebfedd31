"""DR.Q (2026): value learning on a representation that a world model trains, with fading priorities.

The heir of MR.Q. An encoder learns to predict its own next states, contrasted with those of other samples,
and rewards, over five decisions; every 250 decisions it makes 250 updates in a burst. On top of it, a
deterministic policy and two value functions learn as in TD3, from returns over three decisions. Samples are
drawn in proportion to their errors (LAP), and the older the less. `model.py` holds the networks and acts;
`learning.py` holds the losses and the update.
"""

from __future__ import annotations  # JAX's types are loaded on first use

from dataclasses import dataclass, replace
from functools import partial

from crossq_wn.algorithms.drq import learning, model
from crossq_wn.algorithms.drq.model import Model
from crossq_wn.algorithms.recipes import Preset, Recipe
from crossq_wn.algorithms.settings import Condition, Settings, require, require_positive
from crossq_wn.errors import option
from crossq_wn.lazy import optax
from crossq_wn.nets.layers import elu
from crossq_wn.nets.losses import two_hot_symexp
from crossq_wn.nets.optimisers import Transformation, deferred
from crossq_wn.types import Algorithm, Burst, InNumpy, Priorities, Sampling, Spec


@dataclass(frozen=True, kw_only=True)
class DRQSettings(Settings):
    """Hyperparameters of DR.Q; all numbers are from the authors' code, which has one set for all suites."""

    encoder_width: int = 750
    """Units per hidden layer of the state encoder and of the state-action encoder."""
    latent_size: int = 512
    """Size of the encoded state, and of the encoded state and action."""
    action_width: int = 256
    """Size of the embedded action."""
    width: int = 512
    """Units per hidden layer of policy and value functions."""
    bins: int = 65
    """Number of bins into which rewards are classified."""
    bin_limit: float = 10.0
    """The bins cover symlog rewards from minus this to this (10 stands for about 22,000)."""
    learning_rate: float = 3e-4
    """AdamW learning rate of encoder, policy and value functions."""
    weight_decay: float = 0.01
    """AdamW weight decay of all parameters, biases included."""
    target_period: int = 250
    """Gradient updates of value and policy from one copy of the target networks to the next, and of the
    encoder in the burst that follows on each; rounded to whole agent decisions."""
    horizon: int = 5
    """Agent decisions over which the encoder's model is unrolled."""
    n_step: int = 3
    """Agent decisions whose rewards a target counts before the value that follows, at most the horizon."""
    noise: float = 0.2
    """Standard deviation of the noise on training actions."""
    target_noise: float = 0.2
    """Standard deviation of the noise on actions in targets."""
    target_clip: float = 0.3
    """Limit of the noise on actions in targets."""
    dynamics_weight: float = 1.0
    """Weight of the error of predicted latent states."""
    reward_weight: float = 0.1
    """Weight of the reward loss."""
    contrast_weight: float = 0.1
    """Weight of the contrastive loss (InfoNCE) of predicted latent states."""
    contrast_temperature: float = 0.1
    """Temperature of the contrastive loss; lower ones separate near states more."""
    priority_exponent: float = 0.4
    """Samples are drawn in proportion to their last error to this power; 0 ignores errors."""
    priority_floor: float = 1.0
    """Errors below this count as this, in the reward's unit."""
    recency_fade: float = 0.9999
    """Priorities shrink by this factor with every agent decision; 1 ignores age."""
    recency_floor: float = 0.1
    """The factor at which priorities stop shrinking with age."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(
            self, "encoder_width", "latent_size", "action_width", "width", "target_period", "n_step"
        )
        require(self, "horizon", self.horizon >= 2, "a whole number of at least 2")
        require(self, "n_step", self.n_step <= self.horizon, f"at most {option('horizon')} ({self.horizon})")
        require(self, "bins", self.bins >= 2, "a whole number of at least 2")
        require(self, "learning_rate", 0 <= self.learning_rate < 1, "in [0, 1)")
        for name in ("bin_limit", "contrast_temperature", "priority_floor"):
            require(self, name, getattr(self, name) > 0, "above 0")
        require(self, "priority_exponent", 0 <= self.priority_exponent <= 1, "in [0, 1]")
        for name in ("recency_fade", "recency_floor"):
            require(self, name, 0.001 <= getattr(self, name) <= 1, "in [0.001, 1]")
        for name in (
            "weight_decay", "noise", "target_noise", "target_clip", "dynamics_weight", "reward_weight",
            "contrast_weight",
        ):  # fmt: skip
            require(self, name, getattr(self, name) >= 0, "0 or above")

    def conditions(self) -> list[Condition]:
        """See `Settings.conditions`."""
        needed = {
            "target_clip": ("target_noise", 0),
            "contrast_temperature": ("contrast_weight", 0),
            "priority_floor": ("priority_exponent", 0),
            "recency_floor": ("recency_fade", 1),
        }
        found = super().conditions()
        for name, (other, idle) in needed.items():
            found.append(Condition(name, getattr(self, other) != idle, f"with {option(other, idle)}"))
        return found

    @property
    def cycle(self) -> int:
        """The agent decisions from one copy of the target networks to the next."""
        return max(1, round(self.target_period / self.utd))


def drq(spec: Spec, settings: DRQSettings) -> Algorithm:
    """Binds the networks and their update into an algorithm."""
    made = networks(spec, settings)
    exploit = partial(model.exploit, made)
    return Algorithm(
        init=partial(model.init, made),
        explore=partial(model.explore, made),
        exploit=exploit,
        update=partial(learning.update, made),
        sampling=sampling(settings),
        burst=Burst(settings.cycle * settings.utd, settings.cycle, errors=False),
        period=2,  # half of all updates are the encoder's
        view=partial(learning.view, made),
        appraise=partial(model.appraise, made),
        in_numpy=InNumpy(exploit, partial(model.network, made)),
    )


def sampling(settings: DRQSettings) -> Sampling:
    """Fading priorities; a sample starts where a decision more than its horizon follows, or the task ends."""
    law = Priorities(
        exponent=settings.priority_exponent,
        floor=settings.priority_floor,
        fade=settings.recency_fade,
        faded=settings.recency_floor,
    )
    # Its code waits until the observation after the sample has been acted on, too.
    return Sampling(settings.horizon, settings.horizon + 1, to_termination=True, priorities=law)


def networks(spec: Spec, settings: DRQSettings) -> Model:
    """The networks, and how they are trained."""
    latent, width = settings.latent_size, settings.width
    return Model(
        spec=spec,
        encoder=model.encoder(settings.encoder_width, latent),
        action=model.embedding(settings.action_width),
        joint=model.three_layers(settings.encoder_width, latent, elu()),
        head=model.head(1 + latent + settings.bins),
        policy=model.policy(width, spec.action_size),
        values=model.value_functions(width),
        bins=two_hot_symexp(settings.bins, settings.bin_limit),
        world_optimiser=optimiser(settings),
        policy_optimiser=optimiser(settings),
        value_optimiser=optimiser(settings),
        learning_rate=settings.learning_rate,
        latent_size=latent,
        n_step=settings.n_step,
        period=settings.cycle * settings.utd,
        noise=settings.noise,
        target_noise=settings.target_noise,
        target_clip=settings.target_clip,
        dynamics_weight=settings.dynamics_weight,
        reward_weight=settings.reward_weight,
        contrast_weight=settings.contrast_weight,
        contrast_temperature=settings.contrast_temperature,
    )


def optimiser(settings: DRQSettings) -> Transformation:
    """AdamW whose decay spares no parameter."""
    return deferred(lambda: optax.adamw(settings.learning_rate, weight_decay=settings.weight_decay))


_CODE = DRQSettings(
    utd=1,  # of value and policy, and as many of the encoder
    warmup=9_981,  # until replay has 10,000 rows, with episodes of 500 decisions
    discount=0.99,  # on every suite
)
PRESETS = {
    "default": Preset(
        _CODE,
        "the authors' code (DR.Q, arXiv 2605.11711), for DeepMind Control; "
        "its own evaluations are --eval-episodes 10 --eval-every 10000",
    ),
    "myosuite": Preset(
        replace(_CODE, discount=0.95, warmup=9_804),  # 10,000 rows with episodes of 50 decisions
        "the same with MyoSuite's discount and a warm-up for its short episodes: ours, none is published",
    ),
}

DRQ = Recipe(
    summary="values on a world model's representation, 3-step returns, fading priorities",
    settings=DRQSettings,
    presets=PRESETS,
    make=drq,
    updates_per_utd=2,  # the encoder's come on top of those of value and policy, which the ratio counts
)
