"""What happens when too much comes at once, when a version changes, at the start and at the end."""

import asyncio
import json
import os
import shutil
import statistics
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import load, pictures, servers
from benchmarks.throughput import newest, requests

OVERLOAD = 4.0  # times the capacity
_TURNS = 3
_CONNECTIONS = 1024


def overload(log: Path, seconds: float, model: str = "imagenet") -> dict[str, Any]:
    """Open-loop arrivals at four times what the service can answer, and how it does ten seconds later.

    The service has all cores but one and the load the last one: what it costs to send four times as much is not the
    service's. Peak and flood take turns, since machines change their pace within a minute; second halves are compared,
    which have to be long enough for some hundred answers.
    """
    kind = servers.demitasse()
    asked = requests(model, kind, pictures.made(model, pictures.PHOTO, 32))
    peaks, floods, memory_mib = [], [], []
    with _apart() as cores, servers.running(kind, newest(model), log, cores) as service:
        uvloop.run(load.closed(service.port, asked, 16, 2.0))
        calm = uvloop.run(load.closed(service.port, asked, 1, seconds / 2))
        rate = uvloop.run(load.closed(service.port, asked, 16, seconds)).rate
        memory_mib.append(service.resident_mib())
        for _ in range(_TURNS):
            peaks.append(uvloop.run(load.closed(service.port, asked, 64, seconds)).checked())
            offered = load.open_(service.port, asked, OVERLOAD * rate, seconds, connections=_CONNECTIONS)
            floods.append(uvloop.run(offered).checked())
            memory_mib.append(service.resident_mib())
        time.sleep(10)
        later = uvloop.run(load.closed(service.port, asked, 1, seconds / 2))
    answers = [answer for flood in floods for answer in flood.answers]
    return {
        "cores_of_the_service": None if cores is None else len(cores),
        "peak_rate": round(statistics.median(peak.steady_rate for peak in peaks), 1),
        "offered_rate": [round(flood.offered / flood.seconds) for flood in floods],
        "behind_ms": round(1000 * max(flood.behind_s for flood in floods)),
        "answered_of_peak": [
            round(flood.steady_rate / peak.steady_rate, 2) for flood, peak in zip(floods, peaks, strict=True)
        ],
        "answered_p99_ms": round(max(flood.latency_ms(99) for flood in floods), 1),
        "refused_p50_ms": round(statistics.median(flood.latency_ms(50, 429) for flood in floods), 1),
        "refused_p99_ms": [round(flood.latency_ms(99, 429), 1) for flood in floods],
        "refused_without_retry_after": sum(a.status == 429 and not a.retry_after for a in answers),
        "statuses": {str(status): count for status, count in sorted(Counter(a.status for a in answers).items())},
        "wrong": sum(flood.wrong for flood in floods),
        "broken": sum(flood.broken for flood in floods),
        "unsent": sum(flood.unsent for flood in floods),
        "memory_mib_before_and_after_each": list(map(round, memory_mib)),
        "p50_ms_before_and_10_s_after": [round(calm.latency_ms(50), 2), round(later.latency_ms(50), 2)],
    }


@contextmanager
def _apart() -> Iterator[frozenset[int] | None]:
    """Moves this process to the last core, and yields the others; None on a machine that has but one."""
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        yield None
        return
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield frozenset(cores - {max(cores)})
    finally:
        os.sched_setaffinity(0, cores)


def fairness(log: Path, seconds: float) -> dict[str, Any]:
    """One client asks a small model while 64 keep a large one busy."""
    kind = servers.demitasse()
    busy = requests("imagenet", kind, pictures.made("imagenet", pictures.PHOTO, 32))
    small = requests("mnist", kind, pictures.made("mnist", pictures.TINY, 16))

    async def both(port: int) -> tuple[load.Load, load.Load]:
        flood = asyncio.create_task(load.closed(port, busy, 64, seconds + 2))
        await asyncio.sleep(1)
        alone = await load.closed(port, small, 1, seconds)
        return (await flood).checked(), alone.checked()

    with servers.running(kind, newest("imagenet"), log) as service:
        alone = uvloop.run(load.closed(service.port, small, 1, 2.0))
        before = _inference(service.port)
        _, beside = uvloop.run(both(service.port))
        after = _inference(service.port)
    batch_ms = 1000 * (after[0] - before[0]) / (after[1] - before[1])
    own_ms = alone.latency_ms(50)
    return {
        "own_p50_ms": round(own_ms, 2),
        "batch_ms": round(batch_ms, 2),
        "p50_ms": round(beside.latency_ms(50), 2),
        "p99_ms": round(beside.latency_ms(99), 2),
        "of_allowed": round(beside.latency_ms(50) / (1.5 * batch_ms + own_ms), 2),
    }


