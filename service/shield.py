"""What a process that holds keys does so that its memory is written nowhere and read by nobody.

Keys and opened values lie in RAM while they are used. A core dump, a swapped page or a debugger
of another program of the same user would carry them off; the kernel forbids that when asked.
Whoever is root on the machine reads memory all the same (docs/threat-model.md).
"""

import ctypes
import resource
import sys
from pathlib import Path

_PR_SET_DUMPABLE = 4
_MCL_CURRENT, _MCL_ONFAULT = 1, 4
_SWAPS = Path("/proc/swaps")


def shield_process() -> list[str]:
    """Forbid core dumps and foreign looks into this process; gives what could not be had.

    `core_limit`: the limit stays. `dumpable`: the kernel does not know the wish (it is not
    Linux). `swap`: the machine swaps and this process may not lock its memory
    (`LimitMEMLOCK=infinity`, or no swap). Asked again, it does no harm.
    """
    lacking: list[str] = []
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):
        lacking.append("core_limit")
    if not sys.platform.startswith("linux"):
        return [*lacking, "dumpable"]
    libc = ctypes.CDLL(None, use_errno=True)
    # Not dumpable: no core by any road, and /proc/PID/mem belongs to root. Covers every page,
    # those of libraries too, which MADV_DONTDUMP on single buffers would not.
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        lacking.append("dumpable")
    if _machine_swaps() and not _lock_memory(libc):
        lacking.append("swap")
    return lacking


def _machine_swaps() -> bool:
    try:
        return len(_SWAPS.read_bytes().splitlines()) > 1
    except OSError:
        return True


def _lock_memory(libc: ctypes.CDLL) -> bool:
    """Lock what lies in memory now; a limit that later allocations could meet is left alone."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != resource.RLIM_INFINITY:
        return False
    return bool(libc.mlockall(_MCL_CURRENT | _MCL_ONFAULT) == 0)
