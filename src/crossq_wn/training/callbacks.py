"""A user's own code in the loop: callbacks, which see what happens and may stop the training.

They are called between two decisions, when the run could be saved, and are given copies. Random numbers that
they draw from `random` or `numpy.random` are not missing elsewhere. So training with callbacks gives the same
numbers as without.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType, MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.environments import Episode, Transition
from crossq_wn.environments.attributes import attribute, attributes_of
from crossq_wn.environments.streams import kept_shared
from crossq_wn.errors import UserError, nearest

HOOKS = ("on_decision", "on_episode", "on_evaluation", "on_checkpoint")


class Decision(NamedTuple):
    """A decision of one seed, for `on_decision`; its arrays cannot be written to."""

    seed: int
    frames: int  # environment frames of the seed, with this decision
    observation: np.ndarray  # float32 [observation_size]
    action: np.ndarray  # float32 [action_size] in [-1, 1]
    reward: float  # summed over the frames of the decision
    terminated: bool
    truncated: bool
    next_observation: np.ndarray  # float32 [observation_size], before any reset


class EpisodeEnd(NamedTuple):
    """A finished training episode of one seed, for `on_episode`."""

    seed: int
    frames: int  # environment frames of the seed so far
    total_reward: float
    length: int  # in environment frames
    success: bool | None  # None: the task does not say what that is


class Evaluation(NamedTuple):
    """An evaluation of one seed, for `on_evaluation`."""

    seed: int
    frames: int  # environment frames of the seed so far
    scores: Mapping[str, float]  # by metric, such as `return`


class Saved(NamedTuple):
    """A checkpoint, for `on_checkpoint`."""

    frames: int  # environment frames per seed
    path: str  # of its folder


class Calls:
    """Calls callbacks, and collects what they are told until they may be called.

    Args:
        callbacks: objects with some of the methods in `HOOKS`.
        signals: the numbers of those that have asked for an end; more may be added at any time.
    """

    def __init__(self, callbacks: Sequence[Any], signals: Sequence[int]) -> None:
        self.signals = signals
        self._hooks: dict[str, list[tuple[str, Callable[[Any], Any]]]] = {}
        for hook in HOOKS:
            self._hooks[hook] = list(_methods(callbacks, hook))
        self._waiting: list[tuple[str, Any]] = []  # the names of hooks, and what they are told
        self.error: BaseException | None = None  # that a callback raised
        self.stopped_by: str | None = None  # the callback that asked for an end

    @property
    def ending(self) -> bool:
        """Whether a signal or a callback has asked for an end, or a callback has raised an exception."""
        return bool(self.signals) or self.stopped_by is not None or self.error is not None

    def decision(
        self, seed: int, frames: int, seen: np.ndarray, action: np.ndarray, result: Transition
    ) -> None:
        """Notes a decision and, where it was the last one, the end of its episode.

        Args:
            seed: the training seed.
            frames: environment frames of the seed, with this decision.
            seen: [observation_size], on which the agent decided.
            action: [action_size].
            result: what followed.
        """
        if self._hooks["on_decision"]:
            arrays = (_copy(each) for each in (seen, action, result.next_observation))
            before, chosen, after = arrays
            ends = result.terminated, result.truncated
            self._note(
                "on_decision", Decision(seed, frames, before, chosen, float(result.reward), *ends, after)
            )
        if result.episode is not None:
            self._note("on_episode", _ended(seed, frames, result.episode))

    def evaluation(self, seed: int, frames: int, scores: Mapping[str, float]) -> None:
        """Notes an evaluation of one seed; takes what `Evaluation` holds."""
        self._note("on_evaluation", Evaluation(seed, frames, MappingProxyType(dict(scores))))

    def checkpoint(self, frames: int, path: str) -> None:
        """Notes a checkpoint; takes what `Saved` holds."""
        self._note("on_checkpoint", Saved(frames, path))

    def deliver(self, failed: Callable[[str, BaseException], None]) -> None:
        """Calls the callbacks with what they have not been told yet, until one raises an exception.

        Args:
            failed: is told which one raised what.
        """
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        with kept_shared():
            for hook, event in waiting:
                for name, method in self._hooks[hook]:
                    if self.error is None:
                        self._call(name, method, event, failed)

    def _note(self, hook: str, event: Any) -> None:
        if self._hooks[hook]:
            self._waiting.append((hook, event))

    def _call(
        self,
        name: str,
        method: Callable[[Any], Any],
        event: Any,
        failed: Callable[[str, BaseException], None],
    ) -> None:
        try:
            answer = method(event)
            if answer is not None and not isinstance(answer, bool | np.bool_):
                raise UserError(f"{name} returned {answer!r}: return True to stop, or nothing to go on")
        except BaseException as error:  # also SystemExit: the run is saved before it ends anything
            self.error = error
            failed(name, error)
        else:
            if answer:
                self.stopped_by = self.stopped_by or name


def _methods(callbacks: Sequence[Any], hook: str) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """The methods of this name, with how messages call them."""
    for each in callbacks:
        method = attribute(each, hook, _name(each))
        if callable(method):
            yield f"{_name(each)}.{hook}", method


def checked(callbacks: Any) -> tuple[Any, ...]:
    """Callbacks as the user gave them.

    Raises:
        UserError: they are no list, or one of them has none of the methods, one of another name or one that
            does not take an event.
    """
    if isinstance(callbacks, str) or not isinstance(callbacks, Sequence):
        raise UserError(f"callbacks is a {type(callbacks).__name__}: give a list of objects")
    for each in callbacks:
        if not any(callable(attribute(each, hook, _name(each))) for hook in HOOKS):
            raise UserError(f"the callback {_name(each)} has none of the methods {', '.join(HOOKS)}")
        for name in _never_called(each):
            hint = nearest(name, HOOKS) or f"choose from {', '.join(HOOKS)}"
            raise UserError(f"the callback {_name(each)} has a method {name}, which nobody calls: {hint}")
    for hook in HOOKS:
        for name, method in _methods(callbacks, hook):
            _check_signature(method, name)
    return tuple(callbacks)


def _check_signature(method: Callable[[Any], Any], name: str) -> None:
    try:
        inspect.signature(method).bind(None)
    except TypeError as error:
        raise UserError(f"the callback {name} must take one argument, what happened: {error}") from None
    except ValueError:  # some builtins have no signature
        pass


def _never_called(callback: Any) -> list[str]:
    """The names of methods that look like hooks and are none."""
    like = [name for name in dir(callback) if name.startswith("on_") and name not in HOOKS]
    return [name for name in like if callable(attribute(callback, name, _name(callback)))]


def _name(callback: Any) -> str:
    if isinstance(callback, type | FunctionType):
        return callback.__name__
    return str(attributes_of(callback).get("__name__", type(callback).__name__))


def _ended(seed: int, frames: int, episode: Episode) -> EpisodeEnd:
    return EpisodeEnd(seed, frames, float(episode.total_reward), episode.frames, episode.success)


def _copy(array: np.ndarray) -> np.ndarray:
    copy = np.array(array)
    copy.setflags(write=False)
    return copy
