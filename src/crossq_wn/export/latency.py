"""How long an exported policy takes to act, in a process of its own on one core."""

import json
import os
import subprocess
import sys
from pathlib import Path

from crossq_wn.errors import UserError

CALLS = 10_000

_HEAD = """
import json, os, sys
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
folder, calls = sys.argv[1], int(sys.argv[2])
"""
_PROGRAMS = {
    "numpy": """
sys.path.insert(0, folder)
from policy import Policy, latencies
policy = Policy(folder)
print(json.dumps(latencies(policy.act, policy.description["observation"]["seen"], calls)))
""",
    "onnx": """
import numpy, onnxruntime
from crossq_wn.acting.policy import latencies
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(folder + "/policy.onnx", options, ["CPUExecutionProvider"])
description = json.loads(open(folder + "/policy.json").read())["observation"]
parts = []
for part in description["parts"]:
    first, size = part["first"], int(numpy.prod(part["shape"], dtype=int))
    parts.append((part["name"], slice(first, first + size), (1, *part["shape"])))
names, state, earlier = ["action"], {}, description["frame_stack"] - 1
if earlier:
    names = ["action", "next_stack"]
    state = {"stack": numpy.zeros((1, earlier, description["size"]), numpy.float32)}
    state["begin"] = numpy.ones((1, 1), bool)
def act(observation):
    return session.run(names, {name: observation[own].reshape(shape) for name, own, shape in parts} | state)
print(json.dumps(latencies(act, description["seen"], calls)))
""",
}


def measure(folder: Path, kind: str, calls: int = CALLS) -> dict[str, float]:
    """Calls an exported policy on one observation at a time.

    Args:
        folder: of the export.
        kind: "numpy" or "onnx".
        calls: how many are timed.

    Returns:
        Seconds per call: p50, p99 and max.

    Raises:
        UserError: the export does not run by itself.
    """
    one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    # -B: the exported folder gets no bytecode of its policy.py.
    command = [sys.executable, "-B", "-c", _HEAD + _PROGRAMS[kind], str(folder), str(calls)]
    done = subprocess.run(command, env={**os.environ, **one}, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise UserError(f"{folder} does not run by itself: {last[0]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found
