"""Callbacks: what they are given, how they stop a run, and that they change nothing."""

import random
from types import SimpleNamespace

import numpy as np
import pytest

import crossq_wn
import helpers
from crossq_wn import UserError
from crossq_wn.data import replays
from crossq_wn.training.callbacks import HOOKS, checked
from helpers import TINY_OPTIONS, TINY_SETTINGS, Listener, same_run

QUIET = TINY_OPTIONS | TINY_SETTINGS | {"algorithm": "sac", "diagnostics": False}


def train(out, *callbacks, frames=230, **choices):
    listener = Listener()
    outcome = crossq_wn.train(
        helpers.PointMass,
        frames=frames,
        out=out,
        reporter=listener,
        callbacks=list(callbacks),
        **QUIET | choices,
    )
    return outcome, listener.messages


class Everything:
    """Remembers all that it is told, and draws from the random streams of the process."""

    def __init__(self):
        self.told = {hook: [] for hook in HOOKS}

    def _note(self, hook, event):
        self.told[hook].append(event)
        np.random.random()
        random.random()

    def on_decision(self, event):
        self._note("on_decision", event)

    def on_episode(self, event):
        self._note("on_episode", event)

    def on_evaluation(self, event):
        self._note("on_evaluation", event)

    def on_checkpoint(self, event):
        self._note("on_checkpoint", event)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    root = tmp_path_factory.mktemp("watched")
    seen = Everything()
    train(root / "watched", seen, seeds=[0, 1])
    train(root / "alone", seeds=[0, 1])
    return root, seen.told


def test_a_run_with_callbacks_is_the_same_as_one_without(watched):
    same_run(watched[0] / "watched", watched[0] / "alone")


def test_callbacks_are_told_what_the_run_recorded(watched):
    root, told = watched
    for seed in (0, 1):
        decisions = [each for each in told["on_decision"] if each.seed == seed]
        assert [each.frames for each in decisions] == list(range(1, 231))
        stored = replays.read(root / "watched", seed)
        for name, column in (
            ("observation", stored.observation),
            ("action", stored.agent_action),
            ("next_observation", stored.next_observation),
            ("terminated", stored.terminated),
        ):
            np.testing.assert_array_equal([getattr(each, name) for each in decisions], column)
        np.testing.assert_allclose([each.reward for each in decisions], stored.reward, rtol=1e-6)
        ends = [each for each in told["on_episode"] if each.seed == seed]
        whole = sum(each.length for each in ends)
        assert sum(e.total_reward for e in ends) == pytest.approx(sum(d.reward for d in decisions[:whole]))
    scores = {(each.frames, each.seed): each.scores["return"] for each in told["on_evaluation"]}
    written = [row for row in helpers.rows(root / "watched" / "eval.csv") if row["metric"] == "return"]
    assert scores == {(int(row["env_step"]), int(row["seed"])): float(row["value"]) for row in written}
    assert [each.frames for each in told["on_checkpoint"]] == [0, 100, 200, 230]


def test_what_callbacks_are_given_cannot_be_changed(watched):
    event = watched[1]["on_decision"][0]
    with pytest.raises(ValueError, match="read-only"):
        event.observation[0] = 1
    with pytest.raises(AttributeError):
        event.reward = 1
    with pytest.raises(TypeError):
        watched[1]["on_evaluation"][0].scores["return"] = 1


class StopAt:
    """Stops in the decision that ends at these frames."""

    def __init__(self, frames):
        self.frames = frames

    def on_decision(self, event):
        return event.frames == self.frames


def test_a_callback_stops_a_run_that_goes_on_as_if_it_had_not(watched, tmp_path):
    outcome, _ = train(tmp_path / "run", StopAt(130), seeds=[0, 1])
    assert (outcome.frames, outcome.finished, outcome.signal) == (130, False, None)
    assert outcome.stopped_by == "StopAt.on_decision"
    assert crossq_wn.resume(tmp_path / "run").finished
    same_run(tmp_path / "run", watched[0] / "alone")
    again = Everything()
    crossq_wn.resume(tmp_path / "run", frames=240, callbacks=[again])
    assert [each.frames for each in again.told["on_decision"]] == [n for n in range(231, 241) for _ in (0, 1)]


class Broken:
    """Raises once its first episode is over."""

    def __init__(self, error):
        self.error = error

    def on_episode(self, event):
        raise self.error


@pytest.mark.parametrize("error", [KeyError("speed"), SystemExit(3)])
def test_a_callback_that_raises_costs_nothing(error, watched, tmp_path):
    listener = Listener()
    with pytest.raises(type(error)) as caught:
        crossq_wn.train(
            helpers.PointMass, frames=230, out=tmp_path / "run", reporter=listener, seeds=[0, 1],
            callbacks=[Broken(error)], **QUIET,
        )  # fmt: skip
    assert caught.value is error
    (line,) = [each for each in listener.messages if "Broken" in each]
    assert f"the callback Broken.on_episode raised {type(error).__name__}" in line
    assert "\n" not in line
    kept = tmp_path / "run" / "errors" / "callback-Broken.on_episode.txt"
    assert str(kept) in line
    assert "raise self.error" in kept.read_text()
    crossq_wn.resume(tmp_path / "run")
    same_run(tmp_path / "run", watched[0] / "alone")


@pytest.mark.parametrize("hook", HOOKS)
def test_what_a_callback_raises_names_it_and_the_run(hook, tmp_path):
    def fail(event):
        raise KeyError("speed")

    with pytest.raises(KeyError, match="speed") as caught:
        crossq_wn.train(
            helpers.PointMass, frames=60, out=tmp_path / "run", callbacks=[SimpleNamespace(**{hook: fail})],
            **QUIET,
        )  # fmt: skip
    (note,) = caught.value.__notes__
    assert f"callback SimpleNamespace.{hook} raised KeyError: 'speed' (test_callbacks.py, line " in note
    assert f"the run is saved in {tmp_path / 'run'} and ends" in note
    assert (tmp_path / "run" / "checkpoints").is_dir()


class Returns:
    """Returns something that means nothing."""

    def on_checkpoint(self, event):
        return event.frames


class Deaf:
    """Does not take what it would be told."""

    def on_checkpoint(self):
        return True


class Misspelt:
    """Would never be called."""

    def on_episode(self, event):
        return None

    def on_evaluations(self, event):
        return None


def test_a_callback_may_keep_what_it_likes():
    seen = Misspelt()
    seen.on_evaluations, seen.on_policy = 3, False
    assert checked([seen]) == (seen,)


def test_callbacks_that_mean_nothing_are_refused(tmp_path):
    for callbacks, message in (
        ([object()], "the callback object has none of the methods on_decision, on_episode"),
        ([Misspelt()], "a method on_evaluations, which nobody calls: did you mean 'on_evaluation'"),
        ([Deaf()], r"Deaf\.on_checkpoint must take one argument, what happened: too many positional"),
        ("abc", "callbacks is a str: give a list of objects"),
    ):
        with pytest.raises(UserError, match=message):
            crossq_wn.train(helpers.PointMass, out=tmp_path / "run", callbacks=callbacks)
    assert not (tmp_path / "run").exists()
    with pytest.raises(
        UserError, match=r"Returns\.on_checkpoint returned 0: return True to stop, or nothing"
    ):
        train(tmp_path / "run", Returns())
