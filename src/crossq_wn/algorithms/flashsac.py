"""FlashSAC (2026): normalised inverted residual blocks, a categorical critic, and noise that lasts.

Networks: batch norm on the raw input, a linear embedding, blocks x + relu(BN(W2 relu(BN(W1 x)))) that are
four times as wide inside, RMS norm, a linear head. Everything that has a scale is held at it after every
gradient step: each neuron's weights at norm 1, and the scale and bias of each normalisation jointly at the
square root of the number of its features. Both networks are trained on s and s' together. Critics are
categorical on [-5, 5]. Rewards are divided by the return's standard deviation, or by more if a return seen so
far would leave that range. The actor is updated in the first of every two updates, before the critic, whose
target uses the actor just updated. In training, the noise of actions stays the same for k decisions, with
probability proportional to k^-2.
"""

from __future__ import annotations  # JAX's types are loaded on first use

import math
from dataclasses import dataclass, replace

from crossq_wn.algorithms.actor_critic import Parts, actor_first, compose
from crossq_wn.algorithms.crossq import joint_target
from crossq_wn.algorithms.exploration import repeat_noise, zeta
from crossq_wn.algorithms.normalisers import add_sample_padded, bounded_return, scale_rewards
from crossq_wn.algorithms.recipes import CriticTraits, Preset, Recipe
from crossq_wn.algorithms.settings import CategoricalSettings, Condition, require, require_positive
from crossq_wn.algorithms.state import State
from crossq_wn.errors import option
from crossq_wn.lazy import jnp, optax
from crossq_wn.nets.initialisers import orthogonal
from crossq_wn.nets.layers import Layer, dense, ensemble, linear, relu, residual, serial
from crossq_wn.nets.losses import averaged, categorical
from crossq_wn.nets.normalisation import affine_norm, batch_norm, per_neuron_kernel, rms_norm, weight_norm
from crossq_wn.nets.optimisers import deferred_schedule, polyak
from crossq_wn.nets.policies import gaussian_head, squeezed
from crossq_wn.types import Array, Batch, Spec, Tree


@dataclass(frozen=True, kw_only=True)
class FlashSACSettings(CategoricalSettings):
    """Hyperparameters of FlashSAC; all numbers are from the authors' code."""

    blocks: int = 2
    """Residual blocks of actor and critics."""
    learning_rate_updates: int | None = None
    """Updates over which each learning rate falls along half a cosine, counting each one's own updates; by
    default the UTD ratio times all agent decisions that the run is started for."""
    noise_exponent: float = 2.0
    """Exploration noise lasts for k decisions with probability k to the power of minus this, normalised."""
    noise_longest: int = 16
    """The most agent decisions for which exploration noise lasts; 1 draws new noise for every decision."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "blocks", "noise_longest")
        require(self, "noise_exponent", self.noise_exponent >= 0, "0 or above")

    def conditions(self) -> list[Condition]:
        """See `Settings.conditions`."""
        short = f"with {option('noise_longest', 1)}, as no noise lasts then"
        return [*super().conditions(), Condition("noise_exponent", self.noise_longest > 1, short)]

    def schedule(self, learning_rate: float) -> optax.ScalarOrSchedule:
        """Falls along half a cosine, after a millionth of the updates at the first learning rate."""
        updates = self.learning_rate_updates
        if self.learning_rate_end == 1 or updates is None:  # in which case it is an error
            return super().schedule(learning_rate)
        end, constant = learning_rate * self.learning_rate_end, updates // 1_000_000
        return deferred_schedule(
            lambda: optax.warmup_cosine_decay_schedule(learning_rate, learning_rate, constant, updates, end)
        )


def parts(spec: Spec, settings: FlashSACSettings) -> Parts:
    """FlashSAC's networks, joint passes, scaled rewards and lasting noise."""
    limit = settings.value_limit
    actor_head = gaussian_head(spec.action_size, mean_gain=1.0, log_std_gain=1.0)
    member = network(settings.critic_width, settings.blocks, dense(settings.atoms, orthogonal(1.0)))
    base = compose(
        spec,
        settings,
        actor=network(settings.actor_width, settings.blocks, actor_head),
        policy=squeezed(-10.0, 2.0),
        critic=ensemble(member, settings.critics),
        q_pair=joint_target,
        target=polyak(settings.tau),
        readout=averaged(categorical(-limit, limit, settings.atoms)),
    )._replace(order=actor_first, actor_turn=0, actor_pass=joint_states)
    held = repeat_noise(base, zeta(settings.noise_exponent, settings.noise_longest))
    scale = bounded_return(limit)._replace(prior=0.0, add=add_sample_padded)
    return base._replace(around=(held, scale_rewards(spec, scale)))


