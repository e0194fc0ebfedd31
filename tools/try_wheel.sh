#!/usr/bin/env bash
# Builds a wheel, installs it into an environment of its own, and trains, resumes, evaluates and reports there
# without the repository. Takes a minute or two, most of it compiling.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$PWD/.venv/bin/uv lock=$PWD/requirements.lock
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

"$uv" build --quiet --wheel --out-dir "$place/dist"
"$uv" venv --quiet --python .venv/bin/python "$place/venv"
"$uv" pip install --quiet --python "$place/venv/bin/python" --no-deps -r "$lock" "$place"/dist/*.whl

cd "$place"
unset PYTHONPATH
tiny="--warmup 100 --batch-size 8 --actor-width 8 --critic-width 8 --utd 1 --eval-every 400 --eval-episodes 1
    --checkpoint-every 400 --log-every 100 --no-video --no-tensorboard"
command=venv/bin/crossq-wn
where=$(venv/bin/python -c 'import crossq_wn; print(crossq_wn.__file__)')
[[ $where == "$place"/venv/* ]] || { echo "the package comes from $where, not from the wheel"; exit 1; }
"$command" --version
"$command" train pendulum-swingup --frames 400 $tiny --out run >/dev/null
"$command" resume run --frames 800 >/dev/null
"$command" eval run --episodes 1 --json | venv/bin/python -c 'import json, sys; assert len(json.load(sys.stdin)) == 1'
"$command" report run --out report.html >/dev/null
grep -q pendulum-swingup report.html
grep -c ',800,' run/eval.csv >/dev/null
echo "wheel: trained, resumed, evaluated and reported without the repository"
