"""What a run learned from: rewards, observations, actions and ends of episodes, as its replay has them.

If these leave nothing to learn, or have a scale that networks cannot learn from, that is the cause, and what
the critics' diagnostics show follows from it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.acting.interface import LARGE, Layout
from crossq_wn.algorithms import CriticTraits
from crossq_wn.data import replays
from crossq_wn.data.recording import Recording
from crossq_wn.data.replays import Ends
from crossq_wn.errors import option
from crossq_wn.results import reading
from crossq_wn.results.effects import without_effect
from crossq_wn.results.records import RunRecord
from crossq_wn.training.rows import LARGE_REWARD, distant

_MOST = 10_000  # transitions to read at either end of each seed's replay
_FEWEST = 100  # transitions; of fewer nothing is said
_FEWEST_EPISODES = 5

_SMALL_REWARD = 1e-2  # rewards that are all below, in absolute value, hardly count beside entropy
_OFFSET = 100  # mean of the rewards, in standard deviations
_FLAT = 1e-6  # spread of numbers that count as equal, as a share of the largest
_NARROW = 1e-2  # standard deviation of an observation's number that networks hardly see
_NARROWEST = 1e-4  # the same behind running statistics, to whose variances the square is added
_EDGE, _SATURATED = 0.99, 0.95  # actions beyond the one, and their share
_AT_LIMIT = 0.2  # share of the episodes that have the greatest length, if that is a time limit
_NAMED = 3  # numbers of an observation that are named


class Experience(NamedTuple):
    """The oldest and the newest transitions that a run's replay keeps, and what is known about them."""

    ends: list[Ends]  # by seed
    layout: Layout  # of an observation
    discount: float  # per agent decision
    warmup: int  # decisions of each seed, before all others, whose actions are random
    rising: bool  # whether the last evaluations are all better than the first one

    @property
    def parts(self) -> list[Recording]:
        """Everything that was read."""
        found = []
        for first, last, _ in self.ends:
            found += [first] if first is last else [first, last]
        return found

    @property
    def rewards(self) -> np.ndarray:
        """All rewards that were read, float64."""
        return np.concatenate([each.reward for each in self.parts]).astype(np.float64)

    @property
    def observations(self) -> np.ndarray:
        """All observations that were read, float32 [transitions, observation_size]; there may be many."""
        return np.concatenate([each.observation for each in self.parts])

    @property
    def extent(self) -> str:
        """How much was read: `all 3,000 decisions in replay`."""
        whole = all(first is last for first, last, _ in self.ends)
        return f"{'all' if whole else 'the oldest and newest'} {len(self.rewards):,} decisions in replay"


def experience(run: RunRecord, warn: Callable[[str], None]) -> Experience | None:
    """Reads what a run learned from; None if it is too little to judge.

    Args:
        run: of which nothing is imported.
        warn: is told of damaged checkpoints that are passed over.

    Raises:
        UserError: the run has no usable checkpoint.
    """
    ends, interface = replays.ends(run.path, _MOST, warn)
    if sum(len(each.last.reward) for each in ends) < _FEWEST:
        return None
    config = run.config
    return Experience(ends, interface.layout, config.discount, config.settings.warmup, _rising(run))


def _rising(run: RunRecord) -> bool:
    """Whether any seed's last evaluations are all better than its first one, which is of no training."""
    for tasks in reading.evaluations([run], run.config.metric).values():
        for curves in tasks.values():
            for values in curves.values:
                known = values[np.isfinite(values)]
                if len(known) > 1 and min(known[1:][-3:]) > known[0]:
                    return True
    return False


def causes(seen: Experience, critic: CriticTraits) -> list[str]:
    """Says what keeps the run from learning, whatever its algorithm does.

    Args:
        seen: what it learned from.
        critic: what is known of the algorithm's critic.
    """
    hidden = _first_decisions(seen) + _blindness(seen)  # the effect of actions, too
    return [
        *hidden,
        *_rewards(seen, critic),
        *_large_numbers(seen, critic),
        *([] if hidden else _powerlessness(seen)),
    ]


