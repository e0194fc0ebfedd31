"""The priority of the acting process: how soon the system lets it run when an action is due."""

import contextlib
import os
import resource

_ABOVE_ORDINARY = 1  # of 1 to 99: the lowest real-time priority already comes before every ordinary process
_NICE = -10  # of -20 to 19, the most favoured first


def favour_process() -> None:
    """Has the system favour this process, if its user may.

    Threads and processes inherit it that start before `take_priority`. Those that the thread with the
    real-time priority starts have the usual one: a driver that never sleeps would keep everything else from
    running.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)


def take_priority() -> str | None:
    """Gives this thread alone a real-time priority: it runs as soon as it has something to do.

    Returns:
        What its priority is called: "real-time"; else "raised", where the process is favoured; None: it is
        the usual one, because the user may not raise it.
    """
    with contextlib.suppress(AttributeError, OSError):  # not every system has it, and only some users may
        # On a fork, the flag resets the policy, and with it a nice value below 0.
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(_ABOVE_ORDINARY))
        return "real-time"
    return "raised" if os.getpriority(os.PRIO_PROCESS, 0) < 0 else None


def what_is_denied(priority: str | None) -> str | None:
    """One line on a control loop without a real-time priority; None if it has one.

    Args:
        priority: from `take_priority`, in a process with this one's limits.
    """
    if priority == "real-time":
        return None
    has = "the usual priority" if priority is None else "a raised priority but no real-time one"
    return f"the acting process has {has}, {_reason()}: actions may come late while other programs are busy"


def _reason() -> str:
    """Why there is no real-time priority, as far as the limits of this process tell."""
    if not hasattr(resource, "RLIMIT_RTPRIO"):
        return "as this system has none to give"
    most, _ = resource.getrlimit(resource.RLIMIT_RTPRIO)
    if most == 0:
        return "because this user may not have one (`ulimit -r` is 0)"
    limit = "unlimited" if most == resource.RLIM_INFINITY else most
    return f"because the system refuses one, although `ulimit -r` is {limit}"
