"""HTML as nested calls; whatever is not `Html` already is escaped."""

import html
import re
from collections.abc import Iterable, Sequence

from crossq_wn.errors import visible


class Html(str):
    """Markup. Any other string is text, whatever it holds."""


def escape(part: object) -> Html:
    """Turns text into markup, and leaves markup as it is."""
    return part if isinstance(part, Html) else Html(_plain(part))


def _plain(text: object) -> str:
    """Escapes text, lines staying lines; other control characters and broken letters become visible."""
    return html.escape("\n".join(map(visible, str(text).split("\n"))))


def join(parts: Iterable[object]) -> Html:
    """Puts parts one after the other."""
    return Html("\n".join(map(escape, parts)))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """An element.

    Args:
        name: such as "p".
        children: what it contains, text or markup.
        attributes: `class_` gives class, `aria_label` aria-label. One that is True has no value; one that is
            None or False is left out.
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
    """A table that scrolls inside its own box.

    Args:
        caption: what it is about.
        head: the columns' headers.
        rows: cells, text or markup; the first of a row is its header.
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
    """Folds markup away until it is asked for."""
    return tag("details", tag("summary", summary), *children, open=open_)


def section(title: str, *children: object, within: str = "") -> Html:
    """Makes a part of the page that links can name.

    Args:
        title: its heading.
        children: what it contains, text or markup.
        within: the name of the part that it belongs to, if it is not a part of the whole page.
    """
    name = re.sub(r"\W+", "-", title.lower())
    heading = tag("h3" if within else "h2", title)
    return tag("section", heading, *children, id=f"{within}-{name}" if within else name, aria_label=title)


def bullets(items: Iterable[object]) -> Html:
    """Makes a list."""
    return tag("ul", *(tag("li", item) for item in items))
