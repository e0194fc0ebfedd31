"""The command `doctor`: checks what is installed, whether rendering works, and which device there is."""

import os
import subprocess
import sys
from typing import NamedTuple

from crossq_wn.cli.arguments import Parser
from crossq_wn.cli.tables import Table, add_forms, show
from crossq_wn.environments.suite import Suite
from crossq_wn.environments.suites import SUITES
from crossq_wn.errors import UserError, one_line
from crossq_wn.installation import MIXED, NUMBERS_DEPEND_ON, install_command, simulator_set, version
from crossq_wn.machine import available_memory, devices

_RENDER = (
    "import mujoco as m;"
    "x = m.MjModel.from_xml_string('<mujoco><worldbody><geom size=\"1\"/></worldbody></mujoco>');"
    "d = m.MjData(x); m.mj_forward(x, d);"
    "r = m.Renderer(x, 32, 32); r.update_scene(d); assert r.render().any()"
)
_BACKENDS = ("egl", "osmesa", "glfw")  # the first two need no display

_SETS = {
    "published": "published: scores compare with the literature's",
    "current": "current: scores compare with runs of this set alone, and MyoSuite is not in it",
    MIXED: "a mix of the sets published and current: scores compare with neither's",
}


class Finding(NamedTuple):
    """One row of the table that `doctor` prints."""

    what: str
    state: str
    fix: str  # what to do about it; empty where nothing is wrong
    essential: bool = True  # whether training needs it


def doctor(parser: Parser, arguments: list[str]) -> int:
    """Runs `doctor`: prints what it finds; the exit code is 1 if something essential is missing."""
    add_forms(parser)
    parsed = parser.parse_args(arguments)
    found = examine()
    rows = [["!" if each.fix else "ok", each.what, each.state, each.fix] for each in found]
    show(Table("crossq-wn doctor", ["verdict", "what", "state", "fix"], rows), parsed.form)
    return 1 if any(each.fix and each.essential for each in found) else 0


def examine() -> list[Finding]:
    """Checks everything that is known to go wrong on users' machines."""
    return [*_packages(), *_simulators(), _rendering(), _device(), _memory()]


def _packages() -> list[Finding]:
    findings = [Finding("python", sys.version.split()[0], "")]
    for name in NUMBERS_DEPEND_ON:
        found = version(name)
        findings.append(Finding(name, found or "missing", "" if found else install_command()))
    owners: dict[str, Suite] = {}  # package -> the first suite that needs it
    for suite in SUITES.values():
        for name in suite.packages:
            owners.setdefault(name, suite)
    for name, suite in owners.items():
        found = version(name)
        fix = "" if found else f"for the tasks of {suite.title}: {suite.install_command}"
        # Only what this package installs itself has to be there.
        findings.append(Finding(name, found or "missing", fix, essential=suite.shipped))
    return findings


def _simulators() -> list[Finding]:
    """Says which set of simulators is installed, and finds versions that do not work together."""

    def release(name: str) -> tuple[int, ...]:
        parts = (version(name) or "0").split(".")
        return tuple(int(part) for part in parts[:3] if part.isdigit())

    found, published = simulator_set(), install_command("published")
    fix = published if found == MIXED else ""
    findings = [Finding("simulators", _SETS[found], fix, essential=False)]
    if release("mujoco") >= (4,):
        findings.append(Finding("mujoco + dm_control", "mujoco 4 breaks dm_control", published))
    if release("myosuite") >= (3,):
        state = "MyoSuite 3 changes the reach and pose tasks: results are not comparable"
        fix = SUITES["myosuite"].install_command
        findings.append(Finding("myosuite", state, fix, essential=False))
    if version("myosuite") and release("gymnasium") >= (1, 3):
        state = "MyoSuite 2.12 asks for gymnasium below 1.3 and mujoco 3.6"
        findings.append(Finding("gymnasium", state, published, essential=False))
    if release("numpy") >= (2, 5) and sys.version_info >= (3, 12):
        findings.append(Finding("numpy + dm_control", "harmless DeprecationWarnings", "", essential=False))
    return findings


def _rendering() -> Finding:
    wanted = os.environ.get("MUJOCO_GL")
    reasons: list[str] = []
    # The user's own choice first, then what would work instead of it.
    for backend in dict.fromkeys([*([wanted] if wanted else []), *_BACKENDS]):
        reason = why_not(backend)
        if reason is None and reasons and wanted:
            state = f"fails with MUJOCO_GL={wanted} ({reasons[0]}), works with MUJOCO_GL={backend}"
            return Finding("rendering", state, "unset MUJOCO_GL", essential=False)
        if reason is None:
            return Finding("rendering", f"works with MUJOCO_GL={backend}", "")
        reasons.append(reason)
    state = f"no OpenGL backend works ({reasons[0]}); videos cannot be made"
    fix = "apt-get install -y libegl1 libopengl0 libgl1-mesa-dri (Debian, Ubuntu), and unset MUJOCO_GL"
    return Finding("rendering", state, fix, essential=False)


def why_not(backend: str) -> str | None:
    """Says why MuJoCo cannot render with an OpenGL backend, tried in a process of its own; None if it can."""
    command, environment = [sys.executable, "-c", _RENDER], os.environ | {"MUJOCO_GL": backend}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, timeout=120, check=False, text=True
        )
    except (subprocess.TimeoutExpired, OSError, ValueError) as error:
        return one_line(error)
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"a process that renders ends with code {done.returncode}"


def _device() -> Finding:
    try:
        device = devices()[0]
    except UserError as error:
        # Messages end with what to do, behind the last colon.
        state, _, fix = str(error).rpartition(": ")
        return Finding("device", state, fix)
    state = f"{device.platform}: {device.device_kind}, {os.cpu_count()} CPU cores"
    # Without CUDA's packages JAX leaves a GPU idle, and says nothing.
    if device.platform == "cpu" and os.path.exists("/dev/nvidia0"):
        return Finding("device", state, f"a GPU is there: {install_command('cuda')}", essential=False)
    return Finding("device", state, "")


def _memory() -> Finding:
    available = available_memory()
    return Finding("memory", "unknown" if available is None else f"{available / 2**30:.1f} GiB free", "")
