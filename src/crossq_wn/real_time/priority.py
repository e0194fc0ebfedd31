"""The priority of the acting process: how soon the system lets it run when an action is due."""

import contextlib
import os

_ABOVE_ORDINARY = 1  # of 1 to 99: the lowest real-time priority already comes before every ordinary process
_NICE = -10  # of -20 to 19, the most favoured first


def favour_process() -> None:
    """Has the system favour this process, and the processes and threads that it starts, if its user may."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)


def take_priority() -> str | None:
    """Gives this thread alone a real-time priority: it runs as soon as it has something to do.

    Returns:
        What its priority is called: "real-time"; else "raised", where the process is favoured; None: it is
        the usual one, because the user may not raise it.
    """
    with contextlib.suppress(AttributeError, OSError):  # not every system has it, and only some users may
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(_ABOVE_ORDINARY))
        return "real-time"
    return "raised" if os.getpriority(os.PRIO_PROCESS, 0) < 0 else None
