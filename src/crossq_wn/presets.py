"""Which numbers, and who says so? The paper's tables as typed data.

Numbers are from paper v2, Table 1, unless a comment names another source: `v1` (the paper's first version),
`code` (the authors' later public repository), `official` (CrossQ's own repository), `measured` (our runs, see
docs/results).
"""

from dataclasses import replace
from typing import Any, NamedTuple

from crossq_wn.algorithms.crossq import CrossQSettings, CrossQWNSettings
from crossq_wn.algorithms.sac import SACSettings
from crossq_wn.algorithms.settings import Settings


class Preset(NamedTuple):
    """Settings and where they are from."""

    settings: Settings
    source: str


# Table 1, column CrossQ + WN.
_CROSSQ_WN = CrossQWNSettings(
    utd=2,  # figure 1; figure 4 varies it over 1, 2, 5, 10, 20
    batch_size=256,
    warmup=5000,
    replay_size=1_000_000,  # code
    actor_width=256,
    critic_width=512,
    critics=2,
    actor_learning_rate=3e-4,
    critic_learning_rate=3e-4,
    temperature_learning_rate=1e-4,
    initial_temperature=1.0,
    target_entropy_scale=0.5,  # printed without its sign
    adam_beta1=0.9,
    policy_delay=3,
    tau=0.005,
    actor_weight_decay=0.01,
    critic_weight_decay=0.01,
    norm_momentum=0.99,
    norm_epsilon=1e-3,  # code
    weight_norm="neuron",  # code; the paper leaves the granularity open
    weight_norm_radius=1.0,
)

# Table 1, column CrossQ: the same but for weight norm, decay and the target network.
_CROSSQ = CrossQSettings(
    utd=1,  # figure 3; 5 there too
    batch_size=256,
    warmup=5000,
    replay_size=1_000_000,  # code
    actor_width=256,
    critic_width=512,
    critics=2,
    actor_learning_rate=3e-4,
    critic_learning_rate=3e-4,
    temperature_learning_rate=1e-4,
    initial_temperature=1.0,
    target_entropy_scale=0.5,  # printed without its sign
    adam_beta1=0.9,
    policy_delay=3,
    norm_momentum=0.99,
    norm_epsilon=1e-3,  # code
)

# Bhatt et al. 2024, official.
_CROSSQ_OFFICIAL = replace(
    _CROSSQ,
    critic_width=2048,
    actor_learning_rate=1e-3,
    critic_learning_rate=1e-3,
    temperature_learning_rate=1e-3,
    target_entropy_scale=1.0,
    adam_beta1=0.5,
    norm="batch-renorm",
    log_std_min=-20.0,
)

# v1, Table 1, column SAC.
_SAC = SACSettings(
    utd=1,
    batch_size=256,
    warmup=10_000,
    replay_size=1_000_000,
    actor_width=256,
    critic_width=256,
    critics=2,
    actor_learning_rate=3e-4,
    critic_learning_rate=3e-4,
    temperature_learning_rate=3e-4,
    initial_temperature=1.0,
    target_entropy_scale=0.5,  # jaxrl, on which the paper builds; the cell is blank
    adam_beta1=0.9,
    policy_delay=1,
    tau=0.005,
)

_TEMPERATURE: dict[str, Any] = {
    "initial_temperature": 0.01,
    "temperature_learning_rate": 3e-4,
}  # measured; as in code
_V1: dict[str, Any] = {"actor_learning_rate": 1e-4, "critic_learning_rate": 1e-4}  # v1, Table 1
_CODE: dict[str, Any] = _TEMPERATURE | {
    "learning_rate_end": 0.1,
    "learning_rate_updates": 990_000,  # of the critic in 1M frames: 495k decisions at UTD 2
    "weight_norm_head": True,  # its projector is called without its last-layer flag
}

PRESETS: dict[str, dict[str, Preset]] = {
    "crossq-wn": {
        "default": Preset(
            replace(_CROSSQ_WN, **_TEMPERATURE),
            "paper v2, Table 1, with the temperature settings that learn best in our runs",
        ),
        "paper-v2": Preset(_CROSSQ_WN, "paper v2, Table 1 as printed"),
        "paper-v1": Preset(replace(_CROSSQ_WN, utd=5, **_V1), "paper v1, Table 1"),
        "code": Preset(replace(_CROSSQ_WN, **_CODE), "the authors' later public code"),
    },
    "crossq": {
        "default": Preset(
            replace(_CROSSQ, **_TEMPERATURE), "paper v2, Table 1, with the temperature settings of crossq-wn"
        ),
        "paper-v2": Preset(_CROSSQ, "paper v2, Table 1 as printed"),
        "paper-v1": Preset(replace(_CROSSQ, **_V1), "paper v1, Table 1"),
        "official": Preset(_CROSSQ_OFFICIAL, "CrossQ's own repository (Bhatt et al. 2024)"),
    },
    "sac": {"default": Preset(_SAC, "paper v1, Table 1; target entropy as in jaxrl")},
}
