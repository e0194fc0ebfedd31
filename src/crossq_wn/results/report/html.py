"""HTML as nested function calls; everything that is not `Html` is escaped."""

import html
import re
from collections.abc import Iterable, Sequence

from crossq_wn.errors import visible


class Html(str):
    """Markup. Any other string is text, whatever it contains."""


def escape(part: object) -> Html:
    """Turns text into markup; markup stays as it is."""
    return part if isinstance(part, Html) else Html(_plain(part))


def _plain(text: object) -> str:
    """Escapes text; line breaks stay, other control characters and broken letters become visible."""
    return html.escape("\n".join(map(visible, str(text).split("\n"))))


def join(parts: Iterable[object]) -> Html:
    """Joins parts, one per line."""
    return Html("\n".join(map(escape, parts)))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """Makes an element.

    Args:
        name: of the element, such as "p".
        children: its contents, text or markup.
        attributes: `class_` becomes class, and `aria_label` aria-label. True writes an attribute without a
            value; None and False leave it out.
    """
    written = ""
    for keyword, value in attributes.items():
        key = keyword.rstrip("_").replace("_", "-")
        if value is True:
            written += f" {key}"
        elif value not in (None, False):
            written += f' {key}="{_plain(value)}"'
    return Html(f"<{name}{written}>{''.join(map(escape, children))}</{name}>")


def table(caption: str, head: Sequence[object], rows: Iterable[Sequence[object]]) -> Html:
    """Makes a table that scrolls inside its own box.

    Args:
        caption: of the table.
        head: the headers of the columns.
        rows: their cells, text or markup; the first cell of a row is its header.
    """
    columns = [tag("th", cell, scope="col") for cell in head]
    body = []
    for first, *rest in rows:
        cells = [tag("td", cell) for cell in rest]
        body.append(tag("tr", tag("th", first, scope="row"), *cells))
    whole = tag(
        "table",
        tag("caption", tag("span", caption)),
        tag("thead", tag("tr", *columns)),
        tag("tbody", join(body)),
    )
    # Focusable, so that a keyboard can scroll it.
    return tag("div", whole, class_="scroll", role="region", aria_label=caption, tabindex="0")


def details(summary: object, *children: object, open_: bool = False) -> Html:
    """Folds contents away under a summary; the reader can open it."""
    return tag("details", tag("summary", summary), *children, open=open_)


def section(title: str, *children: object, within: str = "") -> Html:
    """Makes a section of the page, to which links can point.

    Args:
        title: its heading.
        children: its contents, text or markup.
        within: the name of the part of the page that it belongs to; empty if there is only one.
    """
    name = re.sub(r"\W+", "-", title.lower())
    heading = tag("h3" if within else "h2", title)
    return tag("section", heading, *children, id=f"{within}-{name}" if within else name, aria_label=title)


def bullets(items: Iterable[object]) -> Html:
    """Makes a list of bullet points."""
    return tag("ul", *(tag("li", item) for item in items))
