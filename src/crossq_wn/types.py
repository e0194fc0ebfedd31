"""The shared types of the numeric core: what an algorithm is given, what it is, and what it returns."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from crossq_wn.acting.operations import Network

if TYPE_CHECKING:
    from jax import Array as Array
else:
    Array = Any  # naming a type must not load JAX

Tree = Any  # a pytree of arrays
Metrics = dict[str, Array]

# The metric in which algorithms that draw by priorities return the absolute error of each sample [B]. Samples
# whose errors are not finite keep their priorities.
ERRORS = "sample_errors"


class Spec(NamedTuple):
    """The problem that an algorithm is built for."""

    observation_size: int
    action_size: int
    discount: float  # gamma, per agent decision


class Batch(NamedTuple):
    """Transitions drawn from replay: one minibatch of `B` samples, as one seed's algorithm sees it."""

    observation: Array  # [B, observation_size]
    action: Array  # [B, action_size], each entry in [-1, 1]
    reward: Array  # [B], summed over the frames of one decision
    mask: Array  # [B], 0 only where the environment truly terminated; a time limit keeps 1
    next_observation: Array  # [B, observation_size], the observation before any reset
    # [B, horizon], 1 up to the end of a sample's episode, then 0, where its last transition is repeated;
    # None: samples never go on behind it.
    present: Array | None = None


class Priorities(NamedTuple):
    """Samples start more often at transitions that were predicted badly (Schaul et al. 2016).

    A transition is drawn in proportion to max(|delta|, floor)^exponent, with the error |delta| of the last
    update that drew it, times max(fade^age, faded), where its age counts the transitions that came after it.
    New transitions get the largest priority that any has had. There are no importance weights: a loss that
    is linear beyond the floor makes up for them (LAP, Fujimoto et al. 2020).
    """

    exponent: float
    floor: float
    fade: float = 1.0
    faded: float = 1.0


class Sampling(NamedTuple):
    """How samples are drawn from replay: uniformly, unless there are priorities."""

    horizon: int = 1  # consecutive transitions per sample
    # The least transitions of one episode that a sample takes; None: its whole horizon. A sample that its
    # episode cuts short repeats the last transition; see `Batch.present`.
    whole: int | None = None
    to_termination: bool = False  # whether it may also start where the task terminates sooner
    priorities: Priorities | None = None

    @property
    def required(self) -> int:
        """The number of transitions of one episode that there must be from where a sample starts."""
        return self.horizon if self.whole is None else self.whole

    @property
    def ends_early(self) -> bool:
        """Whether an episode may end before a sample does."""
        return self.to_termination or self.required < self.horizon


