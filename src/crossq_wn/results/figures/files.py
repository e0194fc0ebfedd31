"""Writes the files of a figure: PNG, SVG and the table behind them. Only figures of ours are replaced."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from crossq_wn.errors import UserError, not_made, option
from crossq_wn.files import read_start, write_atomically
from crossq_wn.results.figures.style import MARK, STYLE, Row
from crossq_wn.runs.tables import records_as_csv

_SUFFIXES = (".png", ".svg", ".csv")
# Formats that somebody may ask for; any other suffix, as in `walker-v2.5`, is part of a name.
_OTHERS = (".jpg", ".jpeg", ".pdf", ".gif", ".eps", ".ps", ".tif", ".tiff", ".bmp", ".webp", ".svgz", ".html")


def save(figure: Figure, rows: Sequence[Row], stem: Path) -> list[Path]:
    """Writes a figure as PNG and SVG, and the table behind it as CSV.

    Args:
        figure: the figure.
        rows: the table behind it; the keys of the first row are the columns, NaN becomes an empty cell.
        stem: where to write; a suffix .png, .svg or .csv is taken off, one of other formats refused.

    Returns:
        The files written. Those of an earlier picture of that name are replaced.

    Raises:
        UserError: there is nothing to draw, another file has that name, or the folder cannot be written.
    """
    if not rows:
        raise UserError("there is nothing to draw: no evaluation has a value")
    png, svg, table = paths = outputs(stem)
    try:
        png.parent.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(STYLE):
            write_atomically(
                png, lambda new: figure.savefig(new, format="png", dpi=150, metadata={"Software": MARK})
            )
            figure.set_layout_engine(None)  # it has its layout by now, and a layout takes longest
            marks = {"Creator": MARK, "Date": None}
            write_atomically(svg, lambda new: figure.savefig(new, format="svg", metadata=marks))
        write_atomically(table, records_as_csv(rows, list(rows[0])))
    except OSError as error:
        where = option("out", str(stem))
        raise UserError(f"cannot write {where}: {not_made(error, png)}") from None
    return paths


def numbered(stem: Path, number: int, count: int) -> Path:
    """Returns where to write one of several figures: `fig1-protocol-2`, or just `fig1` if there is one.

    Args:
        stem: where one figure would be written.
        number: of this figure, from 1.
        count: how many figures there are.
    """
    if count == 1:
        return stem
    return stem.with_name(f"{_name(stem)}-protocol-{number}")


def _name(stem: Path) -> str:
    """The name of a figure, without the suffix of one of its files."""
    return stem.stem if stem.suffix.lower() in _SUFFIXES else stem.name


def outputs(stem: Path) -> list[Path]:
    """Returns the files that `save` would write.

    Raises:
        UserError: one of them exists and is not ours, or `stem` has no name or asks for another format.
    """
    name = _name(stem)
    if Path(name).suffix.lower() in _OTHERS:
        raise UserError(
            f"{option('out', str(stem))}: figures are written as {', '.join(_SUFFIXES)}; name them without "
            f"suffix, such as {stem.with_suffix('')}"
        )
    if not name or name == "..":
        raise UserError(f"{option('out', str(stem))} is a folder: name the file to write, without suffix")
    paths = [stem.parent / f"{name}{suffix}" for suffix in _SUFFIXES]
    there = [path for path in paths if path.exists()]
    if there and not _is_ours(paths[0]):
        raise UserError(
            f"{there[0]} is not a figure of crossq-wn, so it is not overwritten; "
            f"choose another {option('out')}"
        )
    return paths


def _is_ours(png: Path) -> bool:
    """Says whether a picture carries our mark; the PNG is written first, so even half a figure has it."""
    with contextlib.suppress(OSError):
        return b"tEXtSoftware\0" + MARK.encode() in read_start(png, 4096)
    return False
