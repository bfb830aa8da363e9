"""For those who run the service: alive, ready, and in figures."""

import asyncio
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.app.conftest import FakeEngine, HeldEngine, png, publish, rewrite_manifest, serving, until

PNG = {"content-type": "image/png"}


async def _samples(http: httpx.AsyncClient) -> dict[tuple[str, ...], float]:
    """Name and label values, in the order of the labels' names -> value. The exposition has to parse."""
    families = list(text_string_to_metric_families((await http.get("/metrics")).text))
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


async def test_service_with_a_model_is_live_and_ready(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        live, ready = await served.http.get("/health/live"), await served.http.get("/health/ready")
    assert (live.status_code, live.json()) == (200, {"status": "live"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


@pytest.mark.parametrize(("names", "default"), [([], None), (["cups"], "mugs")])
async def test_service_without_its_default_model_is_live_but_not_ready(
    names: list[str], default: str | None, tmp_path: Path
) -> None:
    for name in names:
        publish(tmp_path, name)
    async with serving(tmp_path, default_model=default) as served:
        live, ready = await served.http.get("/health/live"), await served.http.get("/health/ready")
    assert live.status_code == 200
    assert (ready.status_code, ready.json()["error"]["code"]) == (503, "not_ready")


async def test_draining_service_is_live_but_not_ready(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        served.app.state.draining = True
        live, ready = await served.http.get("/health/live"), await served.http.get("/health/ready")
    assert live.status_code == 200
    assert (ready.status_code, ready.json()["error"]["code"]) == (503, "draining")


async def test_service_is_not_live_while_its_engine_hangs_and_is_again_once_it_goes_on(tmp_path: Path) -> None:
    async def live() -> tuple[int, str]:
        answer = await served.http.get("/health/live")
        return answer.status_code, answer.json().get("error", {}).get("code", "")

    now = [100.0]
    publish(tmp_path)
    async with serving(tmp_path, HeldEngine, engine_timeout_s=5) as served:
        served.app.state.device._clock = lambda: now[0]
        asked = asyncio.create_task(served.http.post("/predict", content=png(1), headers=PNG))
        await until(lambda: served.engine.sizes)
        now[0] = 105.0
        assert await live() == (200, "")
        now[0] = 105.1
        assert await live() == (503, "engine_stuck")
        message = (await served.http.get("/health/live")).json()["error"]["message"]
        assert message == "a batch has been computing for 5 s; this process has to be replaced"
        served.engine.let()
        assert (await asked).status_code == 200
        assert await live() == (200, "")


async def test_metrics_count_requests_stages_batches_and_failures(tmp_path: Path) -> None:
    class Choosy(FakeEngine):
        def infer(self, images: np.ndarray) -> np.ndarray:
            if (images == 13).any():
                raise RuntimeError("no")
            return super().infer(images)

    publish(tmp_path)
    rewrite_manifest(publish(tmp_path), schema_version=2)
    async with serving(tmp_path, Choosy) as served:
        for shade in (1, 13, 2):
            await served.http.post("/predict", content=png(shade), headers=PNG)
        await served.http.post("/predict", content=b"", headers=PNG)
        found = await _samples(served.http)
    requests = {key: value for key, value in found.items() if key[0] == "demitasse_requests_total"}
    assert requests == {
        ("demitasse_requests_total", "POST", "/predict", "200"): 2,
        ("demitasse_requests_total", "POST", "/predict", "500"): 1,
        ("demitasse_requests_total", "POST", "/predict", "400"): 1,
    }
    assert found["demitasse_request_seconds_count", "/predict"] == 4
    stages = {key[1]: value for key, value in found.items() if key[0] == "demitasse_stage_seconds_count"}
    assert stages == {"decode": 3, "queue": 2, "inference": 2, "rank": 2}
    assert found["demitasse_batch_size_images_count", "cups"] == 3
    assert found["demitasse_batch_failures_total", "cups"] == 1
    assert found["demitasse_model_info", "CPU", "fake", "cups", "f32", "1"] == 1
    assert found["demitasse_refused_versions",] == 1


async def test_metrics_tell_what_waits_and_what_is_under_way(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, HeldEngine) as served:
        post = served.http.post
        running = asyncio.create_task(post("/predict", content=png(1), headers=PNG))
        await until(lambda: served.engine.sizes)
        waiting = [asyncio.create_task(post("/predict", content=png(shade), headers=PNG)) for shade in (2, 3)]
        await until(lambda: served.batcher.queued == 2)
        found = await _samples(served.http)
        served.engine.let()
        await asyncio.gather(running, *waiting)
        after = await _samples(served.http)
    keys = (("demitasse_under_way_images", "cups", "1"), ("demitasse_queue_images", "cups", "1"))
    assert [found[key] for key in keys] == [3, 2]
    assert [after[key] for key in keys] == [0, 0]


async def test_metrics_are_named_as_documented(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        response = await served.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family.type for family in text_string_to_metric_families(response.text)}
    assert families == {
        "demitasse_requests": "counter",
        "demitasse_key_requests": "counter",
        "demitasse_request_seconds": "histogram",
        "demitasse_requests_in_progress": "gauge",
        "demitasse_stage_seconds": "histogram",
        "demitasse_batch_size_images": "histogram",
        "demitasse_batch_failures": "counter",
        "demitasse_model_info": "gauge",
        "demitasse_under_way_images": "gauge",
        "demitasse_queue_images": "gauge",
        "demitasse_refused_versions": "gauge",
    }
