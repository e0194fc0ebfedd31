"""Signals that stop training between two decisions."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_ALWAYS = (signal.SIGINT, signal.SIGTERM)
# Those that otherwise end a process at once, such as the hang-up of a closed ssh session. Faults of the
# process itself, such as SIGSEGV, are not among them: it cannot go on.
_DEADLY = (
    "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGIO",
    "SIGPWR", "SIGSTKFLT",
)  # fmt: skip


@contextmanager
def collected_signals() -> Iterator[list[int]]:
    """Collects signals that ask for an end, in the list that it yields; the second of a kind acts as usual.

    SIGINT and SIGTERM are always among them, the others unless they are ignored (as `nohup` does) or handled.
    """
    received: list[int] = []
    handlers: dict[int, Any] = {}

    def receive(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(number, handlers[number])

    try:
        for number in _numbers():
            handlers[number] = signal.signal(number, receive)
    except ValueError:  # outside the main thread, which handles signals itself
        pass
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def name_of(number: int) -> str:
    """The name of a signal, such as SIGINT."""
    return signal.Signals(number).name


def _numbers() -> list[int]:
    numbers: list[int] = list(_ALWAYS)
    for name in _DEADLY:
        number = getattr(signal, name, None)  # not every system has all of them
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            numbers.append(number)
    return numbers
