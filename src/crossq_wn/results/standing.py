"""How far a run has come, in a word: done, running, stopped or failed."""

import contextlib

from crossq_wn.errors import counted
from crossq_wn.results.last import Last
from crossq_wn.results.records import RunRecord
from crossq_wn.runs import leases
from crossq_wn.runs.config import DAMAGED
from crossq_wn.runs.manifests import trained_frames


def standing(run: RunRecord, last: Last) -> str:
    """Says where a run stands; of several seeds it names the number that failed.

    Args:
        run: which one.
        last: its last evaluation, which is all that a run has to show that is done.
    """
    seeds, frames = run.planned
    if last.scored == len(seeds) and last.frames + run.action_repeat > frames:
        return "done"
    if leases.alive(run.path, leases.seen(run.path)):
        return "running"
    failed = 0
    with contextlib.suppress(*DAMAGED):
        failed = len(run.common.get("failed", {}) | run.common.get("unevaluated", {}))
    trained = trained_frames(run.path / "checkpoints")
    if failed == len(seeds) or (not trained and run.failed_early):
        return "failed"
    state = "done" if trained + run.action_repeat > frames else "stopped"
    return f"{state}, {failed} of {counted(len(seeds), 'seed')} failed" if failed else state
