"""Decisions of a robot as they arrive: they go to replay, but for wild readings of a sensor."""

import numpy as np

from crossq_wn.acting.interface import LARGE
from crossq_wn.real_time.records import Decision
from crossq_wn.real_time.side import Stand
from crossq_wn.training.course import Course
from crossq_wn.training.loop import observe, store


def take(course: Course, decision: Decision) -> None:
    """Adds a decision to replay, and shows it to a learner with running statistics.

    One with a wild reading is counted alone: a single number of 1e30 makes every later checkpoint one from
    which training diverges.

    Args:
        course: the run.
        decision: the next one in the order of acting; those between it and the one before are lost.
    """
    session = course.session
    (seed,) = session.seeds
    if not np.array_equal(decision.observation, seed.observation):
        seed.replay.end_episode()  # the one before was broken off; nothing happens if it had ended
    seed.observation = decision.observation
    session.decisions = decision.number
    if (reading := wild(decision, course.stand)) is not None:
        seed.replay.end_episode()
        seed.observation = decision.transition.next_observation
        _tell(course, decision.number, reading)
    else:
        if session.learner.observe is not None:
            observe(session, [decision.transition])
        store(session, seed, decision.action, decision.transition)
        course.stand.note(decision.transition)
    session.decisions += 1


def wild(decision: Decision, stand: Stand) -> str | None:
    """What is wild in a decision's numbers: 100,000 times as large as any before; None if nothing is.

    Args:
        decision: of a robot.
        stand: knows its largest numbers so far.
    """
    after = decision.transition
    sizes = [float(np.abs(each).max()) for each in (decision.observation, after.next_observation)]
    for what, largest, usual in (
        ("observation", max(sizes), stand.largest_observation or min(sizes)),
        ("reward", abs(after.reward), stand.largest_reward or abs(after.reward)),
    ):
        if largest > LARGE * max(1.0, usual):
            return f"{largest:g} in its {what}, where {usual:.3g} was the largest"
    return None


def _tell(course: Course, number: int, reading: str) -> None:
    """Says so the first time."""
    if not course.told_wild:
        course.told_wild = True
        course.session.reporter.message(
            f"{course.session.config.task}: decision {number:,} has {reading}: it looks like a fault of a "
            "sensor, so neither it nor others like it are learned from"
        )
