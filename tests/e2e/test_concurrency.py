"""Many callers at once: nobody gets another's answer, nobody who leaves is missed, and nothing is left of them."""

import asyncio
import io
import random
import shutil
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from benchmarks import load, pictures
from tests.e2e.service import PATIENCE_S, PICTURES, ROOT, Service

SHIPPED = ROOT / "models"
CLIENTS = 64


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository that holds the smallest shipped model."""
    shutil.copytree(SHIPPED / "mnist" / "1", tmp_path / "models" / "mnist" / "1")
    return tmp_path / "models"


@pytest.fixture(scope="module")
def service(small: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One with the smallest shipped model, which nobody looks after meanwhile: what it holds, it holds of requests."""
    started = Service(
        tmp_path_factory.mktemp("concurrency") / "log.jsonl",
        MODEL_REPOSITORY=small,
        PRECISION="f32",
        QUEUE_SIZE="1000",
        RELOAD_INTERVAL_S="3600",
        LOG_LEVEL="warning",
        DRAIN_DELAY_S="0",
    )
    yield started.wait_until_ready()
    started.stop()


@pytest.fixture(scope="module")
def digits() -> list[load.Request]:
    """Small pictures, and what the model of digits takes them for."""
    made = pictures.made("mnist", pictures.TINY, 16)
    return [load.Request(load.raw_body("/predict?model=mnist", one.data), one.label) for one in made]


