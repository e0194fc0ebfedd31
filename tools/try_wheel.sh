#!/usr/bin/env bash
# Builds a wheel, and with each Python that is named installs it into an environment of its own, and trains,
# resumes, evaluates and reports there without the repository: a minute or two each, most of it compiling.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$PWD/.venv/bin/uv root=$PWD
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
tiny="--warmup 100 --batch-size 8 --actor-width 8 --critic-width 8 --utd 1 --eval-every 400 --eval-episodes 1
    --checkpoint-every 400 --log-every 100 --no-video --no-tensorboard"

try() {
    local lock=$root/requirements.lock here=$place/$2
    case $("$1" -c 'import sys; print(*sys.version_info[:2])') in
        "3 14") lock=$root/requirements-current.lock ;;
    esac
    "$uv" venv --quiet --python "$1" "$here"
    "$uv" pip install --quiet --python "$here/bin/python" --no-deps -r "$lock" "$place"/dist/*.whl
    cd "$here"
    local command=bin/crossq-wn
    [[ $(bin/python -c 'import crossq_wn; print(crossq_wn.__file__)') == "$here"/* ]]
    "$command" --version
    "$command" train pendulum-swingup --frames 400 $tiny --out run >/dev/null
    "$command" resume run --frames 800 >/dev/null
    "$command" eval run --episodes 1 --json | bin/python -c 'import json, sys; assert len(json.load(sys.stdin)) == 1'
    "$command" report run --out report.html >/dev/null
    grep -q pendulum-swingup report.html
    grep -q ',800,' run/eval.csv
    echo "the wheel trains, resumes, evaluates and reports without the repository"
}

# The source archive, from which the wheel is built, has what its tests need.
"$uv" build --quiet --out-dir "$place/dist"
tar tzf "$place"/dist/*.tar.gz >"$place/files"
for each in tools/docs.py docs/tutorial.md Makefile mkdocs.yml benchmarks/README.md PAPER.md; do
    grep -q "^[^/]*/$each$" "$place/files"
done
unset PYTHONPATH
number=0
for python in "${@:-$root/.venv/bin/python}"; do
    number=$((number + 1))
    (try "$(realpath -s "$python")" "env$number")
done
