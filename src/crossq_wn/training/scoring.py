"""Evaluations during training."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from crossq_wn.environments import EnvironmentFaultError, Episode
from crossq_wn.environments.streams import kept_shared
from crossq_wn.errors import one_line
from crossq_wn.learning.evaluation import Arena, BrokenOff, evaluate
from crossq_wn.learning.q_bias import Bias, q_bias
from crossq_wn.signals import name_of
from crossq_wn.training.progress import short
from crossq_wn.training.reporting import doing
from crossq_wn.training.saving import captured, save_unevaluated
from crossq_wn.training.seeds import Stream, integer, stream
from crossq_wn.training.session import Session, told
from crossq_wn.training.stopping import World, drop


def score(session: Session) -> dict[int, World] | None:
    """Evaluates the policy of every seed and records the results; seeds whose environment fails stop.

    What was trained before an evaluation that fails, or that a signal breaks off, is saved.

    Returns:
        The states of environments before; None if there was nothing to evaluate.

    Raises:
        BrokenOff: a signal has asked for an end; the evaluation is made again when the run goes on.
    """
    if not session.seeds:
        return None
    with doing(session, "evaluating"):
        return _score(session)


def _score(session: Session) -> dict[int, World] | None:
    worlds = captured(session, unevaluated=True)  # before evaluations change them
    try:
        results, reasons = _play(session)
    except BrokenOff:
        asked = name_of(session.calls.signals[0])
        session.reporter.message(
            f"{asked}: the evaluation at {session.frames:,} frames is broken off, to be made again when the "
            "run goes on"
        )
        if session.frames:  # else the run begins anew
            save_unevaluated(session, worlds, {})
        raise
    except Exception as error:  # such as too little memory, or what a user's own network raises
        if session.frames:  # until then nothing was trained, and a run that cannot begin leaves nothing
            save_unevaluated(session, worlds, {seed.number: one_line(error) for seed in session.seeds})
        raise
    drop(session, reasons, worlds, unevaluated=True)
    record(session, results)
    return worlds


def _play(session: Session) -> tuple[dict[int, dict[str, float]], dict[int, str]]:
    """Plays the evaluations; returns by training seed the values by metric, or why there are none."""
    for seed in session.seeds:
        learned = session.training.environments[seed.index].statistics()
        # Evaluations scale observations as training does by now, and learn nothing themselves.
        session.testing.environments[seed.index].adopt(learned, fixed=True)
    with kept_shared():
        arena = _arena(session, Stream.EVALUATION)
        played = evaluate(session.learner, session.states, arena, session.config.options.eval_episodes)
        biases = _biases(session)
    results, reasons = {}, {}
    for seed, episodes, bias in zip(session.seeds, played, biases, strict=True):
        if isinstance(episodes, EnvironmentFaultError):
            reasons[seed.number] = f"in evaluation, {told(session, seed.number, episodes)}"
        elif isinstance(bias, EnvironmentFaultError):
            reasons[seed.number] = f"in evaluation, {told(session, seed.number, bias)}"
        else:
            results[seed.number] = scores_of(episodes, session.config.metric) | bias
    return results, reasons


def record(session: Session, results: dict[int, dict[str, float]]) -> None:
    """Logs and reports the scores of the seeds that still train.

    Args:
        session: at the frames of the evaluation.
        results: by training seed, the values by metric; every remaining seed has some.
    """
    metric = session.config.metric
    for seed in session.seeds:
        seed.evaluation = results[seed.number][metric]
        session.logs.evaluation(seed.number, session.frames, results[seed.number])
        session.calls.evaluation(seed.number, session.frames, results[seed.number])
    if session.seeds:
        shown = ", ".join(
            f"seed {seed.number}: {short(results[seed.number][metric])}" for seed in session.seeds
        )
        session.reporter.message(f"evaluation at {session.frames:,} frames, {metric}: {shown}")


def _arena(session: Session, name: Stream) -> Arena:
    starts = [integer(stream(seed.number, name, session.frames)) for seed in session.seeds]
    return Arena(session.testing, session.indices, starts, partial(_heed, session.calls.signals))


def _heed(signals: Sequence[int]) -> None:
    """Breaks an evaluation off once a signal has asked for an end."""
    if signals:
        raise BrokenOff


def scores_of(episodes: Sequence[Episode], metric: str) -> dict[str, float]:
    """The metrics of an evaluation; a success rate only if that is `metric` or an episode speaks of it.

    Args:
        episodes: at least one, of one seed.
        metric: of the task's suite: `return` or `success_rate`.

    Returns:
        Means over the episodes, by metric.
    """
    found = {"return": float(np.mean([episode.total_reward for episode in episodes]))}
    if metric == "success_rate" or any(episode.success is not None for episode in episodes):
        found["success_rate"] = float(np.mean([bool(episode.success) for episode in episodes]))
    return found


def _biases(session: Session) -> list[Bias | EnvironmentFaultError]:
    config = session.config
    if not config.options.q_bias:
        return [{} for _ in session.seeds]
    return q_bias(
        session.learner,
        session.states,
        _arena(session, Stream.Q_BIAS),
        discount=config.discount,
        time_limit=config.episode_decisions,
        decisions=session.decisions,
    )
