"""Signals that ask a program to end."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

_ALWAYS = (signal.SIGINT, signal.SIGTERM)
# Those that otherwise end a process at once, such as the hang-up of a closed ssh session. Faults of the
# process itself, such as SIGSEGV, are not among them: it cannot go on.
_DEADLY = (
    "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU",
    "SIGIO", "SIGPWR", "SIGSTKFLT",
)  # fmt: skip


@contextmanager
def collected_signals() -> Iterator[list[int]]:
    """Collects signals that ask for an end, in the list that it yields; the second of a kind acts as usual.

    SIGINT and SIGTERM are always among them, the others unless they are ignored (as `nohup` does) or handled.
    """
    received: list[int] = []
    with _handled({*_ALWAYS, *_unhandled()}, received.append):
        yield received


@contextmanager
def interrupting_signals() -> Iterator[None]:
    """Has signals that would end this program at once raise KeyboardInterrupt, as Ctrl-C does.

    Afterwards the first one that came acts as usual.
    """
    received: list[int] = []

    def interrupt(number: int) -> NoReturn:
        received.append(number)
        raise KeyboardInterrupt

    try:
        with _handled(_unhandled(), interrupt):
            yield
    finally:
        deliver(received)


def deliver(received: Iterable[int]) -> None:
    """Lets the first of the signals that were collected act as usual, if there are any."""
    for number in received:
        signal.raise_signal(number)
        return


def name_of(number: int) -> str:
    """The name of a signal, such as SIGINT."""
    return signal.Signals(number).name


@contextmanager
def _handled(numbers: Iterable[int], act: Callable[[int], None]) -> Iterator[None]:
    """Handles signals by a function, each of them once; outside the main thread, which does that, none."""
    handlers: dict[int, Any] = {}

    def receive(number: int, frame: Any) -> None:
        signal.signal(number, handlers[number])
        act(number)

    with suppress(ValueError):
        for number in numbers:
            handlers[number] = signal.signal(number, receive)
    try:
        yield
    finally:
        with suppress(ValueError):
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _unhandled() -> list[int]:
    """The deadly signals that nobody handles or ignores."""
    numbers = [getattr(signal, name) for name in _DEADLY if hasattr(signal, name)]  # as this system has them
    return [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
