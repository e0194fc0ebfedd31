"""The training passes through the networks of a soft actor-critic, as in SAC: separate ones.

Batch norm uses the same statistics for everything in one pass, so the choice of passes decides whose
statistics shape whose outputs. CrossQ (`crossq`), FlashSAC and REDQ choose others on their pages.
"""

from collections.abc import Callable

from crossq_wn.algorithms.state import State
from crossq_wn.nets.layers import Layer
from crossq_wn.types import Array, Batch, Tree

# How Q(s, a) and Q(s', a') are computed, for x = (s, a) and next_x = (s', a'), each [B, .]. The key is for
# passes that choose critics at random.

Passed = tuple[Array, Array, Tree]  # outputs [critic, B, atom] on x and on next_x, new online statistics
QPair = Callable[[Layer, Tree, State, Array, Array, Array], Passed]  # (critic, theta, state, x, next_x, key)


def separate(critic: Layer, theta: Tree, state: State, x: Array, next_x: Array, key: Array) -> Passed:
    """SAC: the online critic on (s, a) and the target critic on (s', a'), in two passes.

    Args:
        critic: the ensemble of critics.
        theta: the online parameters, of which the loss is a function.
        state: of one seed; gives the target parameters and the running statistics.
        x: (s, a), [B, observation_size + action_size].
        next_x: (s', a'), of the same shape.
        key: unused; dropout's key is among the statistics.
    """
    # The second pass takes the statistics of the first, because they hold the random key of dropout.
    next_q, stats = critic.apply(state.target, state.critic.stats, next_x, train=True)
    q, stats = critic.apply(theta, stats, x, train=True)
    return q, next_q, stats


# How the actor's loss computes the actor's output on s

ActorPass = Callable[[Layer, Tree, State, Batch], tuple[Array, Tree]]  # -> output [B, .] on s, new statistics


def own_states(actor: Layer, params: Tree, state: State, batch: Batch) -> tuple[Array, Tree]:
    """SAC: a pass over s alone.

    Args:
        actor: the network.
        params: its parameters, of which the loss is a function.
        state: of one seed; gives the running statistics.
        batch: leaves [B, ...].
    """
    return actor.apply(params, state.actor.stats, batch.observation, train=True)
