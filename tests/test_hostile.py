"""Run directories and files from strangers: no code runs, nothing outside changes, and no name acts."""

import io

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from crossq_wn.cli import console
from crossq_wn.errors import visible
from crossq_wn.results.figures.style import STYLE

# What acts on a terminal, in rich, in matplotlib or in HTML unless it is written as what it is.
NAMES = (
    "\x1b[31mred\x1b]0;title\x07", "[bold]b[/bold] [/]", "$\\frac{1}{0}$ $", "<script>alert(1)</script>&amp;",
    "two\nlines\r", "\u202eright to left", "\udcff", "\x9b2J",
)  # fmt: skip


@given(st.text())
def test_visible_text_is_printable_and_what_was_printable_stays(text):
    assert visible(text).isprintable()
    if text.isprintable():
        assert visible(text) == text


@pytest.mark.parametrize("name", NAMES)
def test_no_name_acts_on_a_terminal(name, capsys):
    console.say(name)
    console.warn(name)
    captured = capsys.readouterr()
    assert captured.out == f"{visible(name)}\n"
    assert captured.err == f"crossq-wn: {visible(name)}\n"
    captured.out.encode()


@pytest.mark.parametrize("name", NAMES[1:4])
def test_no_name_is_mathematics_in_a_figure(name):
    file = io.StringIO()
    with mpl.rc_context(STYLE):
        figure = Figure()
        figure.suptitle(name)
        figure.savefig(file, format="svg")
    shown = file.getvalue().replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
    assert f">{name}<" in shown
