"""How many cores this process may use, which in a container are fewer than the machine has."""

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def available_cores(cgroups: Path = _CGROUPS, own: Path = _OWN_CGROUP) -> int:
    """The cores that it is bound to, or the share of time that its control group has, rounded up, where that is less.

    More threads than that are stopped by the kernel for the rest of each period, in the middle of a batch.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, *map(_share, _hierarchy(cgroups, own)))))


def _hierarchy(cgroups: Path, own: Path) -> list[Path]:
    """The folders of this process's control group and of those above it; in a container, often the first is all."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    place = next((line.removeprefix("0::").strip("/") for line in lines if line.startswith("0::")), "")
    return [cgroups, *(cgroups / part for part in (Path(place), *Path(place).parents) if part != Path())]


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
