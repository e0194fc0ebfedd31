"""Which numbers, and who says so? The paper's tables as typed data; the first preset of each is the default.

Rows are paper v2, Table 1 unless a comment names another source: v1 (the paper's first version), `code` (the
authors' later public repository), `official` (CrossQ's own repository) or `measured` (our runs, docs/results).
"""

from typing import NamedTuple

from crossq_wn.algorithms.crossq import CrossQSettings, CrossQWNSettings
from crossq_wn.algorithms.sac import SACSettings
from crossq_wn.algorithms.settings import Settings


class Preset(NamedTuple):
    settings: Settings
    source: str


_PAPER_V2 = dict(
    batch_size=256, warmup=5000, actor_width=256, critic_width=512, critics=2, policy_delay=3,
    actor_learning_rate=3e-4, critic_learning_rate=3e-4, temperature_learning_rate=1e-4,
    initial_temperature=1.0,
    target_entropy_scale=0.5,  # printed without its sign
    adam_beta1=0.9, norm_momentum=0.99,
    norm_epsilon=1e-3,  # code; the paper gives none
)  # fmt: skip
_V1 = dict(actor_learning_rate=1e-4, critic_learning_rate=1e-4)  # v1, Table 1
_TEMPERATURE = dict(initial_temperature=0.01, temperature_learning_rate=3e-4)  # measured; as in `code`
_WN = dict(tau=0.005, actor_weight_decay=0.01, critic_weight_decay=0.01)

_CODE = dict(
    **_TEMPERATURE,
    learning_rate_end=0.1,
    learning_rate_updates=990_000,  # 495k decisions of a 1M-frame run at UTD 2
    weight_norm_head=True,  # its projector is called without the last-layer flag
)

PRESETS: dict[str, dict[str, Preset]] = {
    "crossq-wn": {
        "default": Preset(
            CrossQWNSettings(utd=2, **{**_PAPER_V2, **_WN, **_TEMPERATURE}),
            "paper v2, Table 1, with the temperature settings that learn best in our runs",
        ),
        "paper-v2": Preset(CrossQWNSettings(utd=2, **_PAPER_V2, **_WN), "paper v2, Table 1 as printed"),
        "paper-v1": Preset(CrossQWNSettings(utd=5, **{**_PAPER_V2, **_WN, **_V1}), "paper v1, Table 1"),
        "code": Preset(
            CrossQWNSettings(utd=2, **{**_PAPER_V2, **_WN, **_CODE}), "the authors' later public code"
        ),
    },
    "crossq": {
        "default": Preset(
            CrossQSettings(utd=1, **{**_PAPER_V2, **_TEMPERATURE}),
            "paper v2, Table 1, with the same temperature settings as crossq-wn",
        ),
        "paper-v2": Preset(CrossQSettings(utd=1, **_PAPER_V2), "paper v2, Table 1 as printed"),
        "paper-v1": Preset(CrossQSettings(utd=1, **{**_PAPER_V2, **_V1}), "paper v1, Table 1"),
        "official": Preset(
            CrossQSettings(
                utd=1, batch_size=256, warmup=5000, actor_width=256, critic_width=2048, critics=2,
                policy_delay=3, actor_learning_rate=1e-3, critic_learning_rate=1e-3,
                temperature_learning_rate=1e-3, initial_temperature=1.0, target_entropy_scale=1.0,
                adam_beta1=0.5, norm="batch-renorm", log_std_min=-20.0,
            ),  # fmt: skip
            "CrossQ's own repository (Bhatt et al. 2024)",
        ),
    },
    "sac": {
        "default": Preset(
            SACSettings(
                utd=1, batch_size=256, warmup=10_000, actor_width=256, critic_width=256, critics=2,
                policy_delay=1, actor_learning_rate=3e-4, critic_learning_rate=3e-4,
                temperature_learning_rate=3e-4, initial_temperature=1.0, target_entropy_scale=0.5,
                tau=0.005,
            ),  # fmt: skip
            "paper v1, Table 1 (target entropy: jaxrl)",
        ),
    },
}
