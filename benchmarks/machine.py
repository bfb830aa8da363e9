"""What a run was measured on, and whether the machine is idle enough for ratios to mean something."""

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from app.settings import Settings

_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_LIBRARIES = ("fastapi", "uvicorn", "uvloop", "httptools", "pillow", "numpy", "openvino", "tensorflow")
_WATCHED_S = 2.0
_MOST_BUSY = 0.10


class Busy(RuntimeError):
    """Something else is computing: what would be measured is the other program."""


def describe() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    flags = set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "decode_threads": Settings().decode_threads,
        "max_batch_size": Settings().max_batch_size,
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
    }


def refuse_if_busy() -> None:
    """Raises `Busy` where, over two seconds, more than a tenth of the processors' time went to anything."""
    busy_before, total_before = _times()
    time.sleep(_WATCHED_S)
    busy, total = _times()
    share = (busy - busy_before) / max(1, total - total_before)
    if share > _MOST_BUSY:
        raise Busy(f"other programs take {share:.0%} of this machine; a comparison needs it idle")


def wait_until_idle(patience_s: float = 60.0) -> None:
    """Raises `Busy` where the machine is still busy after so many seconds."""
    give_up = time.monotonic() + patience_s
    while True:
        try:
            return refuse_if_busy()
        except Busy:
            if time.monotonic() >= give_up:
                raise


def _times() -> tuple[int, int]:
    """Ticks spent computing, and all ticks, of all processors since the machine began."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    idle = fields[3] + fields[4]
    return sum(fields) - idle, sum(fields)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
