"""Taking from the search process what it does not need: core dumps, tracers, the network.

Whoever gets code to run in it finds names, and no way to send them anywhere: it moves into a
network namespace in which nothing exists. Where the system grants no namespace it says so, and
`yinyom doctor` warns.
"""

import ctypes
import os
import resource
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_CLONE_NEWUSER = 0x1000_0000
_CLONE_NEWNET = 0x4000_0000


def refuse_dumps() -> None:
    """Leave no core file, and let no process of the same user look into this one."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def leave_network() -> bool:
    """Move where there is no network; False when the system does not let us."""
    user, group = os.geteuid(), os.getegid()
    if _unshare(_CLONE_NEWNET):
        return True
    if not _unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        return False
    # Files are still created as who we are.
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        try:
            Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
        except OSError:
            return True  # in a namespace without names for users, and without a network
    return True


def end_with(parent: int) -> bool:
    """End when the parent ends; False when it has ended already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _unshare(flags: int) -> bool:
    done: int = ctypes.CDLL(None, use_errno=True).unshare(flags)
    return done == 0
