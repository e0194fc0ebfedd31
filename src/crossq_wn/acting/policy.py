"""A trained policy in numpy alone.

`crossq_wn.load` acts with it. Together with `operations.py`, `interface.py` and `readings.py` beside it, it
is the program of one file that `crossq-wn export` writes beside the weights:

    from policy import Policy
    policy = Policy("folder")  # what `crossq-wn export RUN` wrote
    policy.reset()  # where an episode begins; counts if the policy acts on several observations at once
    policy.reset(done)  # of many episodes side by side, where those begin that this mask names
    action = policy.act(observation)  # as the environment takes it, in its own units
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import stat
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossq_wn.acting.interface import Interface, PolicyError, Stack
from crossq_wn.acting.operations import Network, Op, function_of, only_means
from crossq_wn.acting.readings import check_sound

SCHEMA = 2  # of policy.json; since 2 it has observation.frame_stack
# Bytes of a file that are read, and to which weights may unpack; real ones are far smaller.
_MOST_JSON, _MOST_WEIGHTS = 2**24, 2**32


class Actor:
    """Acts by a network.

    Args:
        network: what acts.
        interface: what observations and actions are like.
        name: how messages call the policy.
        seed: where the noise of stochastic actions starts; None: somewhere else each time.
        frame_stack: observations that it acts on at once.
    """

    def __init__(
        self,
        network: Network,
        interface: Interface,
        name: str,
        seed: int | None = None,
        frame_stack: int = 1,
    ) -> None:
        self.interface, self._name, self._network = interface, name, network
        self.stack = Stack(frame_stack)
        self._generator = np.random.default_rng(seed)
        self._action_size = int(interface.low.size)
        self._all = function_of(network.operations)
        means = only_means(network.operations, self._action_size)
        # Deterministic actions need no standard deviation, and half of the last layer computes it.
        self._only_means = None if means is None else function_of(means)

    def act(
        self, observation: Any, deterministic: bool = True, generator: np.random.Generator | None = None
    ) -> np.ndarray:
        """Chooses an action, in the environment's own units.

        Args:
            observation: what the environment returns, be it an array, a list or a dict, or its numbers in one
                flat row; or n of them, which lead with an axis of their own.
            deterministic: whether it is the policy's mode; if not, it is drawn at random.
            generator: where random actions draw their noise; by default the policy's own generator.

        Returns:
            An action of the environment's shape and type, exactly as the environment gets it, or n of them.

        Raises:
            PolicyError: the observation has another size, or the policy has no sound action for it.
        """
        newest = self.interface.flatten(observation)
        chosen = self.stack.act(newest, lambda rows: self.choose(rows, deterministic, generator))
        return self.interface.in_units(chosen)

    def reset(self, episodes: Any = None) -> None:
        """Says that the next observation of an episode is its first.

        Args:
            episodes: of n that it acts in side by side, a mask or the indices of those that begin; None: all.

        Raises:
            PolicyError: there are no such episodes.
        """
        self.stack.reset(episodes)

    def choose(
        self, flat: np.ndarray, deterministic: bool = True, generator: np.random.Generator | None = None
    ) -> np.ndarray:
        """Chooses actions in [-1, 1], float32 [..., action_size]; as `act`.

        Args:
            flat: flat observations, [..., frame_stack * observation_size], oldest first.
            deterministic: as in `act`.
            generator: as in `act`.
        """
        action = self.compute(flat, None if deterministic else generator or self._generator)
        check_sound(flat, action, self._name, self.interface.layout)
        return action

    def compute(self, flat: np.ndarray, generator: np.random.Generator | None = None) -> np.ndarray:
        """Computes actions in [-1, 1], sound or not.

        Args:
            flat: flat observations, [..., frame_stack * observation_size], oldest first.
            generator: where noise comes from; None: none is added.

        Returns:
            float32 [..., action_size].
        """
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            if generator is None:
                u = self.means(flat)
            else:
                mean, log_std = self.gaussian(flat)
                u = mean + np.exp(log_std) * generator.standard_normal(mean.shape, np.float32)
            # Not finite where u is not, as one of -1 or 1 would not tell.
            action: np.ndarray = np.tanh(u) + 0 * u
            return action

    def means(self, flat: np.ndarray) -> np.ndarray:
        """Returns the means of u, [..., action_size]."""
        if self._only_means is not None:
            return self._only_means(flat)
        return self._all(flat)[..., : self._action_size]

    def gaussian(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns means and log standard deviations of u, each [..., action_size]."""
        _, rule, low, high = self._network
        mean, x = np.split(self._all(flat), 2, -1)
        if rule == "clip":
            return mean, np.clip(x, np.float32(low), np.float32(high))
        return mean, np.float32(low) + np.float32(0.5 * (high - low)) * (1 + np.tanh(x))


