"""What the package knows of an algorithm: its settings, its presets, and how it is built."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from crossq_wn.algorithms.actor_critic import Parts, soft_actor_critic
from crossq_wn.algorithms.settings import Settings
from crossq_wn.types import Algorithm, Spec


class Preset(NamedTuple):
    """Settings and where they are from."""

    settings: Settings
    source: str


class CriticTraits(NamedTuple):
    """What a critic is like, which decides how a diagnosis reads the course of its norms."""

    scale_free: bool = False  # a normalisation after each hidden layer takes out the scale of its weights
    bounded: bool = False  # the hidden layers' weights are held at a fixed norm
    remedy: str = ""  # the options that hold what is still free; empty if there are none


def unknown_critic(settings: Any) -> CriticTraits:
    """The traits of a critic of which nothing is taken for granted."""
    return CriticTraits()


class Recipe(NamedTuple):
    """An algorithm, as the table of algorithms lists it; each algorithm's page ends with its recipe.

    `make` returns the parts of a soft actor-critic, or an algorithm of any other kind.
    """

    summary: str  # one line for `crossq-wn list algorithms`
    settings: type[Settings]
    presets: Mapping[str, Preset]  # by name; the first to know is "default"
    make: Callable[[Spec, Any], Parts | Algorithm]  # (problem, settings)
    critic: Callable[[Any], CriticTraits] = unknown_critic  # settings -> what its critic is like

    def build(self, spec: Spec, settings: Settings) -> Algorithm:
        """The algorithm for one seed."""
        made = self.make(spec, settings)
        return soft_actor_critic(made) if isinstance(made, Parts) else made
