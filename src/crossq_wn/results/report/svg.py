"""Matplotlib figures as inline SVG with the page's font and width."""

import io
import re
from xml.etree import ElementTree

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from crossq_wn.results.report.html import Html

DPI = 72  # dots per inch, as SVG has them


def picture(figure: Figure, name: str, label: str) -> Html:
    """Turns a figure into an inline SVG element that is as wide as the element around it.

    Args:
        figure: the figure.
        name: unique on the page, because all SVGs on a page share their ids.
        label: what it shows, for readers who cannot see it.
    """
    root = ElementTree.fromstring(_drawn(figure))
    for parent in root.iter():
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    used: set[str] = set()
    for element in root.iter():
        used.update(re.findall(r"#([\w.-]+)", " ".join(element.attrib.values())))
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = _attributes(element.attrib, name, used)
        # White space between elements means nothing.
        element.text = element.text and element.text.strip()
        element.tail = element.tail and element.tail.strip()
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    return Html(ElementTree.tostring(root, encoding="unicode", short_empty_elements=False))


def _drawn(figure: Figure) -> str:
    """Draws the figure as SVG."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "crossq-wn"}):
        FigureCanvasSVG(figure)
        figure.set_dpi(DPI)
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return file.getvalue()


def _attributes(attributes: dict[str, str], name: str, used: set[str]) -> dict[str, str]:
    """Returns an element's attributes for the page, without ids that nothing refers to."""
    found = {}
    for key, value in attributes.items():
        own = _local(key)
        if own != "id" or value in used:
            found[own] = _attribute(own, value, name)
    return found


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return value.replace("#", f"#{name}-")
    if key == "style":
        value = re.sub(r"font-family: [^;]*;?", "", value)
        # Black becomes the colour of the text, which is white in dark mode.
        value = re.sub(r"#000000\b", "currentColor", value)
        return re.sub(r"font: ([^;']*)'[^;]*", r"font: \1sans-serif", value)
    if key == "clip-path":
        return value.replace("url(#", f"url(#{name}-")
    # A hundredth of a point is finer than any screen.
    return re.sub(r"(\.\d\d)\d+", r"\1", " ".join(value.split()))
