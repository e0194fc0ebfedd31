"""What will training cost? Gradient updates, core-hours and disk, before anything is trained.

An update takes a fixed time and that of its matrix products. Both were measured on one core of an AMD EPYC
while another training ran beside it (CrossQ + WN, batch 256, walker-run: 30 updates/s with widths 512 and
256, 90 with 256 and 128, 180 with 128 and 64); elsewhere all costs differ by about one factor.
"""

from typing import NamedTuple

from crossq_wn.algorithms.settings import ActorCriticSettings
from crossq_wn.environments import PAPER_GROUPS
from crossq_wn.errors import UserError
from crossq_wn.runs.config import RunConfig

_UPDATE_SECONDS = 3.1e-3
_SECONDS_PER_PRODUCT = 2.4e-11  # multiply and add in single precision: 84 GFLOP/s
_START_SECONDS = 20.0  # imports and compilation


class Cost(NamedTuple):
    """Of a run, all its seeds together."""

    updates: int  # gradient updates
    update_seconds: float  # of each
    core_seconds: float  # of all that is to be done
    disk: int  # bytes, once all is trained


class Typical(NamedTuple):
    """Tasks of a group, roughly."""

    observation_size: int
    action_size: int
    frame_seconds: float  # simulating and acting, per environment frame


_EASY, _MYO = Typical(24, 6, 4e-4), Typical(98, 39, 1.9e-3)
_TYPICAL = {
    "DMC dog & humanoid": Typical(150, 31, 1e-3), "DMC medium & easy": _EASY,
    "Myo hard": _MYO, "Myo easy": _MYO,
}  # fmt: skip


class Networks(NamedTuple):
    """What an algorithm multiplies, roughly."""

    squares: int = 1  # width x width products per block
    joint: bool = False  # one pass over (s, a) and (s', a') together
    actors: int = 1


_PLAIN, _JOINT, _BRO = Networks(), Networks(joint=True), Networks(squares=2, actors=2)
_NETWORKS = {
    "crossq-wn": _JOINT, "crossq": _JOINT, "sac": _PLAIN, "sr-sac": _PLAIN,
    "simba": Networks(squares=8), "bro": _BRO, "bro-fast": _BRO,
}  # fmt: skip


def cost(config: RunConfig) -> Cost:
    """What a run costs from beginning to end.

    Raises UserError for an algorithm whose networks are not known here.
    """
    settings, seeds = config.settings, len(config.options.seeds)
    if config.system.algorithm not in _NETWORKS or not isinstance(settings, ActorCriticSettings):
        raise UserError(f"no cost is known for {config.system.algorithm}: known are {', '.join(_NETWORKS)}")
    networks = _NETWORKS[config.system.algorithm]
    task = next((_TYPICAL[name] for name, tasks in PAPER_GROUPS.items() if config.task in tasks), _EASY)
    actor, critics = _weights(settings, networks, task)
    products = settings.batch_size * _passes(settings, networks, actor, critics)
    updates = max(0, config.decisions - settings.warmup) * settings.utd
    episodes = (1 + config.options.frames // config.options.eval_every) * config.options.eval_episodes
    frames = config.options.frames + episodes * (config.episode_frames or 1000)
    each = _UPDATE_SECONDS + _SECONDS_PER_PRODUCT * products
    seconds = updates * each + frames * task.frame_seconds
    row = 4 * (task.observation_size + task.action_size + 4)
    state = 16 * (actor + critics)  # weights, Adam's two moments, targets
    disk = config.decisions * row + 2 * state  # two checkpoints are kept
    return Cost(seeds * updates, each, _START_SECONDS + seeds * seconds, seeds * disk)


def _weights(settings: ActorCriticSettings, networks: Networks, task: Typical) -> tuple[int, int]:
    """Weights of the dense layers of one actor, and of all critics."""

    def network(inputs: int, width: int, blocks: int, outputs: int) -> int:
        return width * (inputs + networks.squares * blocks * width + outputs)

    observation, action = task.observation_size, task.action_size
    actor_blocks, critic_blocks = (getattr(settings, f"{n}_blocks", 1) for n in ("actor", "critic"))
    actor = network(observation, settings.actor_width, actor_blocks, 2 * action)
    outputs = getattr(settings, "quantiles", 1)
    critic = network(observation + action, settings.critic_width, critic_blocks, outputs)
    return actor, settings.critics * critic


def _passes(settings: ActorCriticSettings, networks: Networks, actor: int, critics: int) -> float:
    """Products per sample of one update: forward one per weight, backward one more, and one for weights."""
    targets = hasattr(settings, "tau") and getattr(settings, "target_network", True)
    critic_update = (3 + targets) * (1 + networks.joint)
    actor_updates = networks.actors / settings.policy_delay
    return critics * (critic_update + 2 * actor_updates) + actor * (1 + 3 * actor_updates)
