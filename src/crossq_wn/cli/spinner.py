"""What a terminal shows while something takes long."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from crossq_wn.errors import visible


@contextlib.contextmanager
def working(text: str) -> Iterator[None]:
    """Shows on a terminal what is being done inside the context, and leaves nothing behind."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(Text(visible(text))):
        yield
