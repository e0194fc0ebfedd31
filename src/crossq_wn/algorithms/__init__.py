"""Which algorithms are there? A name, its settings and the function that builds it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from crossq_wn.algorithms.crossq import CrossQSettings, CrossQWNSettings, crossq, crossq_wn
from crossq_wn.algorithms.sac import SACSettings, sac
from crossq_wn.algorithms.settings import Settings
from crossq_wn.types import Algorithm


class Recipe(NamedTuple):
    """How to make an algorithm: build(observation_size, action_size, discount, settings)."""

    settings: type[Settings]
    build: Callable[[int, int, float, Any], Algorithm]
    summary: str


ALGORITHMS = {
    "crossq-wn": Recipe(
        CrossQWNSettings, crossq_wn, "CrossQ + batch and weight normalisation, target network (the paper)"
    ),
    "crossq": Recipe(CrossQSettings, crossq, "CrossQ: batch normalisation, no target network"),
    "sac": Recipe(SACSettings, sac, "soft actor-critic"),
}
