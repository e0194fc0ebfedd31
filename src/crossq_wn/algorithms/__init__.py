"""Which algorithms are there? A name, its settings and the function that builds it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from crossq_wn.algorithms.bro import BROSettings, bro
from crossq_wn.algorithms.crossq import CrossQSettings, CrossQWNSettings, crossq, crossq_wn
from crossq_wn.algorithms.droq import DroQSettings, droq
from crossq_wn.algorithms.redq import REDQSettings, redq
from crossq_wn.algorithms.sac import sac
from crossq_wn.algorithms.settings import PolyakSettings, Settings
from crossq_wn.algorithms.simba import SimBaSettings, simba
from crossq_wn.algorithms.simba_v2 import SimbaV2Settings, simba_v2
from crossq_wn.algorithms.sr_sac import SRSACSettings, sr_sac
from crossq_wn.algorithms.tdmpc2 import TDMPC2Settings, tdmpc2
from crossq_wn.algorithms.xqc import XQCSettings, xqc
from crossq_wn.errors import UserError, import_user_module, nearest
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
    "sac": Recipe(PolyakSettings, sac, "soft actor-critic"),
    "sr-sac": Recipe(SRSACSettings, sr_sac, "SAC at UTD 32 with full resets"),
    "redq": Recipe(REDQSettings, redq, "ten critics, random pairs for targets, UTD 20"),
    "droq": Recipe(DroQSettings, droq, "dropout and layer norm critics, UTD 20"),
    "bro": Recipe(
        BROSettings, bro, "large residual quantile critics, optimistic exploration, resets, UTD 10"
    ),
    "bro-fast": Recipe(BROSettings, bro, "BRO at UTD 2 with one reset"),
    "simba": Recipe(SimBaSettings, simba, "residual layer-norm networks behind observation statistics"),
    "simba-v2": Recipe(SimbaV2Settings, simba_v2, "hyperspherical networks, categorical critic"),
    "tdmpc2": Recipe(TDMPC2Settings, tdmpc2, "latent world model and planning"),
    "xqc": Recipe(XQCSettings, xqc, "batch and weight norm throughout, categorical critic"),
}


def registered(name: str) -> str:
    """The key in `ALGORITHMS` that a name stands for; the module of `module:name` is imported.

    Raises UserError for what is not there, suggesting the nearest.
    """
    module, _, own = name.rpartition(":")
    if module:
        import_user_module(module, f"the algorithm {name!r}")
    if own not in ALGORITHMS:
        raise UserError(
            f"unknown algorithm {name!r}: {nearest(own, ALGORITHMS)}known are {', '.join(ALGORITHMS)}, "
            "and your own as module:name (docs/your-own-algorithm.md)"
        )
    return own
