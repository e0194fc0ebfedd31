"""The table of algorithms; each algorithm has a page in this folder.

The page of a soft actor-critic summarises its paper, declares settings and presets, and returns the `Parts`
from which `actor_critic.py` builds the algorithm. `docs/your-own-algorithm.md` shows how to add one.
"""

import sys

from crossq_wn.algorithms.bro import BRO, BRO_FAST
from crossq_wn.algorithms.crossq import CROSSQ, CROSSQ_WN
from crossq_wn.algorithms.droq import DROQ
from crossq_wn.algorithms.drq import DRQ
from crossq_wn.algorithms.flashsac import FLASHSAC
from crossq_wn.algorithms.recipes import CriticTraits, Preset, Recipe
from crossq_wn.algorithms.redq import REDQ
from crossq_wn.algorithms.sac import SAC
from crossq_wn.algorithms.simba import SIMBA
from crossq_wn.algorithms.simba_v2 import SIMBA_V2
from crossq_wn.algorithms.sr_sac import SR_SAC
from crossq_wn.algorithms.tdmpc2 import TDMPC2
from crossq_wn.algorithms.xqc import XQC
from crossq_wn.errors import UserError, import_user_module, nearest

__all__ = [
    "ALGORITHMS",
    "CriticTraits",
    "Preset",
    "Recipe",
    "loaded_recipe",
    "recipe_of",
    "registered",
    "updates_per_decision",
]

ALGORITHMS: dict[str, Recipe] = {
    "crossq-wn": CROSSQ_WN,
    "crossq": CROSSQ,
    "sac": SAC,
    "sr-sac": SR_SAC,
    "redq": REDQ,
    "droq": DROQ,
    "bro": BRO,
    "bro-fast": BRO_FAST,
    "simba": SIMBA,
    "simba-v2": SIMBA_V2,
    "tdmpc2": TDMPC2,
    "xqc": XQC,
    "flashsac": FLASHSAC,
    "drq": DRQ,
}


def registered(name: str) -> str:
    """The key in `ALGORITHMS` that a name stands for.

    Args:
        name: an algorithm's name, or `module:name` for one of the user's own, whose module is imported.

    Raises:
        UserError: there is no such algorithm; the message suggests the nearest.
    """
    if not isinstance(name, str):
        raise UserError(f"algorithm is {name!r}: give a name, such as 'crossq-wn' or 'module:name'")
    module, _, own = name.rpartition(":")
    if module:
        import_user_module(module, f"the algorithm {name!r}")
    if own not in ALGORITHMS:
        raise UserError(
            f"unknown algorithm {name!r}: {nearest(own, ALGORITHMS)}choose from {', '.join(ALGORITHMS)}, "
            "and your own as module:name (docs/your-own-algorithm.md)"
        )
    return own


def loaded_recipe(name: str) -> Recipe | None:
    """The recipe of an algorithm, without importing anything; None if its module is not loaded."""
    module, _, own = name.rpartition(":")
    return ALGORITHMS.get(own) if not module or module in sys.modules else None


def recipe_of(name: str) -> Recipe:
    """The recipe of an algorithm; takes the names that `registered` takes, and raises what it raises."""
    return ALGORITHMS[registered(name)]


def updates_per_decision(algorithm: str, utd: float) -> float:
    """Gradient updates per agent decision after the warm-up, each of which learns from one minibatch.

    Args:
        algorithm: its name, or the one under which it is published, such as DR.Q; one that is not known here
            is taken to have no bursts that recur.
        utd: its UTD ratio.
    """
    recipe = loaded_recipe(algorithm)
    if recipe is None:
        recipe = {_letters(name): known for name, known in ALGORITHMS.items()}.get(_letters(algorithm))
    return utd if recipe is None else utd * recipe.updates_per_utd


def _letters(name: str) -> str:
    """A name's letters and digits, in which `DR.Q` and `drq` agree."""
    return "".join(filter(str.isalnum, name.lower()))
