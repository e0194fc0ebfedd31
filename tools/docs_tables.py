"""Tables in Markdown for the documentation."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def table_of(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    shown = []
    for line in lines:
        cells = [_cell(str(cell)) for cell in line]
        shown.append(f"| {' | '.join(cells)} |")
    return "\n".join(shown)


def _cell(text: str) -> str:
    """A cell, in which bars are text; those within code are so anyway, and a backslash would be seen."""
    return re.sub(r"(`[^`]*`)|\|", lambda found: found[1] or r"\|", text.replace("\n", " "))


def prose(text: str) -> str:
    """A sentence for a cell, which stays wide enough to be read beside narrow ones."""
    return f'<span class="prose">{text.replace("<", "&lt;")}</span>'
