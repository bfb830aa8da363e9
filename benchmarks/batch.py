"""`python -m app.batch` beside what the machine can do: `python -m benchmarks.batch [--rounds 3] [--pictures 4000]`.

Limit (`limit.py`, one process without Ray) and command take turns, since machines change their pace within a minute.
The command runs on a number of pictures and on three times as many: its rate is that of the difference, for which Ray's
start has been paid. To be run on an idle machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import machine, pictures, servers
from benchmarks.throughput import limit

_MODEL = "imagenet"
_SENT = 48


def measure(folder: Path, count: int, rounds: int, seconds: float) -> dict[str, object]:
    """Pictures a second of each round, and the median of their ratios."""
    made = pictures.made(_MODEL, pictures.PHOTO, _SENT)
    few, many = _copies(folder, made, count), _copies(folder, made, 3 * count)
    limits, rates, starts = [], [], []
    for turn in range(rounds):
        limits.append(limit(_MODEL, "openvino", made, seconds))
        short, long = (_seconds(photos, folder / f"out-{turn}-{photos.name}") for photos in (few, many))
        rates.append(2 * count / (long - short))
        starts.append(short - count / rates[-1])
        sys.stdout.write(f"limit {limits[-1]:.1f}/s, batch {rates[-1]:.1f}/s, start {starts[-1]:.1f} s\n")
        sys.stdout.flush()
    return {
        "limit": [round(rate, 1) for rate in limits],
        "batch": [round(rate, 1) for rate in rates],
        "start_s": [round(start, 1) for start in starts],
        "of_limit": round(statistics.median(rate / most for rate, most in zip(rates, limits, strict=True)), 3),
    }


def _copies(folder: Path, made: list[pictures.Picture], count: int) -> Path:
    """A folder of so many names, which share the files of a few pictures."""
    photos = folder / f"photos-{count}"
    photos.mkdir()
    for index, picture in enumerate(made):
        (photos / f"{index:06}.jpg").write_bytes(picture.data)
    for index in range(len(made), count):
        os.link(photos / f"{index % len(made):06}.jpg", photos / f"{index:06}.jpg")
    return photos


def _seconds(photos: Path, output: Path) -> float:
    """From the start of the process to its end."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "app.batch", str(photos), "--output", str(output), "--model", _MODEL],
        cwd=photos.parent,
        env={**servers.clean_environment(), "PYTHONPATH": str(servers.ROOT)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--pictures", type=int, default=4000, help="of the shorter run; the longer has 3 times (4000)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each way of the limit (8)")
    parser.add_argument("--even-if-busy", action="store_true", help="measure although other programs compute")
    arguments = parser.parse_args()
    if not arguments.even_if_busy:
        try:
            machine.refuse_if_busy()
        except machine.Busy as busy:
            sys.stderr.write(f"error: {busy}\n")
            return 1
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments.pictures, arguments.rounds, arguments.seconds)
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