def remarks(seen: Experience, critic: CriticTraits) -> list[str]:
    """Says what may be meant so, and should be looked at because the run does not learn.

    Args:
        seen: what it learned from.
        critic: as in `causes`.
    """
    if seen.rising:
        return []
    return [*_time_limit(seen), *_useless_numbers(seen, critic), *_saturation(seen)]


def largest_value(seen: Experience, critic: CriticTraits, bonus: float) -> float | None:
    """The largest value, in absolute terms, that rewards can add up to; None if the critic scales rewards.

    Args:
        seen: what the run learned from.
        critic: as in `causes`.
        bonus: for entropy, per decision.
    """
    if critic.scales_rewards:
        return None
    return float((np.abs(seen.rewards).max() + abs(bonus)) / max(1 - seen.discount, 1e-6))


# Rewards


def _rewards(seen: Experience, critic: CriticTraits) -> list[str]:
    rewards = seen.rewards
    size = float(np.abs(rewards).max())
    if size == 0:
        return [
            f"every reward is 0 ({seen.extent}): there is nothing to learn from; see whether the environment "
            "passes its reward on, and if success alone is rewarded, reward steps towards it as well"
        ]
    alike = _lengths_say_nothing(seen)
    if alike and np.ptp(rewards) <= _FLAT * size:
        return [
            f"every reward is {rewards[0]:.3g} ({seen.extent}), and episodes do not end sooner or later by "
            "what the policy does: every policy has the same return"
        ]
    return _offset(rewards) if alike and _is_offset(rewards) else _scale(seen, critic, size)


def _is_offset(rewards: np.ndarray) -> bool:
    return bool(abs(rewards.mean()) > _OFFSET * rewards.std())


def _offset(rewards: np.ndarray) -> list[str]:
    mean, spread = rewards.mean(), rewards.std()
    return [
        f"rewards are {mean:,.4g} on average and differ by {spread:.1g} only: the critics learn the constant "
        f"and hardly what the policy changes; subtract about {mean:,.4g}"
    ]


def _scale(seen: Experience, critic: CriticTraits, size: float) -> list[str]:
    if critic.scales_rewards:
        return []
    if size > LARGE_REWARD:
        return [
            f"rewards reach {size:.3g}: networks learn badly from numbers of this scale; divide them by "
            f"about {_power_of_ten(size)}"
        ]
    if size < _SMALL_REWARD:
        return [
            f"rewards are at most {size:.2g} in absolute value: beside the entropy of the policy they hardly "
            f"count; multiply them by about {_power_of_ten(1 / size)}"
        ]
    values = float(np.abs(seen.rewards).mean() / max(1 - seen.discount, 1e-6))
    if values > critic.most:
        return [
            f"rewards add up to values of about {values:.2g}, and the critic's bins end at "
            f"{critic.most:.2g}: divide the rewards"
        ]
    return []


def _power_of_ten(size: float) -> str:
    """The power of ten nearest to a number above 1."""
    power = round(np.log10(size))
    return f"{10**power:,}" if power < 10 else f"1e{power}"


# Ends of episodes


def _first_decisions(seen: Experience) -> list[str]:
    if not all(each.terminated.all() for each in seen.parts):
        return []
    return [
        f"every episode ends with a termination at its first decision ({seen.extent}): nothing that comes "
        "later can be learned; see when the environment returns terminated"
    ]


def _lengths(seen: Experience) -> tuple[list[int], bool]:
    """The lengths in decisions of whole episodes, and whether all of them ended with a termination."""
    lengths: list[int] = []
    terminated = True
    for each in seen.parts:
        over = np.flatnonzero(each.terminated | each.truncated)
        lengths += np.diff(over).tolist()  # the first episode may be cut
        terminated = terminated and bool(each.terminated[over].all())
    return lengths, terminated


def _lengths_say_nothing(seen: Experience) -> bool:
    """Whether episodes do not end by what a policy does, as far as is known: none or all alike terminate."""
    if not any(each.terminated.any() for each in seen.parts):
        return True
    lengths, _ = _lengths(seen)
    return len(lengths) >= _FEWEST_EPISODES and len({*lengths}) == 1


