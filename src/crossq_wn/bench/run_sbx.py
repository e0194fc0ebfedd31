"""The peer sbx: CrossQ of Stable-Baselines3's JAX port; reads budgets and prints seconds per update.

Each of its training calls draws minibatches from replay, computes the updates and fetches the losses. The
script runs in its own virtual environment (see `bench.peers`) and imports nothing of this package.
"""

import json
import sys
import time

import gymnasium
import jax
import numpy as np
from sbx import CrossQ


class Nothing(gymnasium.Env):
    """An environment of which only the spaces matter; the replay is filled by hand."""

    def __init__(self, observation_size: int, action_size: int) -> None:
        self.observation_space = gymnasium.spaces.Box(-10, 10, (observation_size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1, 1, (action_size,), np.float32)

    def reset(self, *, seed=None, options=None):
        """A random observation."""
        return self.observation_space.sample(), {}

    def step(self, action):
        """Nothing happens."""
        return self.observation_space.sample(), 0.0, False, False, {}


def main() -> None:
    """Answers budgets on standard input until it closes."""
    about = json.loads(sys.argv[1])
    utd, delay, batch = about["utd"], about["policy_delay"], about["batch_size"]
    model = CrossQ(
        "MlpPolicy",
        Nothing(about["observation_size"], about["action_size"]),
        batch_size=batch,
        buffer_size=10_000,
        gradient_steps=utd,
        policy_delay=delay,
        policy_kwargs={
            "net_arch": {"pi": [about["actor_width"]] * 2, "qf": [about["critic_width"]] * 2},
            "n_critics": about["critics"],
        },
    )
    model.learn(total_timesteps=1)  # sets up what train() needs
    rng = np.random.default_rng(0)
    for _ in range(5_000):
        observation, following = rng.standard_normal((2, 1, about["observation_size"]), np.float32)
        action = rng.uniform(-1, 1, (1, about["action_size"])).astype(np.float32)
        model.replay_buffer.add(observation, following, action, rng.uniform(size=1), np.zeros(1), [{}])
    print(jax.default_backend(), flush=True)
    for line in sys.stdin:
        budget, done, start = float(line), 0, time.perf_counter()
        while done == 0 or time.perf_counter() - start < budget:
            for _ in range(delay):
                model.train(gradient_steps=utd, batch_size=batch)
            jax.block_until_ready(model.policy.qf_state.params)
            done += delay * utd
        print((time.perf_counter() - start) / done, flush=True)


if __name__ == "__main__":
    main()