def _cloud(seed: int) -> bytes:
    """A picture: for no two of which the model of digits says the same."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((28, 28)).save(buffer, "PNG")
    return buffer.getvalue()


def _metric(service: Service, line: str) -> float:
    """A value of /metrics, by all that stands before it."""
    found = [one for one in service.http.get("/metrics").text.splitlines() if one.startswith(line + " ")]
    return float(found[0].split()[-1])


def _batched(service: Service) -> list[float]:
    """How many images have been computed, in how many batches."""
    return [_metric(service, f'demitasse_batch_size_images_{figure}{{model="mnist"}}') for figure in ("sum", "count")]


def test_64_clients_get_the_answers_to_their_own_pictures(service: Service) -> None:

    def confidences(answer: httpx.Response) -> list[float]:
        assert answer.status_code == 200
        by_class = sorted(answer.json()["predictions"], key=lambda prediction: prediction["class_id"])
        return [prediction["confidence"] for prediction in by_class]

    # Pictures of which none has an answer that could pass for another's
    sent: list[bytes] = []
    one_by_one: list[list[float]] = []
    for data in map(_cloud, range(4 * CLIENTS)):
        found = confidences(service.http.post("/predict?top_k=10", content=data))
        if len(sent) < CLIENTS and all(np.abs(np.subtract(found, other)).max() > 1e-3 for other in one_by_one):
            sent.append(data)
            one_by_one.append(found)
    assert len(sent) == CLIENTS

    async def client(number: int) -> None:
        async with httpx.AsyncClient(base_url=service.http.base_url, timeout=PATIENCE_S) as http:
            for _ in range(5):
                found = confidences(await http.post("/predict?top_k=10", content=sent[number]))
                assert np.abs(np.subtract(found, one_by_one[number])).max() < 1e-4, number

    async def all_at_once() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(client(number))

    batched = _batched(service)
    asyncio.run(all_at_once())
    images, batches = (after - before for after, before in zip(_batched(service), batched, strict=True))
    assert images == 5 * CLIENTS > batches  # some did share a batch


def test_callers_that_leave_at_any_moment_are_not_missed(service: Service) -> None:
    photo = (PICTURES / "cat.jpg").read_bytes()  # is decoded in a thread, thumbnails are not
    bodies = [load.raw_body("/predict", _cloud(0)), load.multipart("/predict", "file", photo)]
    chance = random.Random(0)  # noqa: S311  no secret hangs on it

    async def leaver() -> None:
        sent = chance.choice(bodies)
        _, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(sent[: chance.randrange(len(sent)) if chance.random() < 0.5 else len(sent)])
        await writer.drain()
        await asyncio.sleep(chance.uniform(0, 0.02))
        writer.transport.abort()

    async def stayer(http: httpx.AsyncClient) -> int:
        return (await http.post("/predict", content=_cloud(1))).status_code

    async def all_at_once() -> list[int]:
        async with httpx.AsyncClient(base_url=service.http.base_url, timeout=PATIENCE_S) as http:
            leaving = [asyncio.create_task(leaver()) for _ in range(200)]
            staying = [asyncio.create_task(stayer(http)) for _ in range(50)]
            await asyncio.gather(*leaving)
            return await asyncio.gather(*staying)

    assert asyncio.run(all_at_once()) == [200] * 50
    service.wait_for(lambda: _metric(service, "demitasse_requests_in_progress") == 1, "all but this request to end")
    under_way = 'demitasse_under_way_images{model="mnist",version="1"}'
    service.wait_for(lambda: _metric(service, under_way) == 0, "their pictures to leave the engine")
    assert service.http.post("/predict", content=_cloud(2)).status_code == 200


def test_too_many_get_an_answer_or_429_with_retry_after_and_nothing_else(start, digits: list[load.Request]) -> None:
    service = start(QUEUE_SIZE="4").wait_until_ready()
    asked = [load.Request(load.multipart("/predict?model=mnist", "file", _cloud(7)), "any")]

    async def both() -> tuple[load.Load, load.Load]:
        photos = pictures.made("imagenet", pictures.PHOTO, 4)
        large = [load.Request(load.multipart("/predict?model=imagenet", "file", one.data), one.label) for one in photos]
        return await asyncio.gather(
            load.closed(service.port, large, CLIENTS, 1.0), load.open_(service.port, asked, 400, 1.0, connections=512)
        )

    crowd, others = asyncio.run(both())
    for found in (crowd, others):
        assert (found.broken, set(found.statuses) <= {200, 429}) == (0, True), found.statuses
        assert all(answer.retry_after for answer in found.answers if answer.status == 429)
        assert found.statuses[200] > 0
    assert crowd.statuses[429] > 0
    assert crowd.wrong == 0
    assert asyncio.run(load.closed(service.port, digits, 2, 0.5)).statuses.keys() == {200}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_version_is_replaced_under_64_clients_without_a_failed_request(
    start, repository: Path, digits: list[load.Request], workers: str
) -> None:
    service = start(MODEL_REPOSITORY=str(repository), RELOAD_INTERVAL_S="0.1", WORKERS=workers).wait_until_ready()

    def publish_and_withdraw() -> None:
        aside = repository / ".staging-by-hand"
        shutil.copytree(repository / "mnist" / "1", aside)
        manifest = aside / "manifest.json"
        manifest.write_text(manifest.read_text(encoding="utf-8").replace('"version": 1', '"version": 2', 1))
        aside.rename(repository / "mnist" / "2")
        service.wait_for(lambda: service.live() == {"mnist": [1, 2]}, "version 2")
        shutil.rmtree(repository / "mnist" / "1")
        service.wait_for(lambda: service.live() == {"mnist": [2]}, "version 1 to go")

    async def both() -> list[load.Load]:
        publishing = asyncio.create_task(asyncio.to_thread(publish_and_withdraw))
        loads = []
        while not publishing.done():
            loads.append(await load.closed(service.port, digits, CLIENTS, 0.5))
        await publishing
        return loads

    for found in asyncio.run(both()):
        assert (found.statuses.keys(), found.wrong, found.broken) == ({200}, 0, 0)


def test_nothing_is_left_of_10_000_requests(service: Service, digits: list[load.Request]) -> None:
    process = Path(f"/proc/{service.process.pid}")

    def ask(count: int) -> None:
        answered = 0
        while answered < count:
            found = asyncio.run(load.closed(service.port, digits, CLIENTS, 0.5))
            assert (found.statuses.keys(), found.wrong, found.broken) == ({200}, 0, 0)
            answered += found.statuses[200]

    def held() -> Counter[str]:
        return Counter(threads=len(list((process / "task").iterdir())), files=len(list((process / "fd").iterdir())))

    ask(2000)  # what grows once has grown by then
    service.wait_for(lambda: _metric(service, "demitasse_requests_in_progress") == 1, "all others to end")
    before, before_kib = held(), service.resident_kib()
    ask(10_000)
    service.wait_for(lambda: held() <= before, f"no more than {before}")
    assert service.resident_kib() - before_kib < 8 * 1024


def test_idle_connections_keep_nobody_from_an_answer(service: Service) -> None:
    idle = [socket.create_connection(("127.0.0.1", service.port), PATIENCE_S) for _ in range(500)]
    try:
        assert service.http.post("/predict", content=_cloud(3)).status_code == 200
    finally:
        for connection in idle:
            connection.close()
