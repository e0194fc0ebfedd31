"""Decisions of a robot as they arrive: they go to replay, but for wild readings of a sensor."""

import numpy as np

from crossq_wn.environments.interface import WILD
from crossq_wn.real_time.records import Decision
from crossq_wn.training.course import Course
from crossq_wn.training.deciding import observe, store


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
    if (reading := wild(decision)) is not None:
        seed.replay.end_episode()
        seed.observation = decision.transition.next_observation
        _tell(course, decision.number, reading)
    else:
        if session.learner.observe is not None:
            observe(session, [decision.transition])
        store(session, seed, decision.action, decision.transition)
        course.stand.note(decision.transition)
    session.decisions += 1


def wild(decision: Decision) -> str | None:
    """The largest number in an observation or reward, if it is beyond what any sensor means; else None.

    The limit is the same throughout: one that followed a run's own numbers would leave out for ever what a
    sensor says once it has woken up, as a barometer does with 0 and then 101,325 Pa.

    Args:
        decision: of a robot.
    """
    after = decision.transition
    for what, numbers in (
        ("observation", decision.observation),
        ("observation", after.next_observation),
        ("reward", np.array([after.reward])),
    ):
        largest = numbers[np.abs(numbers).argmax()]
        if abs(largest) > WILD:
            return f"{largest:g} in its {what}"
    return None


def _tell(course: Course, number: int, reading: str) -> None:
    """Says so the first time."""
    if not course.told_wild:
        course.told_wild = True
        course.session.reporter.message(
            f"{course.session.config.task}: decision {number:,} has {reading}: beyond {WILD:g} it "
            "is taken for a fault of a sensor, so neither it nor others like it are learned from"
        )
