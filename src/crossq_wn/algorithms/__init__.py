"""The table of algorithms; each algorithm has a page in this folder.

The page of a soft actor-critic summarises its paper, declares settings and presets, and returns the `Parts`
from which `actor_critic.py` builds the algorithm. `docs/your-own-algorithm.md` shows how to add one.
"""

import sys
from collections.abc import Iterator, MutableMapping
from importlib import import_module

from crossq_wn.algorithms.recipes import CriticTraits, Preset, Recipe
from crossq_wn.errors import UserError, nearest
from crossq_wn.own_modules import import_user_module

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


class _Table(MutableMapping[str, Recipe]):
    """Recipes by name. A page of this folder is imported when its recipe is asked for: acting needs one."""

    def __init__(self, pages: dict[str, str]) -> None:
        self._recipes: dict[str, Recipe | str] = {**pages}  # `page:CONSTANT` until it is asked for

    def __getitem__(self, name: str) -> Recipe:
        found = self._recipes[name]
        if isinstance(found, str):
            page, _, constant = found.partition(":")
            recipe: Recipe = getattr(import_module(f"{__name__}.{page}"), constant)
            self._recipes[name] = found = recipe
        return found

    def __setitem__(self, name: str, recipe: Recipe) -> None:
        self._recipes[name] = recipe

    def __delitem__(self, name: str) -> None:
        del self._recipes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._recipes)

    def __len__(self) -> int:
        return len(self._recipes)

    def __contains__(self, name: object) -> bool:
        return name in self._recipes


ALGORITHMS: MutableMapping[str, Recipe] = _Table(
    {
        "crossq-wn": "crossq:CROSSQ_WN",
        "crossq": "crossq:CROSSQ",
        "sac": "sac:SAC",
        "sr-sac": "sr_sac:SR_SAC",
        "redq": "redq:REDQ",
        "droq": "droq:DROQ",
        "bro": "bro:BRO",
        "bro-fast": "bro:BRO_FAST",
        "simba": "simba:SIMBA",
        "simba-v2": "simba_v2:SIMBA_V2",
        "tdmpc2": "tdmpc2:TDMPC2",
        "xqc": "xqc:XQC",
        "flashsac": "flashsac:FLASHSAC",
        "drq": "drq:DRQ",
    }
)


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
        import_user_module(name, f"the algorithm {name!r}")
    if own not in ALGORITHMS:
        lacks = f"{module!r} adds none of that name to ALGORITHMS; " if module else ""
        raise UserError(
            f"unknown algorithm {name!r}: {lacks}{nearest(own, ALGORITHMS)}choose from "
            f"{', '.join(ALGORITHMS)}, and your own as module:name (docs/your-own-algorithm.md)"
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
