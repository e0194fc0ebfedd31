"""The settings that all algorithms share, and those that all soft actor-critics share.

Defaults are what most columns of the paper's Table 1 (v2) have in common; each page states in its presets
what departs from them. A setting's docstring is its help text on the command line.
"""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, NamedTuple, Self

from crossq_wn.algorithms import kinds, own_networks
from crossq_wn.algorithms.sources import without_checksum
from crossq_wn.errors import UserError, option, stated
from crossq_wn.lazy import optax
from crossq_wn.nets.optimisers import deferred_schedule

# What makes layers wide, and what repeats layers or parts of the program. Whether all of it fits into memory
# is found out before training; these limits keep that from taking long.
_UNITS = (
    "actor_width", "critic_width", "encoder_width", "width", "latent_size", "atoms", "bins", "quantiles",
    "action_width", "samples", "policy_samples", "elites", "noise_longest",
)  # fmt: skip
_COPIES = (
    "critics", "blocks", "actor_blocks", "critic_blocks", "hidden_layers", "value_functions", "horizon",
    "iterations", "n_step",
)  # fmt: skip


class Condition(NamedTuple):
    """What must hold for a setting or an option to have an effect beside the others."""

    name: str
    holds: bool
    otherwise: str  # where it does not, to complete "it must be left out ..."


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings that the training loop needs of any algorithm."""

    utd: int
    """Gradient updates per agent decision (UTD ratio); more learn more per frame and cost in proportion."""
    batch_size: int = 256  # Table 1, all columns but BRO
    """Transitions (or sequences of them) per gradient update, which costs in proportion."""
    warmup: int = 5_000  # Table 1, CrossQ, CrossQ + WN and SimBa
    """Agent decisions with uniform actions before the first gradient update; lower it for short runs."""
    replay_size: int = 1_000_000  # the authors' later code, and every rival's
    """Rows of replay per seed, one per transition and one per episode; lower it if memory is short."""
    discount: float | None = None
    """Discount per agent decision (gamma); by default that of the task's suite."""
    action_repeat: int | None = None
    """Environment frames per agent decision; by default those of the task's suite."""

    def __post_init__(self) -> None:
        require_types(self)
        _require_sizes(self)
        require_positive(self, "utd", "batch_size")
        require(self, "replay_size", self.replay_size >= 2, "a whole number of at least 2")
        require(self, "warmup", self.warmup >= 1, "at least 1 agent decision")
        require(self, "action_repeat", self.action_repeat is None or self.action_repeat >= 1, "at least 1")
        require(self, "discount", self.discount is None or 0 <= self.discount < 1, "in [0, 1)")

    def conditions(self) -> list[Condition]:
        """What must hold for settings to have an effect; those that are not named always have one."""
        return []

    def pinned(self) -> Self:
        """These settings, with what identifies the code of a user's networks; such code is imported."""
        return self

    def for_run(self, decisions: int) -> Self:
        """These settings, completed by what depends on the length of the run.

        Args:
            decisions: agent decisions that the run is started for, per seed.
        """
        return self


@dataclass(frozen=True, kw_only=True)
class UnloadedSettings(Settings):
    """The settings of a user's own algorithm whose module is not loaded."""

    others: Any
    """The settings that only the algorithm knows, as pairs of name and value."""


def unloaded(values: Mapping[str, Any]) -> UnloadedSettings:
    """Makes settings of values by name, for any algorithm; raises TypeError if a shared one is missing."""
    shared = {name: value for name, value in values.items() if name in setting_names(Settings)}
    others = {name: value for name, value in values.items() if name not in shared}
    return UnloadedSettings(**shared, others=tuple(sorted(others.items())))


def networks_of(settings: Settings) -> dict[str, str]:
    """The names of the user's own networks, by setting, even if the algorithm is not loaded."""
    values = values_of(settings)
    found = {}
    for name in own_networks.NAMES:
        value = values.get(name)
        if isinstance(value, str) and ":" in value:  # a user's own algorithm may mean something else
            found[name] = value
    return found


def values_of(settings: Settings) -> dict[str, Any]:
    """The values of settings by name."""
    values = asdict(settings)
    return values | dict(values.pop("others")) if isinstance(settings, UnloadedSettings) else values


