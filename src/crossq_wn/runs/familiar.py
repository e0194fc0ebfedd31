"""The names that other packages have for our options and hyperparameters, for users who come from there."""

from collections.abc import Collection

from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.algorithms.settings import setting_names
from crossq_wn.errors import closest, option

# A name of other packages -> ours; of several of ours, the user needs all.
_OURS: dict[str, tuple[str, ...]] = {
    "alg": ("algorithm",),
    "algo": ("algorithm",),
    "agent": ("algorithm",),
    "alpha": ("initial_temperature",),
    "buffer_size": ("replay_size",),
    "capacity": ("replay_size",),
    "checkpoint_freq": ("checkpoint_every",),
    "checkpoint_interval": ("checkpoint_every",),
    "dir": ("out",),
    "ent_coef": ("initial_temperature",),
    "env": ("task",),
    "env_id": ("task",),
    "env_name": ("task",),
    "environment": ("task",),
    "eval_freq": ("eval_every",),
    "eval_interval": ("eval_every",),
    "frame_skip": ("action_repeat",),
    "gamma": ("discount",),
    "gradient_steps": ("utd",),
    "hidden_dim": ("actor_width", "critic_width"),
    "hidden_size": ("actor_width", "critic_width"),
    "learning_rate": ("actor_learning_rate", "critic_learning_rate"),
    "learning_starts": ("warmup",),
    "log_freq": ("log_every",),
    "log_interval": ("log_every",),
    "logdir": ("out",),
    "lr": ("actor_learning_rate", "critic_learning_rate"),
    "max_episode_steps": ("episode_frames",),
    "max_steps": ("frames",),
    "mini_batch_size": ("batch_size",),
    "n_critics": ("critics",),
    "n_eval_episodes": ("eval_episodes",),
    "n_stack": ("frame_stack",),
    "norm_obs": ("normalise_observations",),
    "normalize_obs": ("normalise_observations",),
    "num_critics": ("critics",),
    "num_envs": ("seeds",),
    "num_eval_episodes": ("eval_episodes",),
    "num_seeds": ("seeds",),
    "num_stack": ("frame_stack",),
    "num_steps": ("frames",),
    "output_dir": ("out",),
    "policy_frequency": ("policy_delay",),
    "policy_lr": ("actor_learning_rate",),
    "project": ("wandb",),
    "q_lr": ("critic_learning_rate",),
    "replay_ratio": ("utd",),
    "save_dir": ("out",),
    "save_freq": ("checkpoint_every",),
    "stack_size": ("frame_stack",),
    "start_steps": ("warmup",),
    "steps": ("frames",),
    "target_entropy": ("target_entropy_scale",),
    "timesteps": ("frames",),
    "total_steps": ("frames",),
    "total_timesteps": ("frames",),
    "track": ("wandb",),
    "train_freq": ("utd",),
    "updates_per_step": ("utd",),
    "utd_ratio": ("utd",),
    "wandb_project": ("wandb",),
    "wd": ("critic_weight_decay", "actor_weight_decay"),
    "weight_decay": ("critic_weight_decay", "actor_weight_decay"),
    "width": ("actor_width", "critic_width"),
}


def meant(name: str, known: Collection[str]) -> str:
    """What the user of an unknown name probably wants, as a clause for an error message.

    Args:
        name: of an option or hyperparameter, as the user wrote it.
        known: the valid names, as Python writes them.

    Returns:
        For example `did you mean 'discount'?`; empty if nothing is near.
    """
    plain = name.lstrip("-").lower().replace("-", "_")
    ours = [each for each in _OURS.get(plain, ()) if each in known]
    if ours == ["task"]:
        return "the task is named without an option, as in `crossq-wn train cheetah-run`"
    if not ours:
        owners = [each for each, recipe in ALGORITHMS.items() if plain in setting_names(recipe.settings)]
        if 0 < len(owners) < len(ALGORITHMS):
            return f"only {', '.join(owners)} {'has' if len(owners) == 1 else 'have'} it"
        near = closest(plain, known)
        ours = [near] if near else []
    return f"did you mean {' and '.join(map(repr, map(option, ours)))}?" if ours else ""
