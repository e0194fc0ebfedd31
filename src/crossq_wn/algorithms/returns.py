"""Returns over n decisions, for targets that look further ahead than one reward.

y = r_0 + gamma r_1 + ... + gamma^(n-1) r_(n-1) + gamma^n V(s_n) (Sutton 1988), as in Rainbow (Hessel et al.
2018): the actions between are replay's, without a correction for today's policy, and in a soft actor-critic
their entropy does not count. A sample goes no further than its episode. Behind a termination nothing is
added; at a time limit, or at the newest transition of an unfinished episode, the value of the last
observation is added, discounted by as many decisions as there were. So no transition is left out: the last
ones of an episode are learned from too, and short episodes consist of them.
"""

from __future__ import annotations  # JAX's types are loaded on first use

from functools import partial

from crossq_wn.lazy import jnp
from crossq_wn.types import Algorithm, Array, Batch, CriticView, Metrics, Sampling, Tree, Update, View


def discounted(
    reward: Array, mask: Array, discount: float, present: Array | None = None
) -> tuple[Array, Array]:
    """Discounted sums of rewards, up to a termination or to the last decision that is present.

    Args:
        reward: [..., n], one entry per agent decision.
        mask: [..., n], 0 where the task terminated with that decision.
        discount: gamma, per agent decision.
        present: [..., n], 1 for the first decisions and then 0, as in `Batch.present`; None: all 1.

    Returns:
        The sums [...], and masks [...]: gamma times the mask is the factor of the value that follows. It is
        gamma^(m - 1) after m decisions, and 0 after a termination.
    """
    weight = jnp.ones_like(reward[..., 0])
    total, last = reward[..., 0], mask[..., 0]
    for step in range(1, reward.shape[-1]):
        there = 1.0 if present is None else present[..., step]
        weight = discount * weight * mask[..., step - 1]
        total = total + there * weight * reward[..., step]
        last = jnp.where(jnp.asarray(there) > 0, weight * mask[..., step], last)
    return total, last


def shortened(batch: Batch, discount: float) -> Batch:
    """Samples of several transitions as one transition each, from the first observation to the last.

    An update that learns from single transitions then learns from n of them.

    Args:
        batch: leaves [B, n, ...].
        discount: gamma, per agent decision.
    """
    reward, mask = discounted(batch.reward, batch.mask, discount, batch.present)
    first, last = batch.observation[..., 0, :], batch.next_observation[..., -1, :]
    return Batch(first, batch.action[..., 0, :], reward, mask, last)


def over_steps(algorithm: Algorithm, n: int, discount: float) -> Algorithm:
    """The algorithm with targets over n decisions instead of one; for n = 1 it is the same object.

    Args:
        algorithm: learns from single transitions.
        n: agent decisions.
        discount: gamma, per agent decision.
    """
    if n == 1:
        return algorithm
    view = algorithm.view
    return algorithm._replace(
        update=partial(_update, algorithm.update, discount),
        view=view and partial(_view, view, discount),
        sampling=Sampling(horizon=n, whole=1),
    )


def _update(update: Update, discount: float, state: Tree, batch: Batch, count: Array) -> tuple[Tree, Metrics]:
    return update(state, shortened(batch, discount), count)


def _view(view: View, discount: float, state: Tree, batch: Batch, count: Array) -> CriticView:
    return view(state, shortened(batch, discount), count)