def _inference(port: int) -> tuple[float, float]:
    """Sum and count of the inference stage so far, by the service's own metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    values = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
    name = "demitasse_stage_seconds"
    return values[f'{name}_sum{{stage="inference"}}'], values[f'{name}_count{{stage="inference"}}']


def reload(log: Path, seconds: float) -> dict[str, Any]:
    """A version is published, and the one before it removed, under 64 clients."""
    kind = servers.demitasse()
    asked = requests("imagenet", kind, pictures.made("imagenet", pictures.PHOTO, 32))
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "models"
        shutil.copytree(newest("imagenet"), root / "imagenet" / "1")

        async def change(port: int) -> tuple[load.Load, float]:
            loading = asyncio.create_task(load.closed(port, asked, 64, 4 * seconds))
            await asyncio.sleep(seconds)
            began = time.perf_counter()
            await asyncio.to_thread(_publish_copy, root / "imagenet" / "1", 2)
            while await asyncio.to_thread(_versions, port) != [1, 2]:
                await asyncio.sleep(0.1)
            swapped_after = time.perf_counter() - began
            await asyncio.to_thread(shutil.rmtree, root / "imagenet" / "1")
            return (await loading).checked(), swapped_after

        with servers.running(kind, root, log, MODEL_REPOSITORY=str(root)) as service:
            uvloop.run(load.closed(service.port, asked, 64, 2.0))
            found, swapped_after = uvloop.run(change(service.port))
            live = _versions(service.port)
    end = seconds + swapped_after + 1.0
    during = [answer.seconds for answer in found.answers if seconds <= answer.at_s <= end]
    steady = [answer.seconds for answer in found.answers if answer.at_s < seconds or answer.at_s > end + 1]
    return {
        "statuses": {str(status): count for status, count in found.statuses.items()},
        "broken": found.broken,
        "wrong": found.wrong,
        "swapped_after_s": round(swapped_after, 2),
        "p99_ms_steady_and_during": [round(_p99(steady), 1), round(_p99(during), 1)],
        "ratio": round(_p99(during) / _p99(steady), 2),
        "live_after": live,
    }


def _publish_copy(folder: Path, version: int) -> None:
    """The same model as another version: written aside, then renamed."""
    aside = folder.parent.parent / ".staging-copy"
    shutil.copytree(folder, aside)
    manifest = json.loads((aside / "manifest.json").read_text())
    (aside / "manifest.json").write_text(json.dumps(manifest | {"version": version}))
    aside.rename(folder.parent / str(version))


def _versions(port: int) -> list[int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/models/imagenet", timeout=30) as answer:
        return sorted(version["version"] for version in json.load(answer)["versions"])


def start(log: Path, times: int = 5) -> dict[str, Any]:
    """From the start of the process to readiness with all shipped models, and the memory it takes then."""
    ready, resident = [], []
    for _ in range(times):
        with servers.running(servers.demitasse(), newest("imagenet"), log) as service:
            ready.append(service.ready_after_s)
            resident.append(service.resident_mib())
    return {
        "ready_after_s": [round(seconds, 2) for seconds in sorted(ready)],
        "resident_mib": round(statistics.median(resident)),
    }


def drain(log: Path, seconds: float) -> dict[str, Any]:
    """SIGTERM while 64 clients ask: what was accepted is answered, then the process ends with 0."""
    kind = servers.demitasse()
    asked = requests("imagenet", kind, pictures.made("imagenet", pictures.PHOTO, 32))

    async def stop(service: servers.Running) -> tuple[load.Load, float]:
        loading = asyncio.create_task(load.closed(service.port, asked, 64, seconds + 6, reconnect=False))
        await asyncio.sleep(seconds)
        service.terminate()
        began = time.perf_counter()
        while service.process.poll() is None:
            await asyncio.sleep(0.02)
        ended_after = time.perf_counter() - began
        return (await loading).checked(), ended_after

    with servers.running(kind, newest("imagenet"), log) as service:
        found, ended_after = uvloop.run(stop(service))
        exit_code = service.process.returncode
    return {
        "statuses": {str(status): count for status, count in found.statuses.items()},
        "lost": found.broken,
        "wrong": found.wrong,
        "ended_after_s": round(ended_after, 2),
        "exit_code": exit_code,
    }


def table(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Markdown: what each experiment found."""
    yield "| experiment | figure | |"
    yield "|---|---|---|"
    for name, figures in found.items():
        for figure, value in figures.items():
            yield f"| {name} | {figure.replace('_', ' ')} | {json.dumps(value).replace(chr(34), '')} |"


def _p99(seconds: Sequence[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98] * 1000 if len(seconds) > 1 else float("nan")
