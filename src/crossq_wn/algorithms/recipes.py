"""Recipes: what the package knows of an algorithm, namely its settings, its presets and how to build it."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from crossq_wn.algorithms.actor_critic import Parts, soft_actor_critic
from crossq_wn.algorithms.settings import Settings, networks_of
from crossq_wn.errors import UserError, option
from crossq_wn.types import Algorithm, Spec


class Preset(NamedTuple):
    """Settings, and the source of their numbers."""

    settings: Settings
    source: str


class CriticTraits(NamedTuple):
    """Properties of a critic, which decide what growing norms and large numbers mean in a diagnosis."""

    scale_free: bool = False  # each hidden layer is normalised, so the scale of its weights has no effect
    bounded: bool = False  # the hidden layers' weights are held at a fixed norm
    remedy: str = ""  # the options that stop the remaining growth; empty if there are none
    scales_rewards: bool = False  # running statistics bring rewards to the scale that it learns well
    normalises: bool = False  # running statistics normalise its observations, as `Algorithm.normalises` says
    most: float = math.inf  # the largest value that it can represent, in the environment's units


def unknown_critic(settings: Any) -> CriticTraits:
    """The traits of a critic about which nothing is known."""
    return CriticTraits()


class Recipe(NamedTuple):
    """An algorithm's entry in the table of algorithms; each algorithm's page ends with its recipe.

    `make` returns the parts of a soft actor-critic, or a complete algorithm of another kind.
    """

    summary: str  # one line for `crossq-wn list algorithms`
    settings: type[Settings]
    presets: Mapping[str, Preset]  # by name; the first to know is "default"
    make: Callable[[Spec, Any], Parts | Algorithm]  # (problem, settings)
    critic: Callable[[Any], CriticTraits] = unknown_critic  # settings -> properties of its own critic
    updates_per_utd: int = 1  # gradient updates per decision at a UTD ratio of 1, with bursts that recur

    def build(self, spec: Spec, settings: Settings) -> Algorithm:
        """Builds the algorithm for one seed.

        Args:
            spec: the problem.
            settings: an instance of the recipe's `settings`.

        Raises:
            UserError: networks of the user's own are chosen, and cannot be used.
        """
        made = self.make(spec, settings)
        if isinstance(made, Parts):
            return soft_actor_critic(made)
        for name, network in networks_of(settings).items():
            raise UserError(f"{option(name)} is {network}: only an algorithm that returns Parts can use it")
        return made
