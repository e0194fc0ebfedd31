"""What a learner of several seeds can do."""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from crossq_wn.learning.axis import Join, Split
from crossq_wn.learning.minibatches import Fed, Load, Pack
from crossq_wn.types import Metrics

States = Any  # the states of all seeds, joined; `update` and `observe` donate them
Memories = Any  # the memory of acting in each seed's current episode, joined


class FreshMemories(Protocol):
    """Makes the memories of acting at the start of episodes."""

    def __call__(self, count: int, /) -> Memories:
        """Returns those of the given number of seeds, joined."""


class Explore(Protocol):
    """Chooses the actions of a training decision, for all seeds."""

    def __call__(
        self, states: States, memories: Memories, observations: np.ndarray, decision: int, /
    ) -> tuple[Any, Memories]:
        """Takes observations [S, observation_size] and the number of decisions so far; does not wait.

        Returns:
            Actions [S, action_size], which `np.asarray` waits for, and the new memories.
        """


class Exploit(Protocol):
    """Chooses the actions of an evaluation decision deterministically, for all seeds."""

    def __call__(
        self, states: States, memories: Memories, observations: np.ndarray, /
    ) -> tuple[np.ndarray, Memories]:
        """Takes observations [S, observation_size]; returns actions [S, action_size] and the new memories."""


class Observe(Protocol):
    """Shows every seed's learner its newest transition."""

    def __call__(
        self, states: States, observations: np.ndarray, rewards: np.ndarray, ended: np.ndarray, /
    ) -> States:
        """Takes observations [S, observation_size], rewards [S] and ended [S]; donates the states."""


class Update(Protocol):
    """Makes the gradient updates of one decision, for all seeds."""

    def __call__(self, states: States, fed: Fed, first: int, /) -> tuple[States, Any]:
        """Makes U updates per seed.

        Args:
            states: of all seeds, which are donated.
            fed: the minibatches, as `load` returns them.
            first: gradient updates per seed before these.

        Returns:
            The new states, and the metrics of the last update, joined; `ERRORS` of all updates, [U, B].
        """


class Diagnose(Protocol):
    """Computes the diagnostics of every seed's critic."""

    def __call__(self, states: States, fed: Fed, last: int, /) -> list[Metrics]:
        """Takes the minibatches of the newest decision, and the number `last` of its last update.

        Returns:
            Per seed the diagnostics of that update's critic and minibatch, on the host.
        """


class Appraise(Protocol):
    """Asks every seed's critics for the value of a stochastic action."""

    def __call__(
        self, states: States, observations: np.ndarray, decision: int, /
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Takes observations [S, observation_size], and the number that selects the action noise.

        Returns:
            Actions [S, action_size], -alpha log pi of each [S], and Q of each [S].
        """


class Compile(Protocol):
    """Compiles the programs of a training decision before they are first used."""

    def __call__(self, states: States, fed: Fed, observations: np.ndarray, /) -> Callable[[], None]:
        """Takes what the programs will be given; only shapes count.

        Returns:
            The work, which any thread may do.
        """


class Learner(NamedTuple):
    """An algorithm over S seeds, with U gradient updates per decision."""

    states: Join  # of the seeds' states, in the form that the programs take
    join: Join  # of metrics and memories
    split: Split
    fresh_memories: FreshMemories
    explore: Explore
    exploit: Exploit
    observe: Observe | None  # None: the algorithm does not follow the transitions of training
    observe_rows: Observe | None  # likewise; takes n consecutive transitions of each seed, [S, n, ...]
    pack: Pack
    load: Load
    update: Update
    compile: Compile
    diagnose: Diagnose | None  # None: the algorithm has no diagnostics
    appraise: Appraise | None  # None: the algorithm's Q-bias cannot be measured
