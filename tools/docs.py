"""Assembles the documentation in build/docs and builds the site: `make docs`.

    python tools/docs.py [--plain] [--no-site]

Pages are docs/*.md and the project's own files, whose links are rewritten. Tables of algorithms, presets,
settings and options are generated, so that each fact is declared once: in the code. The site is complete
without a network, and a dead link ends the build. `--plain` builds with MkDocs and its own theme, should
Zensical not be there.
"""

import argparse
import html.parser
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from docs_curves import draw_curves
from docs_generated import generated
from docs_sources import with_lines
from docs_tables import ROOT, with_prose

BUILD = ROOT / "build" / "docs"
SITE = ROOT / "site"
# The pages that lie outside docs/, by file.
OUTSIDE = {
    "README.md": "index.md",
    "PAPER.md": "paper.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
}
# The source of generated pages, to which links lead in the repository; in the site they lead to the page.
GENERATED_FROM = {
    "src/crossq_wn/cli/dispatch.py": "reference/commands.md",
    "src/crossq_wn/learning/diagnostics.py": "reference/diagnostics.md",
    "src/crossq_wn/runs/options.py": "reference/options.md",
}
_LINK = re.compile(r"(!?\[(?:[^\]\[]|\[[^\]]*\])*\])\(([^)\s]+)\)")


class DeadLinkError(Exception):
    """A link that leads nowhere."""


def pages() -> dict[Path, str]:
    """Every written page: its file, and its place below `BUILD`."""
    found = {ROOT / name: place for name, place in OUTSIDE.items()}
    for file in sorted((ROOT / "docs").rglob("*.md")):
        found[file] = str(file.relative_to(ROOT / "docs"))
    return found


def assemble() -> None:
    """Writes all pages below `BUILD`."""
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.copytree(ROOT / "docs", BUILD, ignore=shutil.ignore_patterns("*.md"))
    places = pages()
    for file, place in places.items():
        text = file.read_text()
        # What the page on the paper names is in the code where it says.
        text = with_lines(text) if place == "paper.md" else text
        _write(place, with_links(text, file, places))
    for place, text in generated().items():
        _write(place, text)
    draw_curves(BUILD / "algorithms")


def _write(place: str, text: str) -> None:
    target = BUILD / place
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(with_prose(text))


def with_links(text: str, file: Path, places: dict[Path, str]) -> str:
    """Rewrites a page's links for where the page and its targets lie in the site.

    Raises:
        DeadLinkError: a target does not exist.
    """

    def rewritten(match: re.Match[str]) -> str:
        label, link = match[1], match[2]
        target, hash_, anchor = link.partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        there = (file.parent / target).resolve()
        place = places.get(there) or _place_of(there)
        if place is None and there.exists():
            return label.strip("[]")  # a file of the repository that is no page
        if place is None:
            raise DeadLinkError(f"{file.relative_to(ROOT)}: {link} leads nowhere")
        up = "../" * places[file].count("/")
        return f"{label}({up}{place}{hash_}{anchor})"

    return _LINK.sub(rewritten, text)


def _place_of(target: Path) -> str | None:
    """The place of the page that is generated from a file, or of a picture or table beside the pages."""
    for name, place in GENERATED_FROM.items():
        if target == ROOT / name:
            return place
    docs = ROOT / "docs"
    return str(target.relative_to(docs)) if target.is_relative_to(docs) and target.is_file() else None


class _Links(html.parser.HTMLParser):
    """The links, pictures, scripts and names of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.names |= {value for name in ("id", "name") if (value := given.get(name))}
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        wanted = given.get("src") or (given.get("href") if tag == "link" else None)
        if wanted and given.get("rel") not in ("canonical", "alternate"):
            self.loads.append(wanted)


def faults(site: Path = SITE) -> Iterator[str]:
    """Every link of the built site that leads nowhere, and whatever it would load from a network."""
    found = {}
    for file in sorted(site.rglob("*.html")):
        found[file] = _Links()
        found[file].feed(file.read_text())
    for file, page in found.items():
        where = file.relative_to(site)
        for link in page.loads:
            if re.match(r"(https?:)?//", link):
                yield f"{where} loads {link}"
        for link in page.links + page.loads:
            target, _, anchor = urllib.parse.unquote(link).partition("#")
            if re.match(r"[a-z]+:|//", target) or where.name == "404.html":
                continue
            there = (file.parent / target.partition("?")[0]).resolve() if target else file
            there = there / "index.html" if there.is_dir() else there
            if not there.exists():
                yield f"{where}: {link} leads nowhere"
            elif anchor and there in found and anchor not in found[there].names | {"__top"}:
                yield f"{where}: {link}: there is no such heading"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plain", action="store_true", help="build with MkDocs")
    parser.add_argument("--no-site", action="store_true", help="only assemble the pages")
    parsed = parser.parse_args()
    try:
        assemble()
    except (DeadLinkError, LookupError) as fault:
        print(fault)
        return 1
    if parsed.no_site:
        return 0
    shutil.rmtree(SITE, ignore_errors=True)
    folder = Path(sys.executable).parent
    command = (
        ["mkdocs", "build", "--strict", "-f", "mkdocs-plain.yml"]
        if parsed.plain
        else ["zensical", "build", "--strict"]
    )
    done = subprocess.run([folder / command[0], *command[1:]], cwd=ROOT, check=False)
    found = list(faults()) if done.returncode == 0 else []
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found or done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
