"""Who answers how many requests in a second: all contenders in one run, on the same pictures."""

import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import load, pictures, servers
from benchmarks.servers import Kind
from models.repository import ModelRepository

CLIENTS = (1, 16, 64)
_WARM_UP_S = 1.5
_PICTURES = 48


@dataclass(frozen=True)
class Workload:
    """A model and the size of the pictures that it is sent."""

    name: str
    model: str
    size: tuple[int, int]


WORKLOADS = (
    Workload("imagenet, photos of 500x375", "imagenet", pictures.PHOTO),
    Workload("mnist, pictures of 32x32", "mnist", pictures.TINY),
    Workload("cifar10, pictures of 32x32", "cifar10", pictures.TINY),
)


def contenders(*, processes: int) -> list[Kind]:
    """The service with its engines, as one process and as several, and the peers that are installed."""
    ours = [
        servers.demitasse("demitasse, OpenVINO"),
        servers.demitasse("demitasse, TensorFlow", ENGINE="tensorflow"),
    ]
    if processes > 1:
        ours.append(servers.demitasse(f"demitasse, OpenVINO, {processes} workers", WORKERS=str(processes)))
    return [*ours, *(peer for peer in servers.peers(processes) if peer.installed)]


def measure(
    workload: Workload, kinds: Sequence[Kind], seconds: float, rounds: int, log: Path, idle: Callable[[], None]
) -> dict[str, Any]:
    """Figures by contender: for each number of clients the median of the rounds, and the limit by engine.

    `idle` is called before each, to see that nothing else computes.
    """
    sent = pictures.made(workload.model, workload.size, _PICTURES)
    found: dict[str, list[dict[str, Any]]] = {kind.name: [] for kind in kinds}
    limits: dict[str, list[float]] = {"openvino": [], "tensorflow": []}
    for turn in range(rounds):
        shift = turn * len(kinds) // rounds  # so that each comes early and late
        for kind in (*kinds[shift:], *kinds[:shift]):
            idle()
            found[kind.name].append(_one(workload, kind, sent, seconds, log))
        for engine in limits:
            idle()
            limits[engine].append(limit(workload.model, engine, sent, seconds))
    return {
        "model": workload.model,
        "picture_bytes": round(pictures.mean_bytes(sent)),
        "limit": {engine: round(statistics.median(rates), 1) for engine, rates in limits.items()},
        "contenders": {name: _median(runs) for name, runs in found.items()},
    }


def limit(model: str, engine: str, sent: Sequence[pictures.Picture], seconds: float) -> float:
    """Pictures a second of `limit.py`, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        for index, picture in enumerate(sent):
            (Path(folder) / f"{index:03}.jpg").write_bytes(picture.data)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.limit", model, engine, "auto", folder, str(seconds)],
            cwd=folder,
            env={**servers.clean_environment(), "PYTHONPATH": str(servers.ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
    return float(done.stdout.split()[-1])


def large_photo(kinds: Sequence[Kind], seconds: float, log: Path, idle: Callable[[], None]) -> dict[str, float]:
    """Milliseconds that half of the answers to a photo of 12 megapixels took, one client asking."""
    workload = Workload("imagenet, a photo of 12 megapixels", "imagenet", pictures.TWELVE_MEGAPIXELS)
    sent = pictures.made(workload.model, workload.size, 2)
    found = {}
    for kind in kinds:
        idle()
        with servers.running(kind, newest(workload.model), log) as service:
            answers = uvloop.run(load.closed(service.port, requests(workload.model, kind, sent), 1, seconds))
            found[kind.name] = round(answers.checked().latency_ms(50), 1)
    return found


def requests(model: str, kind: Kind, sent: Sequence[pictures.Picture]) -> list[load.Request]:
    path = f"/predict?model={model}" if kind.model_query else "/predict"
    return [load.Request(load.multipart(path, "file", picture.data), picture.label) for picture in sent]


def newest(model: str) -> Path:
    """The folder of the highest version that is shipped."""
    return ModelRepository(servers.ROOT / "models").find(model).path


def _one(workload: Workload, kind: Kind, sent: Sequence[pictures.Picture], seconds: float, log: Path) -> dict[str, Any]:
    asked = requests(workload.model, kind, sent)
    with servers.running(kind, newest(workload.model), log) as service:
        found: dict[str, Any] = {}
        for clients in CLIENTS:
            uvloop.run(load.closed(service.port, asked, clients, _WARM_UP_S))
            answers = uvloop.run(load.closed(service.port, asked, clients, seconds))
            found[str(clients)] = answers.checked().summary()
        found["engine"] = kind.engine
        found["resident_mib"] = round(service.resident_mib())
        found["ready_after_s"] = round(service.ready_after_s, 2)
    return found


def _median(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure, and the rates of all runs for the spread."""
    middle = {
        name: round(statistics.median(run[name] for run in runs), 2) for name in ("resident_mib", "ready_after_s")
    }
    for clients in map(str, CLIENTS):
        loads = [run[clients] for run in runs]
        middle[clients] = {
            **{name: round(statistics.median(one[name] for one in loads), 2) for name in ("rate", "p50_ms", "p99_ms")},
            "rates": [one["rate"] for one in loads],
            "statuses": dict(sum((Counter(one["statuses"]) for one in loads), Counter())),
            "broken": sum(one["broken"] for one in loads),
        }
    return middle | {"engine": runs[0]["engine"], "rounds": list(runs)}


def table(result: dict[str, Any], baseline: str = "LitServe", usual: str = "usual FastAPI") -> Iterator[str]:
    """Markdown. Rates with their ratio to the baseline and the share of what the machine can do without HTTP.

    The latency of a single client is compared with that of the usual way.
    """
    rows = result["contenders"]
    yield f"| | 1 client, p50 (to {usual}) | 16 clients (to {baseline}; of limit) | 64 clients | p99 at 64 | memory |"
    yield "|---|---|---|---|---|---|"
    for name, row in rows.items():
        latency = f"{row['1']['p50_ms']:.1f} ms" + _ratio(row["1"]["p50_ms"], rows, usual, "1", "p50_ms")
        cells = [name, f"{row['1']['rate']:.0f}/s, {latency}"]
        for clients in ("16", "64"):
            rate = row[clients]["rate"]
            share = f"; {rate / result['limit'][row['engine']]:.0%}" if row["engine"] in result["limit"] else ""
            cells.append(f"{rate:.0f}/s{_ratio(rate, rows, baseline, clients, 'rate')}{share}")
        refused = {status: count for status, count in row["64"]["statuses"].items() if status != "200"}
        cells.append(f"{row['64']['p99_ms']:.0f} ms" + (f", {refused}" if refused else ""))
        cells.append(f"{row['resident_mib']:.0f} MiB")
        yield "| " + " | ".join(cells) + " |"
    for engine, rate in result["limit"].items():
        yield f"| limit: decoding and {engine} without HTTP | | {rate:.0f}/s | | | |"


def _ratio(value: float, rows: dict[str, Any], base: str, clients: str, figure: str) -> str:
    return f" ({value / rows[base][clients][figure]:.2f}x)" if base in rows else ""
