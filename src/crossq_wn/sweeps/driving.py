"""The loop of a sweep, until everything is done or a signal asks it to stop."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from crossq_wn.errors import UserError, counted
from crossq_wn.sweeps.driver import Sweep, Worker
from crossq_wn.sweeps.presence import present

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PAUSE = 0.1  # seconds between looks at own processes


class Result(NamedTuple):
    """How a sweep ended."""

    signal: int | None  # the signal that stopped it, if any
    failed: dict[Path, str]  # the cause of each failure, by run directory


def drive(
    sweep: Sweep, sleep: Callable[[float], None] = time.sleep, more: Callable[[], bool] = lambda: False
) -> Result:
    """Works on a sweep until every run has finished or failed, or a signal arrives.

    Args:
        sweep: to work on.
        sleep: waits for some seconds.
        more: may add runs, and says whether it will add others.

    A signal stops all processes, which then save a checkpoint; a second signal stops them without one.

    Raises:
        UserError: an outage has lasted for so long that the sweep gives up.
    """
    with _signals() as received, present(sweep.out), _ended(sweep.workers):
        told = False
        while not _advanced(sweep, received, more):
            if received and not told:
                runs = counted(len(sweep.workers), "run")
                sweep.say(f"stopping {runs} at a checkpoint; asked again, without one")
                told = True
            sleep(_PAUSE)
        if sweep.gives_up and not received:
            raise UserError(_in_vain(sweep))
    return Result(received[0] if received else None, sweep.failed)


def _in_vain(sweep: Sweep) -> str:
    """Says that a sweep gives up."""
    left = f"{len(sweep.waiting)} of {counted(len(sweep.runs), 'run')} still wait"
    if sweep.failed:
        left += f", {len(sweep.failed)} failed"
    return f"no run has got further here for a day ({sweep.outage.cause}): {left}; mend that and start again"


def _advanced(sweep: Sweep, received: Sequence[int], more: Callable[[], bool]) -> bool:
    """Does what there is to do now; returns whether nothing is left."""
    sweep.collect(received)
    if received:
        return not sweep.workers
    coming = more()
    sweep.fill()
    coming = coming and not sweep.gives_up
    return sweep.over and not (coming and (sweep.waits or not sweep.elsewhere))


@contextmanager
def _ended(workers: Mapping[int, Worker]) -> Iterator[None]:
    """Stops all processes on the way out, whatever goes wrong here."""
    try:
        yield
    finally:
        for worker in workers.values():
            worker.process.stop()


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects signals that ask to stop, except for those that are ignored, as under nohup."""
    received: list[int] = []
    before = {}  # signal -> its handler
    for number in _STOPS:
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, lambda n, _: received.append(n))
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
