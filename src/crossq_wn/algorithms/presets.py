"""Which numbers, and who says so? The paper's tables as typed data.

Numbers are from paper v2, Table 1, unless a comment names another source: `v1` (the paper's first version),
`code` (the authors' later public repository), `official` (CrossQ's own repository), `measured` (our runs, see
docs/results).
"""

from dataclasses import replace
from typing import Any, NamedTuple

from crossq_wn.algorithms.bro import BROSettings
from crossq_wn.algorithms.crossq import CrossQSettings, CrossQWNSettings
from crossq_wn.algorithms.droq import DroQSettings
from crossq_wn.algorithms.redq import REDQSettings
from crossq_wn.algorithms.settings import PolyakSettings, Settings
from crossq_wn.algorithms.simba import SimBaSettings
from crossq_wn.algorithms.simba_v2 import SimbaV2Settings
from crossq_wn.algorithms.sr_sac import SRSACSettings
from crossq_wn.algorithms.tdmpc2 import TDMPC2Settings
from crossq_wn.algorithms.xqc import XQCSettings


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
_SAC = PolyakSettings(
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

# Table 1, column SR-SAC; what it does not say is from the authors' code.
_SR_SAC = SRSACSettings(
    utd=32,
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
    target_entropy_scale=0.5,  # code; the table prints |A|
    adam_beta1=0.9,
    tau=0.005,
    reset_updates=2_560_000,  # 80k decisions at UTD 32
    reset_grid=5_000,
)

# Chen et al. 2021, table of hyperparameters; target entropy as the authors set it per task, about -|A|/2.
_REDQ = REDQSettings(
    utd=20,
    batch_size=256,
    warmup=5_000,
    replay_size=1_000_000,
    actor_width=256,
    critic_width=256,
    critics=10,
    actor_learning_rate=3e-4,
    critic_learning_rate=3e-4,
    temperature_learning_rate=3e-4,
    initial_temperature=1.0,
    target_entropy_scale=0.5,
    adam_beta1=0.9,
    tau=0.005,
    subset=2,
)

# Hiraoka et al. 2022: as REDQ but for the critics.
_DROQ = DroQSettings(
    utd=20,
    batch_size=256,
    warmup=5_000,
    replay_size=1_000_000,
    actor_width=256,
    critic_width=256,
    critics=2,
    actor_learning_rate=3e-4,
    critic_learning_rate=3e-4,
    temperature_learning_rate=3e-4,
    initial_temperature=1.0,
    target_entropy_scale=0.5,
    adam_beta1=0.9,
    tau=0.005,
    dropout=0.01,
)

# Table 1, column BRO, corrected by the authors' code, which made the published curves.
_BRO = BROSettings(
    utd=10,
    batch_size=128,
    warmup=2_500,  # code; the table says 10,000
    replay_size=1_000_000,
    discount=0.99,  # on every suite
    action_repeat=1,
    actor_width=256,
    critic_width=512,
    critics=2,  # code; the table says 1
    actor_learning_rate=3e-4,
    critic_learning_rate=3e-4,
    temperature_learning_rate=3e-4,
    initial_temperature=1.0,
    target_entropy_scale=0.5,  # code; the table prints |A|
    adam_beta1=0.9,
    tau=0.005,
    actor_blocks=1,
    critic_blocks=2,
    quantiles=100,
    weight_decay=1e-4,
    optimism_learning_rate=3e-5,
    kl_target=0.05,
    exploration_std=0.75,
    resets=(15_001, 50_001, 250_001, 500_001, 750_001, 1_000_001, 1_500_001, 2_000_001),
)

# Table 1, column SimBa; what it does not say is from the authors' code.
_SIMBA = SimBaSettings(
    utd=2,
    batch_size=256,
    warmup=5_000,
    replay_size=1_000_000,
    actor_width=128,
    critic_width=512,
    critics=1,
    actor_learning_rate=1e-4,
    critic_learning_rate=1e-4,
    temperature_learning_rate=1e-4,
    initial_temperature=0.01,
    target_entropy_scale=0.5,
    adam_beta1=0.9,
    tau=0.005,
    actor_blocks=1,
    critic_blocks=2,
    weight_decay=0.01,
)

# The authors' code (Lee et al. 2025).
_SIMBA_V2 = SimbaV2Settings(
    utd=2,
    batch_size=256,
    warmup=5_000,
    replay_size=1_000_000,
    actor_width=128,
    critic_width=512,
    critics=1,
    actor_learning_rate=1e-4,
    critic_learning_rate=1e-4,
    temperature_learning_rate=1e-4,
    initial_temperature=0.01,
    target_entropy_scale=0.5,
    adam_beta1=0.9,
    learning_rate_end=0.5,  # after 1M updates of its own, as in 1M frames at UTD 2
    tau=0.005,
    actor_blocks=1,
    critic_blocks=2,
    atoms=101,
    value_limit=5.0,
)

# The authors' code (Palenicek et al. 2025).
_XQC = XQCSettings(
    utd=2,
    batch_size=256,
    warmup=5_000,
    replay_size=1_000_000,
    actor_width=256,
    critic_width=512,
    critics=2,
    actor_learning_rate=3e-4,
    critic_learning_rate=3e-4,
    temperature_learning_rate=3e-4,
    initial_temperature=0.01,
    target_entropy_scale=0.5,
    adam_beta1=0.9,
    policy_delay=3,
    learning_rate_end=0.1,  # likewise
    tau=0.005,
    hidden_layers=4,
    atoms=101,
    value_limit=5.0,
)

# The authors' code, the 5M-parameter model for a single task (Hansen et al. 2024).
_TDMPC2 = TDMPC2Settings(
    utd=1,
    batch_size=256,
    warmup=2_500,  # five episodes of DeepMind Control; its rule is max(1000, 5 episodes)
    replay_size=1_000_000,
    encoder_width=256,
    latent_size=512,
    width=512,
    value_functions=5,
    dropout=0.01,
    bins=101,
    bin_limit=10.0,
    learning_rate=3e-4,
    encoder_rate=0.3,
    gradient_clip=20.0,
    tau=0.01,
    horizon=3,
    rho=0.5,
    consistency_weight=20.0,
    reward_weight=0.1,
    value_weight=0.1,
    entropy_weight=1e-4,
    iterations=6,
    samples=512,
    policy_samples=24,
    elites=64,
    min_std=0.05,
    max_std=2.0,
    planner_temperature=0.5,
)

_TEMPERATURE: dict[str, Any] = {
    "initial_temperature": 0.1,  # measured: docs/results.md
    "temperature_learning_rate": 3e-4,
}
_V1: dict[str, Any] = {"actor_learning_rate": 1e-4, "critic_learning_rate": 1e-4}  # v1, Table 1
_CODE: dict[str, Any] = {
    "initial_temperature": 0.01,
    "temperature_learning_rate": 3e-4,
    "learning_rate_end": 0.1,  # after 1M updates of its own, as in 1M frames at UTD 2
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
        "official": Preset(
            _CROSSQ_OFFICIAL, "CrossQ's own repository (Bhatt et al. 2024), but orthogonal initialisation"
        ),
    },
    "sac": {"default": Preset(_SAC, "paper v1, Table 1; target entropy as in jaxrl")},
    "sr-sac": {
        "default": Preset(_SR_SAC, "paper v2, Table 1, and the authors' code (D'Oro et al. 2023)"),
        "paper-v2": Preset(replace(_SR_SAC, target_entropy_scale=1.0), "paper v2, Table 1 as printed"),
    },
    "redq": {"default": Preset(_REDQ, "Chen et al. 2021, but orthogonal initialisation")},
    "droq": {"default": Preset(_DROQ, "Hiraoka et al. 2022, but orthogonal initialisation")},
    "bro": {
        "default": Preset(
            _BRO,
            "paper v2, Table 1, and the authors' code (Nauman et al. 2024), "
            "which uses --no-terminations on MyoSuite",
        ),
        "paper-v2": Preset(
            replace(_BRO, warmup=10_000, critics=1, target_entropy_scale=1.0), "paper v2, Table 1 as printed"
        ),
    },
    "bro-fast": {
        "default": Preset(
            replace(_BRO, utd=2, resets=(15_001,)), "BRO's code at UTD 2, which keeps the first reset only"
        )
    },
    "simba": {
        "default": Preset(
            _SIMBA,
            "paper v2, Table 1, and the authors' code (Lee et al. 2025), "
            "which uses --critics 2 where episodes terminate (Gymnasium)",
        )
    },
    "simba-v2": {"default": Preset(_SIMBA_V2, "the authors' code (Lee et al. 2025)")},
    "tdmpc2": {
        "default": Preset(
            _TDMPC2,
            "the authors' code (Hansen et al. 2024), "
            "which uses --no-terminations --action-repeat 1 --warmup 1000 on MyoSuite",
        )
    },
    "xqc": {"default": Preset(_XQC, "the authors' code (Palenicek et al. 2025)")},
}