class Policy(Actor):
    """The policy in a folder that `crossq-wn export` wrote.

    Args:
        folder: has policy.json and weights.npz.
        seed: where the noise of stochastic actions starts; None: somewhere else each time.

    Attributes:
        description: what policy.json says.

    Raises:
        PolicyError: a file is missing or altered, or a newer version wrote it.
    """

    def __init__(self, folder: str | Path, seed: int | None = None) -> None:
        try:
            self._begin(Path(folder).expanduser(), seed)
        except (PolicyError, MemoryError):
            raise
        except Exception as error:  # whatever else a description leads to that is not an export's
            what = " ".join(f"{type(error).__name__}: {error}".split())
            raise PolicyError(f"{folder} is no exported policy ({what})") from None

    def _begin(self, folder: Path, seed: int | None) -> None:
        self.description, arrays = _read(folder)
        observation, action, network = (self.description[key] for key in ("observation", "action", "network"))
        interface = {
            "observation_size": observation["size"],
            "observation": [(part["keys"], part["shape"]) for part in observation["parts"]],
            "action_low": action["low"],
            "action_high": action["high"],
            "action_dtype": action["dtype"],
        }
        super().__init__(
            Network(_operations(network["operations"], arrays), **network["log_std"]),
            Interface(interface),
            str(folder),
            seed,
            observation.get("frame_stack", 1),
        )
        # Once, and at random, so that what does not fit together is found here and not in the field.
        first = np.zeros(self.stack.frames * self.interface.size, np.float32)
        if self.compute(first, np.random.default_rng(0)).shape != (self._action_size,):
            raise PolicyError(f"{folder} is no exported policy: its network does not fit its actions")
        self.compute(first)


def latencies(act: Callable[[np.ndarray], Any], seen: Mapping[str, Any], calls: int) -> dict[str, float]:
    """Times a policy on one observation after the other.

    Args:
        act: takes an observation, float32 [observation_size].
        seen: the range from which observations are drawn, `low` and `high` [observation_size] each.
        calls: how many are timed, after 256 that are not.

    Returns:
        Seconds per call: `p50`, `p99` and `max`.
    """
    rows = np.random.default_rng(0).uniform(seen["low"], seen["high"], (256, len(seen["low"])))
    rows = rows.astype(np.float32)
    for row in rows:
        act(row)
    seconds = np.zeros(calls)
    for k in range(calls):
        start = time.perf_counter()
        act(rows[k % 256])
        seconds[k] = time.perf_counter() - start
    return {
        "p50": float(np.percentile(seconds, 50)),
        "p99": float(np.percentile(seconds, 99)),
        "max": float(seconds.max()),
    }


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    description = json.loads(_content(folder / "policy.json", _MOST_JSON))
    if description["schema"] > SCHEMA:
        raise PolicyError(f"{folder} has schema {description['schema']}: use the policy.py beside it")
    content = _content(folder / "weights.npz", _MOST_WEIGHTS)
    if hashlib.sha256(content).hexdigest() != description["sha256"]["weights.npz"]:
        raise PolicyError(f"{folder / 'weights.npz'} is truncated or altered: export the policy again")
    size = _unpacked(content)
    if size > _MOST_WEIGHTS:  # a small file may unpack to terabytes
        most = f"at most {_MOST_WEIGHTS:,} are read"
        raise PolicyError(f"{folder / 'weights.npz'} unpacks to {size:,} bytes, where {most}")
    with np.load(io.BytesIO(content), allow_pickle=False) as weights:
        return description, dict(weights)


def _unpacked(content: bytes) -> int:
    """The bytes that the arrays of a .npz file take, as their entries and their headers say."""
    size = 0
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        for each in packed.infolist():
            with packed.open(each) as file:
                first = np.lib.format.read_magic(file) == (1, 0)
                read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
            size += max(each.file_size, math.prod(shape) * dtype.itemsize)
    return size


def _content(path: Path, most: int) -> bytes:
    """The bytes of a regular file; a pipe or a device in its place might never end."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise PolicyError(f"{path} is no regular file")
        if status.st_size > most:
            raise PolicyError(f"{path} has {status.st_size:,} bytes, where at most {most:,} are read")
        return file.read(status.st_size)


def _operations(described: Sequence[Mapping[str, Any]], arrays: Mapping[str, np.ndarray]) -> tuple[Op, ...]:
    """Operations as policy.json describes them, with their arrays."""
    found = []
    for each in described:
        own = {name: arrays[key] for name, key in each["arrays"].items()}
        inner = tuple(_operations(part, arrays) for part in each["inner"])
        found.append(Op(each["kind"], own, each["numbers"], inner))
    return tuple(found)


if __name__ == "__main__":
    # In an export: times the policy that lies beside this program.
    exported = Policy(Path(__file__).parent)
    found = latencies(exported.act, exported.description["observation"]["seen"], 10_000)
    print(", ".join(f"{name} {1e6 * value:.1f} µs" for name, value in found.items()), "over 10,000 calls")