@dataclass(frozen=True, kw_only=True)
class ActorCriticSettings(Settings):
    """The settings of every soft actor-critic: the rows of Table 1."""

    actor_width: int = 256  # all columns but SimBa
    """Units per hidden layer of the actor."""
    critic_width: int = 512  # all columns but SR-SAC
    """Units per hidden layer of each critic; the cost of an update grows with the square."""
    critics: int = 2  # CrossQ, CrossQ + WN and SR-SAC
    """Number of critics; updates cost in proportion."""
    actor_learning_rate: float = 3e-4  # all columns but SimBa
    """Adam learning rate of the actor."""
    critic_learning_rate: float = 3e-4  # all columns but SimBa
    """Adam learning rate of the critics."""
    temperature_learning_rate: float = 3e-4  # SR-SAC and BRO
    """Adam learning rate of the logarithm of the temperature."""
    initial_temperature: float = 1.0  # all columns but SimBa
    """Initial temperature (alpha), the weight of the entropy bonus; lower it to explore less at first."""
    target_entropy_scale: float = 0.5  # CrossQ, CrossQ + WN and SimBa; printed without its sign
    """The target entropy is minus this times the number of action dimensions; raise it to explore less."""
    adam_beta1: float = 0.9  # all columns
    """Decay rate of Adam's first moment, for actor and critics."""
    policy_delay: int = 1  # SimBa, SR-SAC and BRO
    """Gradient updates per update of the actor and of the temperature; higher ones save time."""
    n_step: int = 1  # all columns
    """Agent decisions whose rewards a target counts before the value that follows (n-step returns); more of
    them bring sparse rewards back sooner, but the actions between are those of older policies."""
    learning_rate_end: float = 1.0
    """Final learning rates of actor, critics and temperature, as a share of the initial ones; 1: constant."""
    learning_rate_updates: int | None = None
    """Updates over which each learning rate falls linearly, counting each one's own updates; by default the
    UTD ratio times all agent decisions that the run is started for."""
    actor_network: str | None = None
    """A network of your own for the actor, as module:name of the function that makes it."""
    critic_network: str | None = None
    """A network of your own for each critic, as module:name of the function that makes it."""

    def __post_init__(self) -> None:
        for name in own_networks.NAMES:  # Python users give functions
            object.__setattr__(self, name, own_networks.named(name, getattr(self, name)))
        super().__post_init__()
        require_positive(self, "actor_width", "critic_width", "critics", "policy_delay", "n_step")
        if self.learning_rate_updates is not None:
            require_positive(self, "learning_rate_updates")
        for name in ("actor_learning_rate", "critic_learning_rate", "temperature_learning_rate"):
            require(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        require(self, "initial_temperature", self.initial_temperature > 0, "above 0")
        require(self, "target_entropy_scale", abs(self.target_entropy_scale) < 1e3, "a finite number")
        require(self, "adam_beta1", 0 <= self.adam_beta1 < 1, "in [0, 1)")
        require(self, "learning_rate_end", 0 <= self.learning_rate_end <= 1, "in [0, 1]")

    def conditions(self) -> list[Condition]:
        """See `Settings.conditions`."""
        falls = self.learning_rate_end != 1 or self.learning_rate_updates is None
        learned = self.temperature_learning_rate > 0
        end, rate = option("learning_rate_end", 1), option("temperature_learning_rate", 0)
        return [
            Condition("learning_rate_updates", falls, f"with {end}, as nothing falls then"),
            Condition("target_entropy_scale", learned, f"with {rate}, as the temperature is fixed then"),
        ]

    def pinned(self) -> Self:
        """These settings, with a checksum of their present source in the names of a user's networks.

        Raises:
            UserError: there is no such network, or its name has another checksum already.
        """
        names: dict[str, Any] = {}
        for name in own_networks.NAMES:
            network = getattr(self, name)
            if network is not None:
                names[name] = own_networks.pinned(network, name)
                if network not in (names[name], without_checksum(network)):
                    raise UserError(
                        f"{option(name)} is {network}, whose source has changed since (it is {names[name]}): "
                        "put it back as it was, or leave out @... to train what is there now"
                    )
        return replace(self, **names)

    def schedule(self, learning_rate: float) -> optax.ScalarOrSchedule:
        """The learning rate of actor, critics or temperature, as a function of its own updates.

        Args:
            learning_rate: the initial one.
        """
        end, updates = learning_rate * self.learning_rate_end, self.learning_rate_updates
        if end == learning_rate:
            return learning_rate
        require(self, "learning_rate_updates", updates is not None, "given, because no run implies it here")
        return deferred_schedule(lambda: optax.linear_schedule(learning_rate, end, updates))

    def for_run(self, decisions: int) -> Self:
        """Lets falling learning rates fall over the whole run; see `Settings.for_run`."""
        if self.learning_rate_end == 1 or self.learning_rate_updates is not None:
            return self
        # As in XQC's and SimbaV2's code, the warm-up's decisions count, though they make no updates.
        return replace(self, learning_rate_updates=max(decisions, 1) * self.utd)


@dataclass(frozen=True, kw_only=True)
class PolyakSettings(ActorCriticSettings):
    """The settings of a soft actor-critic with target critics."""

    tau: float = 0.005  # Table 1, all columns
    """Polyak rate of the target critics, per gradient update; lower ones make targets steadier but later."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "tau", 0 <= self.tau <= 1, "in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class CategoricalSettings(PolyakSettings):
    """The settings of a soft actor-critic with target critics that are distributions over scaled returns."""

    atoms: int = 101  # XQC's, SimbaV2's and FlashSAC's code
    """Atoms of each critic's distribution of returns."""
    value_limit: float = 5.0  # likewise
    """The atoms cover scaled returns from minus this to this."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "atoms", self.atoms >= 2, "a whole number of at least 2")
        require(self, "value_limit", self.value_limit > 0, "above 0")


@dataclass(frozen=True, kw_only=True)
class ScaledRewardSettings(CategoricalSettings):
    """The settings of a soft actor-critic with such critics that divides rewards by the spread of returns."""

    return_statistics: Literal["code", "restart"] = "code"  # XQC's and SimbaV2's code
    """The return whose spread scales rewards. With code, an episode's last reward leaks into the next one, as
    in the authors' code; with restart, each episode starts at 0, as in earlier versions of this package."""


def require(settings: object, name: str, valid: bool, what: str) -> None:
    """Checks a setting.

    Args:
        settings: the record, for the value in the message.
        name: of the setting, for the flag in the message.
        valid: whether the value is valid.
        what: what would be valid, to complete "it must be ...".

    Raises:
        UserError: it is not valid.
    """
    if not valid:
        raise UserError(f"{stated(name, getattr(settings, name))}: it must be {what}")


def without_effect(record: Any) -> dict[str, str]:
    """The settings, or options of a run, that have no effect beside others, each with `otherwise`."""
    return {each.name: each.otherwise for each in record.conditions() if not each.holds}


def require_types(settings: Any) -> None:
    """Raises `UserError` for the first field of a dataclass that is of another type, or not finite.

    Where whole numbers belong, floats that are whole, such as 1e6, become ints.
    """
    record: Any = type(settings)
    for name, kind in kinds.fields_of(record).items():
        value = getattr(settings, name)
        if not kind.holds(value):
            taken = kinds.whole(value)
            require(settings, name, kind.holds(taken), kind.described(value))
            object.__setattr__(settings, name, taken)  # settings are frozen once they are made


def require_positive(settings: object, *names: str) -> None:
    """Raises `UserError` for the first of these settings that is below 1."""
    for name in names:
        require(settings, name, getattr(settings, name) >= 1, "a whole number of at least 1")


def _require_sizes(settings: Any) -> None:
    """Raises `UserError` for the first setting that makes networks too large even to describe."""
    for names, most in ((_UNITS, 2**20), (_COPIES, 100)):
        for name in names:
            value = getattr(settings, name, 0)
            if isinstance(value, int):  # a user's own setting of that name may be something else
                require(settings, name, value <= most, f"at most {most}")


def setting_names(kind: type[Settings]) -> list[str]:
    """The names of all hyperparameters of an algorithm."""
    return [field.name for field in fields(kind)]
