"""Tables in Markdown for the documentation."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_SENTENCE = 60  # letters of a cell, from which on it counts as one
_CELLS = re.compile(r"(?<=\|)((?:`[^`]*`|\\.|[^|\n])*)\|")


def table_of(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    shown = []
    for line in lines:
        cells = [_cell(str(cell)) for cell in line]
        shown.append(f"| {' | '.join(cells)} |")
    return "\n".join(shown)


def _cell(text: str) -> str:
    """A cell, in which bars and `<` are text; in code they are so anyway, and a backslash would be seen."""
    plain = {"|": r"\|", "<": "&lt;"}
    return re.sub(r"(`[^`]*`)|[|<]", lambda found: found[1] or plain[found[0]], text.replace("\n", " "))


def with_prose(page: str) -> str:
    """Marks sentences in the tables of a page, so that they stay wide enough to be read."""
    lines, code = [], False
    for line in page.splitlines(keepends=True):
        code ^= line.startswith("```")
        cells = _CELLS.findall(line) if line.startswith("|") and not code else []
        if len(cells) > 2:
            line = f"|{'|'.join(map(_marked, cells))}|\n"
        lines.append(line)
    return "".join(lines)


def _marked(cell: str) -> str:
    shown = re.sub(r"\]\([^)]*\)|[`\[]", "", cell).strip()
    return f' <span class="prose">{cell.strip()}</span> ' if len(shown) > _SENTENCE else cell
