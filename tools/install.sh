#!/usr/bin/env bash
# Builds .venv: with a Python that is here and suits, or else with one that uv brings. `make install` runs it.
#
# PYTHON=/path/to/python3.x chooses the Python, SIMULATORS=published|current the simulators. With --if-other a .venv
# stays that has what these ask for.
set -euo pipefail
cd "$(dirname "$0")/.."

# uv is not needed, but it installs in a fraction of pip's time and can bring a Python.
uv_version=$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements.lock)

# MuJoCo 3.6, which is in the published set, has no wheel for Python 3.14.
newest=14
[[ ${SIMULATORS:-} != published ]] || newest=13

suits() {
    "$1" -c "import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, $newest))" 2>/dev/null
}

suitable() {
    for each in python3 python3.12 python3.13 python3.11 python3.14; do
        if suits "$each"; then echo "$each" && return; fi
    done
}

refuse() {
    echo "crossq-wn: $1" >&2
    exit 2
}

python_of() {
    "$1" -c 'import sys; print(sys.version.split()[0], "of", sys.base_prefix)'
}

simulators_of() {
    "$1" -c 'from crossq_wn.installation import simulator_set; print(simulator_set())'
}

# Whether .venv has the Python and the simulators that are asked for, if any are.
has_what_is_asked_for() {
    [[ -z ${PYTHON:-} || $(python_of .venv/bin/python 2>&1) == "$(python_of "$PYTHON")" ]] &&
        [[ -z ${SIMULATORS:-} || $(simulators_of .venv/bin/python 2>&1) == "$SIMULATORS" ]]
}

# uv for a machine that has none: installed by whatever Python there is, into a folder that goes again.
passing_uv() {
    for each in python3 python; do
        if "$each" -m venv "$passing" 2>/dev/null >&2 &&
            "$passing/bin/python" -m pip install --disable-pip-version-check --quiet "uv==$uv_version" >&2; then
            echo "$passing/bin/uv" && return
        fi
    done
    return 1
}

case ${SIMULATORS:-published} in
    published | current) ;;
    *) refuse "SIMULATORS is '$SIMULATORS': it is published or current" ;;
esac
if [[ -n ${PYTHON:-} ]] && ! suits "$PYTHON"; then
    refuse "PYTHON=$PYTHON is no Python 3.11 to 3.$newest with venv (on Debian: apt-get install python3-venv)"
fi
if [[ ${1:-} == --if-other ]]; then
    ! has_what_is_asked_for || exit 0
    echo "crossq-wn: .venv has another Python or other simulators than asked for: it is made anew, without extras"
fi
python=${PYTHON:-$(suitable)}
if [[ -n $python ]]; then
    python=$("$python" -c 'import sys; print(sys._base_executable)') # .venv itself may be the one that is active
    rm -rf .venv
    "$python" -m venv .venv
    .venv/bin/python -m pip install --disable-pip-version-check --quiet "uv==$uv_version" || true
    uv=.venv/bin/uv
else
    passing=$(mktemp -d)
    trap 'rm -rf "$passing"' EXIT
    uv=$(command -v uv || passing_uv) || refuse "found no Python 3.11 to 3.$newest with venv, and no uv that could bring \
one: apt-get install python3-venv, or make PYTHON=/path/to/python3.12, or install uv and try again"
    "$uv" python find --quiet 3.12 >/dev/null 2>&1 || "$uv" python install --quiet 3.12 ||
        refuse "uv could not bring Python 3.12"
    rm -rf .venv
    "$uv" venv --quiet --seed --python 3.12 .venv
fi

if [[ -z ${SIMULATORS:-} && $(python_of .venv/bin/python) == 3.14.* ]]; then
    echo "Python 3.14: MuJoCo 3.6 has no wheel for it, so the simulators are the current set, whose results do not" \
        "mix with published ones (docs/simulators.md)"
    SIMULATORS=current
fi
lock=requirements.lock
[[ ${SIMULATORS:-published} == published ]] || lock=requirements-current.lock

# The lock is complete, so nothing is resolved, and what dm_control asks for and never imports is left out.
"$uv" pip install --quiet --python .venv/bin/python --no-deps -r "$lock" -e . ||
    .venv/bin/python -m pip install --disable-pip-version-check --quiet --no-deps -r "$lock" -e .
touch .venv/installed
