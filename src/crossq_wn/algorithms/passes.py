"""The training passes through the networks of a soft actor-critic: with one half of a batch, or with both.

Batch norm uses the same statistics for everything in one pass, so this decides whose statistics shape whose
outputs.
"""

from collections.abc import Callable
from functools import partial

from crossq_wn.algorithms.state import State
from crossq_wn.lazy import jax, jnp
from crossq_wn.nets.layers import Layer, ensemble
from crossq_wn.types import Array, Batch, Tree

# How Q(s, a) and Q(s', a') are computed, for x = (s, a) and next_x = (s', a'), each [B, .]. The key is for
# passes that choose critics at random.

Passed = tuple[Array, Array, Tree]  # outputs [critic, B, atom] on x and on next_x, new online statistics
QPair = Callable[[Layer, Tree, State, Array, Array, Array], Passed]  # (critic, theta, state, x, next_x, key)


def separate(critic: Layer, theta: Tree, state: State, x: Array, next_x: Array, key: Array) -> Passed:
    """SAC: the online critic on (s, a) and the target critic on (s', a'), in two passes."""
    # The second pass takes the statistics of the first, because they hold the random key of dropout.
    next_q, stats = critic.apply(state.target, state.critic.stats, next_x, train=True)
    q, stats = critic.apply(theta, stats, x, train=True)
    return q, next_q, stats


def separate_subset(member: Layer, size: int) -> QPair:
    """REDQ (algorithm 1): like `separate`, but only a random subset of the target critics is evaluated.

    Args:
        member: one critic, without statistics.
        size: number of critics in the subset (M), which is drawn anew for each minibatch.
    """

    subset = ensemble(member, size)

    def pair(critic: Layer, theta: Tree, state: State, x: Array, next_x: Array, key: Array) -> Passed:
        chosen = jax.random.choice(key, len(state.target), (size,), replace=False)
        members = tuple(_member(state.target, index) for index in chosen)
        next_q, _ = subset.apply(members, state.critic.stats[:size], next_x, train=True)
        q, stats = critic.apply(theta, state.critic.stats, x, train=True)
        return q, next_q, stats

    return pair


def _member(members: tuple[Tree, ...], index: Array) -> Tree:
    """One of an ensemble's trees; without a seed axis the others are not even read."""
    return jax.lax.switch(index, [partial(_itself, member) for member in members])


def _itself(tree: Tree) -> Tree:
    return tree


def joint(critic: Layer, theta: Tree, state: State, x: Array, next_x: Array, key: Array) -> Passed:
    """CrossQ (section 2): one pass over (s, a) and (s', a'), which then share batch statistics; no target."""
    both, stats = critic.apply(theta, state.critic.stats, jnp.concatenate([x, next_x]), train=True)
    q, next_q = jnp.split(both, 2, axis=1)
    return q, next_q, stats


def joint_target(critic: Layer, theta: Tree, state: State, x: Array, next_x: Array, key: Array) -> Passed:
    """CrossQ + WN (section 4): the joint pass through critic and target critic, both in training mode.

    With batch norm, a training pass does not read the running statistics. Batch renorm does read them;
    prediction and target must then be corrected alike, so both passes use those of the online critic.
    """
    both = jnp.concatenate([x, next_x])
    q, stats = critic.apply(theta, state.critic.stats, both, train=True)
    target_q, _ = critic.apply(state.target, state.critic.stats, both, train=True)
    return q[:, : len(x)], target_q[:, len(x) :], stats


# How the actor's loss computes the actor's output on s

ActorPass = Callable[[Layer, Tree, State, Batch], tuple[Array, Tree]]  # -> output [B, .] on s, new statistics


def own_states(actor: Layer, params: Tree, state: State, batch: Batch) -> tuple[Array, Tree]:
    """SAC: a pass over s alone."""
    return actor.apply(params, state.actor.stats, batch.observation, train=True)


def joint_states(actor: Layer, params: Tree, state: State, batch: Batch) -> tuple[Array, Tree]:
    """FlashSAC: one pass over s and s', so the actor sees the same distribution of states as its critic."""
    both = jnp.concatenate([batch.observation, batch.next_observation])
    output, stats = actor.apply(params, state.actor.stats, both, train=True)
    return output[: len(batch.observation)], stats
