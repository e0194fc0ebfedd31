"""Tables in Markdown for the documentation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def table_of(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    shown = []
    for line in lines:
        cells = [str(cell).replace("|", "\\|").replace("\n", " ") for cell in line]
        shown.append(f"| {' | '.join(cells)} |")
    return "\n".join(shown)


def prose(text: str) -> str:
    """A sentence for a cell, which stays wide enough to be read beside narrow ones."""
    return f'<span class="prose">{text.replace("<", "&lt;")}</span>'