def joint_states(actor: Layer, params: Tree, state: State, batch: Batch) -> tuple[Array, Tree]:
    """One pass over s and s', so the actor sees the same distribution of states as its critic.

    Args:
        actor: the network.
        params: its parameters, of which the loss is a function.
        state: of one seed; gives the running statistics.
        batch: leaves [B, ...].

    Returns:
        The output on s [B, 2 * action_size], and the new statistics, which s and s' have shaped.
    """
    both = jnp.concatenate([batch.observation, batch.next_observation])
    output, stats = actor.apply(params, state.actor.stats, both, train=True)
    return output[: len(batch.observation)], stats


def network(width: int, blocks: int, head: Layer) -> Layer:
    """The embedding and the blocks, with an output layer whose kernel has unit norm; its bias is free.

    Args:
        width: of the embedding and of what blocks pass on; inside they are four times as wide.
        blocks: number of residual blocks.
        head: the output layer.
    """
    # As in PyTorch, the running variance is unbiased, unlike the variance that normalises a training pass.
    norm = affine_norm(batch_norm(momentum=0.99, epsilon=1e-5, ddof=1))
    block = residual(unit(4 * width), norm, relu(), unit(width), norm, relu())
    return serial(norm, unit(width), *[block] * blocks, affine_norm(rms_norm()), held_kernel(head))


def unit(n_out: int) -> Layer:
    """A linear map whose kernel has unit norm per output neuron."""
    return held_kernel(linear(n_out, orthogonal(1.0)))


def held_kernel(layer: Layer) -> Layer:
    """Holds a dense layer's kernel at unit norm per output neuron."""
    return weight_norm(layer, per_neuron_kernel)


def target_entropy_scale(std: float) -> float:
    """The negative entropy of a normal of this standard deviation: a target entropy per action dimension."""
    return -0.5 * math.log(2 * math.pi * math.e * std**2)


_CODE = FlashSACSettings(
    utd=1,  # of the critic; of actor and temperature half as many
    batch_size=512,
    warmup=10_000,
    action_repeat=1,  # on every suite
    actor_width=128,
    critic_width=256,
    initial_temperature=0.01,
    target_entropy_scale=target_entropy_scale(0.15),
    policy_delay=2,
    learning_rate_end=0.5,  # at the end of the run
    tau=0.01,
)
PRESETS = {
    "default": Preset(
        _CODE,
        "the authors' code (FlashSAC, arXiv 2604.04539), its settings for one simulator on a CPU; "
        "its own evaluations are --eval-episodes 50 --eval-every 100000",
    ),
    "repeat-2": Preset(
        # As many updates and random actions per frame as in the code.
        replace(_CODE, action_repeat=2, utd=2, warmup=5_000),
        "the same at this package's action repeat, with as many updates and random frames: ours",
    ),
}

FLASHSAC = Recipe(
    summary="normalised inverted residual blocks, categorical critic, held noise",
    settings=FlashSACSettings,
    presets=PRESETS,
    make=parts,
    critic=lambda settings: CriticTraits(
        scale_free=True, bounded=True, scales_rewards=True
    ),  # all kernels are held
)