class Burst(NamedTuple):
    """Gradient updates that come at once, before those that follow on every decision."""

    updates: int = 0
    every: int | None = None  # agent decisions from one burst to the next; None: there is only the first
    errors: bool = True  # whether its updates find errors of samples, where priorities are made of these

    def at(self, decision: int) -> int:
        """The updates of a burst at a decision, counted from the first one that is followed by updates."""
        due = decision == 0 if self.every is None else decision % self.every == 0
        return self.updates if due else 0

    def until(self, decisions: int) -> int:
        """The updates of all bursts at so many decisions that are followed by updates."""
        if decisions <= 0:
            return 0
        return self.updates * (1 if self.every is None else -(-decisions // self.every))

    def with_regular(self, decisions: int, utd: int) -> int:
        """All updates at so many decisions that are followed by updates: bursts, and `utd` at each."""
        return max(0, decisions) * utd + self.until(decisions)


class Vars(NamedTuple):
    """A network's variables: parameters and statistics."""

    params: Tree  # what the optimiser changes
    stats: Tree  # what forward passes in training update, such as batch norm's running statistics


class CriticView(NamedTuple):
    """The critic in one gradient update, for the diagnostics; params and stats are tuples over critics."""

    params: Tree
    loss: Callable[[Tree], Array]  # params -> what this update minimises, on its own minibatch
    learning_rate: Array | float
    hidden: tuple[Array, ...]  # per non-linearity [critic, sample, unit]: its outputs in training mode
    stats: Tree  # running statistics before the update
    new_stats: Tree  # running statistics after one more training pass
    target: Array  # [B], the regression targets; where they are distributions, their expectations


class Appraisal(NamedTuple):
    """A stochastic action and the critics' estimate of its value."""

    action: Array  # [action_size]
    bonus: Array  # -alpha log pi(a|s), which a soft value adds to the reward
    q: Array  # Q(s, a), the mean of the critics


class Init(Protocol):
    """Creates the initial state of a learner."""

    def __call__(self, generator: np.random.Generator, /) -> Tree:
        """Draws the state in NumPy.

        Args:
            generator: the source of all randomness.

        Returns:
            A pytree of arrays: all that one seed's learner carries from update to update.
        """


class Explore(Protocol):
    """Chooses the action of a training decision."""

    def __call__(
        self, state: Tree, memory: Tree, observation: Array, decision: Array, /
    ) -> tuple[Array, Tree]:
        """Draws a stochastic action.

        Args:
            state: of the learner.
            memory: what acting carries from one decision of an episode to the next; `Algorithm.memory` at its
                start, or what `Algorithm.recall` makes of the episode before.
            observation: [observation_size].
            decision: agent decisions of training before this one; selects the random numbers.

        Returns:
            An action [action_size] with entries in [-1, 1], and the memory for the next decision.
        """


class Exploit(Protocol):
    """Chooses the action of an evaluation decision."""

    def __call__(self, state: Tree, memory: Tree, observation: Array, /) -> tuple[Array, Tree]:
        """Like `Explore`, but deterministic: equal arguments give equal actions."""


class Update(Protocol):
    """Makes one gradient update."""

    def __call__(self, state: Tree, batch: Batch, count: Array, /) -> tuple[Tree, Metrics]:
        """Learns from one minibatch.

        Args:
            state: of the learner; its buffers are donated, so it must not be used again.
            batch: one minibatch; with a horizon above 1 its leaves are [B, horizon, ...].
            count: gradient updates before this one; selects the random numbers.

        Returns:
            The new state, and scalar metrics by name; also `ERRORS`, where samples are drawn by priorities.
            After a numerical failure at least one of the scalars is not finite.
        """


class Observe(Protocol):
    """Follows the transitions of training, to keep running statistics of them."""

    def __call__(self, state: Tree, observation: Array, reward: Array, ended: Array, /) -> Tree:
        """Receives each training transition once, before the transition can be drawn from replay.

        Args:
            state: of the learner; its buffers are donated.
            observation: [observation_size], on which the agent decided.
            reward: scalar, summed over the frames of the decision.
            ended: scalar boolean, whether the episode ended with this decision.

        Returns:
            The new state.
        """


class View(Protocol):
    """Exposes the critic to the diagnostics."""

    def __call__(self, state: Tree, batch: Batch, count: Array, /) -> CriticView:
        """The critic as the gradient update with the same arguments sees it; changes nothing."""


class Appraise(Protocol):
    """Asks the critics which return they expect; Q-bias compares it with the return that follows."""

    def __call__(self, state: Tree, observation: Array, decision: Array, /) -> Appraisal:
        """Draws an action for one observation [observation_size], and estimates its value."""


class UndescribedError(Exception):
    """A function of JAX does not say what it computes without JAX."""


class InNumpy(NamedTuple):
    """What a function of JAX computes in evaluation, as operations of `acting.operations`.

    It describes this very function: once a layer's `apply`, say, has been replaced, the description no longer
    holds and is not used.
    """

    function: Callable[..., Any]
    describe: Callable[..., Any]

    @staticmethod
    def of(function: Callable[..., Any] | None, described: "InNumpy | None") -> Callable[..., Any]:
        """Returns how a function is described.

        Raises:
            UndescribedError: it is not.
        """
        if described is None or described.function is not function:
            raise UndescribedError
        return described.describe


def never(decision: int) -> bool:
    """The reset schedule of a learner that is never reset."""
    return False


def fresh(state: Tree, new: Tree) -> Tree:
    """A reset that keeps nothing of the old state."""
    return new


class Algorithm(NamedTuple):
    """An algorithm is a record of pure functions, written for ONE seed; `learner` adds the seed axis.

    `update` counts gradient updates and `explore` counts agent decisions. Both counters select random
    numbers, so a state and its two counters are all that is needed to resume.
    """

    init: Init
    explore: Explore
    exploit: Exploit
    update: Update
    # Most algorithms keep these defaults.
    memory: Tree = ()  # the memory of acting at the start of an episode
    recall: Callable[[Tree, Tree], Tree] = fresh  # (memory at an episode's end, `memory`) -> the next one's
    observe: Observe | None = None  # None: the algorithm does not follow the transitions of training
    resets: Callable[[int], bool] = never  # decision, counted from 1 -> whether to reset before its updates
    reset: Callable[[Tree, Tree], Tree] = fresh  # (state, fresh state) -> state after a reset
    sampling: Sampling = Sampling()  # how its samples are drawn from replay
    burst: Burst = Burst()  # further gradient updates at some decisions, such as at the end of the warm-up
    period: int = 1  # gradient updates after which the pattern of work repeats (the policy delay)
    view: View | None = None  # None: the algorithm has no diagnostics
    appraise: Appraise | None = None  # None: the algorithm's Q-bias cannot be measured
    prior: Exploit | None = None  # acts by the network alone; None: `exploit` does, and searches for nothing
    normalises: bool = False  # whether running statistics normalise its observations; see `normalisers`
    # `describe` takes a state and returns the `Network` of `prior` or `exploit`; None: acting needs JAX.
    in_numpy: InNumpy | None = None
    # The `explore` that draws from the Gaussian of the described network; another one takes JAX.
    gaussian: Explore | None = None

    @property
    def horizon(self) -> int:
        """The number of consecutive transitions in a sample."""
        return self.sampling.horizon


def network_of(algorithm: Algorithm, state: Tree) -> Network:
    """The policy network of a state, for acting without JAX.

    Args:
        algorithm: whose.
        state: of its learner; anything whose entries have the names of a state's.

    Raises:
        UndescribedError: the algorithm, or a layer of its network, does not say what it computes without JAX.
    """
    acts = algorithm.exploit if algorithm.prior is None else algorithm.prior
    network: Network = InNumpy.of(acts, algorithm.in_numpy)(state)
    return network
