"""What is installed, and the command that installs this package or an extra of it from where it came from."""

import json
import os
import platform
import re
import shlex
import sys
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PACKAGE = "crossq-wn"
NUMBERS_DEPEND_ON = (_PACKAGE, "jax", "jaxlib", "optax", "numpy")  # besides the simulators
# The sets of simulators that are tested together: the release of each distribution, by the set's name.
# Scores of `published` compare with the literature's; `current` is the newest that dm_control runs on, and
# has no MyoSuite, which asks for MuJoCo 3.6. pyproject.toml has both as extras.
SIMULATOR_SETS: dict[str, dict[str, str]] = {
    "published": {"mujoco": "3.6", "dm_control": "1.0.38", "gymnasium": "1.2", "myosuite": "2.12.2"},
    "current": {"mujoco": "3.17", "dm_control": "1.0.50", "gymnasium": "1.4"},
}
SIMULATORS = tuple(SIMULATOR_SETS["published"])
MIXED = "mixed"


def install_command(extra: str = "") -> str:
    """The command that installs this package again, from where it came from, perhaps with extras.

    Args:
        extra: the name of one of the package's extras, such as `wandb`, or several, separated by commas.

    Returns:
        The command, perhaps with what else it takes, as the rest of a sentence.
    """
    wanted = f"[{extra}]" if extra else ""
    checkout = Path(__file__).resolve().parents[2]
    is_checkout = (checkout / "pyproject.toml").exists()
    if "published" in extra.split(",") and sys.version_info >= (3, 14):
        older = "make install SIMULATORS=published" if is_checkout else "install anew with Python 3.13"
        return f"{older}, since MuJoCo 3.6 has no wheel for Python 3.14"
    if is_checkout:
        return _from_checkout(checkout, wanted)
    import importlib.metadata

    try:
        package = importlib.metadata.distribution(_PACKAGE)
        origin = json.loads(package.read_text("direct_url.json") or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return f"{_here('pip')} install '{_PACKAGE}{wanted}'"
    # No index is known to have this package, but its requirements are on one.
    return _from_elsewhere(_there(origin, wanted), _required(package.requires or [], extra), extra)


def _from_elsewhere(there: str | None, required: Sequence[str], extra: str) -> str:
    if not _pip_fails():
        return f"{_here('pip')} install {there or ' '.join(required)}"
    if extra and not any(re.match(r"'(dm_control|myosuite)", each) for each in required):
        return f"{_here('pip')} install {' '.join(required)}"
    left_out = "where overrides.txt has the line `labmaze ; python_version < '3.13'`"
    return f"{_here('uv')} pip install --override overrides.txt {there or ' '.join(required)}, {left_out}"


def _from_checkout(checkout: Path, wanted: str) -> str:
    here = checkout == Path.cwd()
    if not _pip_fails():
        return f"{_here('pip')} install -e '{'.' if here else checkout}{wanted}'"
    # In that folder uv reads in pyproject.toml what to leave out.
    place = "" if here else f"--directory '{checkout}' "
    return f"{_here('uv')} {place}pip install -e '.{wanted}'"


def _here(installer: str) -> str:
    """How pip or uv is called so that it installs where this package is, in a shell as it is now.

    Where the environment is not active, either would take another one, or find none; run as a module of this
    Python, both take this one.
    """
    if Path(os.environ.get("VIRTUAL_ENV", "none")).resolve() == Path(sys.prefix).resolve():
        return installer
    return f"{shlex.quote(sys.executable)} -m {installer}"


def _pip_fails() -> bool:
    """Whether pip would have to build labmaze, which dm_control requires, and which has no wheel here."""
    return sys.version_info >= (3, 13)


def _there(origin: dict[str, Any], wanted: str) -> str | None:
    """What `pip install` takes to find a package where it came from; None if it is no longer there.

    Args:
        origin: as pip recorded it in direct_url.json.
        wanted: an extra in brackets, or nothing.
    """
    url, vcs = str(origin.get("url", "")), origin.get("vcs_info")
    if vcs:
        return f"'{_PACKAGE}{wanted} @ {vcs['vcs']}+{url}@{vcs['commit_id']}'"
    if url.startswith("file://"):  # a folder, a wheel or an sdist
        path = Path(urllib.parse.unquote(urllib.parse.urlparse(url).path))
        return f"'{path}{wanted}'" if path.exists() else None
    return f"'{_PACKAGE}{wanted} @ {url}'" if url else None


def version(distribution: str) -> str | None:
    """The version of an installed distribution, or None if it is not installed."""
    import importlib.metadata

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> str:
    """The versions that numbers depend on besides this package's own, in two lines for a bug report."""
    known = {"python": platform.python_version()} | {name: version(name) for name in NUMBERS_DEPEND_ON[1:]}
    simulators = {name: version(name) for name in SIMULATORS}
    return f"{_listed(known)}\nsimulators: {simulator_set()} ({_listed(simulators)})"


def _listed(found: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {value or 'missing'}" for name, value in found.items())


def simulator_set(packages: Sequence[str] = SIMULATORS) -> str:
    """The set of simulators that is installed, or `MIXED`.

    Args:
        packages: the distributions that count; those that are missing or of no set do not.
    """
    found = {name: version(name) for name in packages if name in SIMULATORS}
    present = {name: value for name, value in found.items() if value is not None}
    for title, releases in SIMULATOR_SETS.items():
        if all(_is_of(value, releases.get(name, "none")) for name, value in present.items()):
            return title
    return MIXED


def _is_of(version: str, release: str) -> bool:
    return f"{version}.".startswith(f"{release}.")


def _required(requirements: Sequence[str], extra: str) -> list[str]:
    """What extras of the package require, quoted for a shell; of no extra, what the package requires."""
    found, wanted = [], extra.split(",")
    for requirement in requirements:
        what, _, marker = requirement.partition(";")
        extras = re.findall(r"extra *== *['\"]([^'\"]+)", marker)
        if (extras[0] if extras else "") in wanted:
            found.append(f"'{what.strip()}'")
    return found
