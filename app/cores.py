"""How many cores this process may use, which in a container are fewer than the machine has."""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cores(cgroup: Path = _CGROUP) -> int:
    """The cores that it is bound to, or the share of time that its control group has, rounded up, where that is less.

    More threads than that are stopped by the kernel for the rest of each period, in the middle of a batch.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, _share(cgroup))))


def _share(cgroup: Path) -> float:
    """Cores' worth of time, by version 2 or 1 of control groups; infinite where nothing limits it."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((cgroup / name).read_text() for name in files).split()
            if quota not in ("max", "-1"):
                return int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return math.inf
