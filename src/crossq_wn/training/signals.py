"""Signals that stop a training between two decisions."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def collected_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM in the list that it yields; a second one has its usual effect."""
    received: list[int] = []
    handlers: dict[int, Any] = {}

    def receive(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(number, handlers[number])

    numbers: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
    try:
        for number in numbers:
            handlers[number] = signal.signal(number, receive)
    except ValueError:  # outside the main thread, which handles signals itself
        pass
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