def _time_limit(seen: Experience) -> list[str]:
    lengths, terminated = _lengths(seen)
    longest = max(lengths, default=0)
    often = lengths.count(longest)
    if not terminated or longest < 2 or often < max(_FEWEST_EPISODES, _AT_LIMIT * len(lengths)):
        return []
    return [
        f"{often:,} of {len(lengths):,} episodes end with a termination at decision {longest:,}, and none "
        "goes on longer: if that is a time limit, the environment should return truncated there, because a "
        "termination teaches that nothing would follow"
    ]


# Observations


def _blindness(seen: Experience) -> list[str]:
    if np.ptp(seen.observations, axis=0).any():
        return []
    return [f"the observation never changes ({seen.extent}): the policy cannot tell one state from another"]


def _large_numbers(seen: Experience, critic: CriticTraits) -> list[str]:
    if critic.normalises:
        return []
    largest = float(np.abs(seen.observations).max())
    train = f"train with {option('normalise_observations', True)}"
    if largest > LARGE:
        return [
            f"observations reach {largest:.3g}: networks learn badly from numbers of this scale; divide "
            f"them, or {train}"
        ]
    found = distant(seen.observations)
    if found is None:
        return []
    which = _which(np.arange(seen.observations.shape[1]) == found.number, seen.layout)
    return [
        f"{which} is {found.mean:,.4g} on average and differs by {found.spread:.2g} only: networks learn "
        f"badly from numbers so far from 0; subtract about {found.mean:,.4g}, or {train}"
    ]


def _useless_numbers(seen: Experience, critic: CriticTraits) -> list[str]:
    still = np.ptp(seen.observations, axis=0) == 0
    spread = seen.observations.std(axis=0, dtype=np.float64)
    limit = _NARROWEST if critic.normalises else _NARROW
    narrow = ~still & (spread < limit)
    said = []
    if still.any():
        said.append(
            f"{_which(still, seen.layout)} never change: harmless, unless the environment should fill them in"
        )
    if narrow.any():
        train = f", or train with {option('normalise_observations', True)}"
        said.append(
            f"{_which(narrow, seen.layout)} differ by less than {limit:g}: networks hardly see that; scale "
            f"them to about [-1, 1]{'' if spread[narrow].min() < _NARROWEST else train}"
        )
    return said


def _which(chosen: np.ndarray, layout: Layout) -> str:
    """Names numbers of an observation: `2 of the observation's 6 numbers (4, 5)`."""
    names = []
    for keys, shape in layout:
        for index in range(int(np.prod(shape))):
            names.append(f"{'.'.join(keys)}[{index}]" if keys else f"{index}")
    places = [names[index] for index in np.flatnonzero(chosen)]
    more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    return f"{len(places)} of the observation's {len(names)} numbers ({', '.join(places[:_NAMED])}{more})"


# Actions


def _powerlessness(seen: Experience) -> list[str]:
    begun = [_head(first, seen.warmup) for first, _, from_start in seen.ends if from_start]
    if not begun or not without_effect(begun):
        return []
    return [
        "nothing in the observation or the reward follows the actions of the warm-up, which are random: see "
        "whether the environment uses its action, and how late its effect is seen"
    ]


def _head(part: Recording, count: int) -> Recording:
    """The first transitions of a recording."""
    names = "observation", "reward", "terminated", "truncated", "next_observation", "agent_action"
    columns: dict[str, Any] = {name: getattr(part, name)[:count] for name in names}
    return part._replace(**columns)


def _saturation(seen: Experience) -> list[str]:
    actions = [_learned(each, seen.warmup) for each in seen.ends]
    edge = [np.abs(each) > _EDGE for each in actions if len(each) >= _FEWEST]
    if not edge:
        return []
    slower, more = option("actor_learning_rate"), option("initial_temperature")
    share = float(np.concatenate(edge).mean())
    if share < _SATURATED:
        return []
    return [
        f"{share:.0%} of the policy's actions are at their bounds, and returns do not rise: it hardly "
        f"explores any more; a lower {slower} or a higher {more}"
    ]


def _learned(ends: Ends, warmup: int) -> np.ndarray:
    """The newer half of the actions that a policy chose, [decisions, action_size]."""
    actions = ends.last.agent_action
    assert actions is not None
    own = actions[warmup:] if ends.first is ends.last and ends.from_start else actions
    return own[len(own) // 2 :]
