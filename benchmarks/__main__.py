"""`python -m benchmarks [throughput|experiments]`: both, unless one is named."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from app.cores import available_cores
from benchmarks import experiments, machine, servers, throughput

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("part", nargs="?", choices=("throughput", "experiments"))
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load (4)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender is measured (3)")
    parser.add_argument("--even-if-busy", action="store_true", help="measure although other programs compute")
    arguments = parser.parse_args()
    idle = _nothing if arguments.even_if_busy else machine.wait_until_idle
    try:
        if not arguments.even_if_busy:
            machine.refuse_if_busy()
        return _measure(arguments, idle)
    except machine.Busy as busy:
        sys.stderr.write(f"error: {busy}\n")
        return 1


def _nothing() -> None:
    """Whatever else computes, go on."""


def _measure(arguments: argparse.Namespace, idle: Callable[[], None]) -> int:
    result: dict[str, Any] = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "peers": {peer.name: peer.versions() for peer in servers.peers() if peer.installed},
        "seconds": arguments.seconds,
        "rounds": arguments.rounds,
    }
    _say(f"machine: {result['machine']}\npeers: {result['peers']}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "service.log"
            if arguments.part in (None, "throughput"):
                result["throughput"] = {}
                _throughput(arguments.seconds, arguments.rounds, log, idle, result["throughput"])
            if arguments.part in (None, "experiments"):
                result["experiments"] = {}
                _experiments(arguments.seconds, log, idle, result["experiments"])
    finally:  # whatever ends it: what was found until then took long
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{result['measured_at'][:19].replace(':', '')}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
        _say(f"\nraw figures: {path}")
    return 0


def _throughput(seconds: float, rounds: int, log: Path, idle: Callable[[], None], into: dict[str, Any]) -> None:
    kinds = throughput.contenders(processes=min(4, available_cores()))
    found = into["workloads"] = {}
    for workload in throughput.WORKLOADS:
        found[workload.name] = throughput.measure(workload, kinds, seconds, rounds, log, idle)
        _say(f"\n{workload.name} ({found[workload.name]['picture_bytes']:,} bytes)\n")
        for line in throughput.table(found[workload.name]):
            _say(line)
    large = throughput.large_photo(
        [kind for kind in kinds if kind.name in ("demitasse, OpenVINO", "usual FastAPI")], seconds, log, idle
    )
    into["large_photo_p50_ms"] = large
    _say(f"\na photo of 12 megapixels, p50 in ms: {large}")


def _experiments(seconds: float, log: Path, idle: Callable[[], None], into: dict[str, Any]) -> None:
    for name, experiment in {
        "overload": partial(experiments.overload, log, 2 * seconds),
        "fairness": partial(experiments.fairness, log, seconds),
        "reload": partial(experiments.reload, log, seconds),
        "start": partial(experiments.start, log),
        "drain": partial(experiments.drain, log, seconds),
    }.items():
        idle()
        into[name] = experiment()
    _say("")
    for line in experiments.table(into):
        _say(line)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
