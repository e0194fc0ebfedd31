"""What records say of their fields: the comment behind a field is its text in the Python reference."""

from functools import cache
from pathlib import Path
from typing import Any

import griffe


@cache
def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


def comment_of(lines: list[str], first: int, last: int) -> str:
    """The comment behind a statement of these lines, counted from 1, or else the lines of one above it."""
    _, _, behind = lines[last - 1].partition("  # ")
    if behind:
        return behind
    above: list[str] = []
    while (line := lines[first - 2 - len(above)].strip()).startswith("# "):
        above.insert(0, line.removeprefix("# "))
    return " ".join(above)


class Fields(griffe.Extension):
    """Gives each field that has no docstring the comment behind it, or else those directly above it."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        if attr.docstring is None and attr.parent is not None and attr.parent.is_class and attr.lineno:
            text = comment_of(_lines(Path(str(attr.filepath))), attr.lineno, attr.endlineno or attr.lineno)
            if text:
                attr.docstring = griffe.Docstring(text, parent=attr)
