"""The contents of config.json as earlier versions wrote them, in the current schema."""

import re
from collections.abc import Mapping
from typing import Any

from crossq_wn.algorithms.settings import Settings, setting_names
from crossq_wn.runs.options import OPTION_NAMES


def migrate(values: dict[str, Any]) -> dict[str, Any]:
    """Converts the contents of config.json to the current schema, if they are of an older one.

    Schema 1 kept the options beside the protocol, and the system as a label that names the changes:
    `crossq-wn UTD 5 (weight_norm=none, tau=0.01)`. The names of the changes are taken from the label, because
    the preset may have changed since or belong to a user's module; their values are taken from the settings.
    """
    if values["schema"] != 1:
        return values
    label, settings = values["system"], values["settings"]
    # A name follows "(" or ", " in the label, so `tau` is not found in `other_tau=`.
    changes = {
        name: value for name, value in settings.items() if re.search(rf"[(,] ?{re.escape(name)}=", label)
    }
    options = {name: values[name] for name in OPTION_NAMES if name in values}
    options["episode_frames"] = None  # schema 1 kept only the resolved time limit
    same = ("task", "metric", "action_repeat", "episode_frames", "discount", "settings")
    system = {
        "algorithm": values["algorithm"],
        "preset": values["preset"],
        "utd": settings["utd"],
        "changes": changes,
    }
    return {name: values[name] for name in same} | {"schema": 2, "system": system, "options": options}


# What runs were trained with before there was the setting, or before it followed from the run's length.
_BEFORE = {
    "learning_rate_updates": 1_000_000,
    "return_statistics": "restart",  # XQC, SimbaV2
    "evaluate_before_reset": False,  # SR-SAC
}


def as_trained(settings: Mapping[str, Any], kind: type[Settings]) -> dict[str, Any]:
    """Returns the settings in a config.json; where it has none, those that its version trained with.

    Args:
        settings: as config.json has them.
        kind: the algorithm's.
    """
    before = {name: value for name, value in _BEFORE.items() if name in setting_names(kind)}
    found = before | dict(settings)
    if found.get("learning_rate_end") == 1 and found["learning_rate_updates"] == 1_000_000:
        found["learning_rate_updates"] = None  # nothing falls, so it had no effect
    return found
