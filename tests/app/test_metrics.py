"""Metrics of one process, and of several that are asked as one."""

import asyncio
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from app.metrics import METRICS_FOLDER, Metrics

ROOT = Path(__file__).parents[2]


def test_applications_in_one_process_count_for_themselves() -> None:
    one, other = Metrics(), Metrics()
    one.observe_batch("cups", 3, failed=True)
    assert one.registry.get_sample_value("demitasse_batch_failures_total", {"model": "cups"}) == 1
    assert one.registry.get_sample_value("demitasse_batch_size_images_sum", {"model": "cups"}) == 3
    assert other.registry.get_sample_value("demitasse_batch_failures_total", {"model": "cups"}) is None


def test_gauges_of_a_version_that_is_gone_are_gone() -> None:
    def live(model: str) -> Any:
        engine = SimpleNamespace(name="fake", device="CPU", precision="f32")
        batcher = SimpleNamespace(under_way=3, queued=2)
        return SimpleNamespace(folder=SimpleNamespace(name=model, version=1), batcher=batcher, engine=engine)

    metrics, models = Metrics(), SimpleNamespace(live=[live("cups"), live("mugs")], refused=[])
    metrics.watch_models(models)  # type: ignore[arg-type]
    assert b'demitasse_queue_images{model="mugs",version="1"} 2.0' in metrics.render()
    models.live.pop()
    rendered = metrics.render()
    assert b'demitasse_queue_images{model="cups",version="1"} 2.0' in rendered
    assert b"mugs" not in rendered


_PROCESS = """
import asyncio, sys
from types import SimpleNamespace
from app.metrics import Metrics

def live(model, under_way):
    return SimpleNamespace(
        folder=SimpleNamespace(name=model, version=1),
        batcher=SimpleNamespace(under_way=under_way, queued=under_way - 1),
        engine=SimpleNamespace(name="fake", device="CPU", precision="f32"),
    )

async def share(metrics):
    try:
        await asyncio.wait_for(metrics.share_gauges(), timeout=0.01)
    except TimeoutError:
        pass

batch, under_way, refused = map(int, sys.argv[1:])
metrics = Metrics()
metrics.requests.labels("/predict", "POST", "200").inc(batch)
metrics.observe_batch("cups", batch, failed=True)
metrics.in_progress.inc()
models = SimpleNamespace(live=[live("cups", under_way), live("mugs", 9)], refused=[None] * refused)
metrics.watch_models(models)
asyncio.run(share(metrics))
models.live.pop()
asyncio.run(share(metrics))
print(metrics.render().decode())
"""


def _in_a_process_of_its_own(folder: Path, *numbers: int) -> dict[tuple[str, ...], float]:
    """What a process answers that has counted the numbers: name and label values -> value."""
    done = subprocess.run(
        [sys.executable, "-c", _PROCESS, *map(str, numbers)],
        cwd=ROOT,
        env={METRICS_FOLDER: str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(done.stdout)
        for sample in family.samples
    }


def test_metrics_of_several_processes_are_summed_whichever_is_asked(tmp_path: Path) -> None:
    alone = _in_a_process_of_its_own(tmp_path, 3, 5, 1)
    both = _in_a_process_of_its_own(tmp_path, 4, 2, 1)
    for found, batches, images, under_way in ((alone, 1, 3, 5), (both, 2, 7, 7)):
        assert found["demitasse_requests_total", "POST", "/predict", "200"] == images
        assert found["demitasse_batch_failures_total", "cups"] == batches
        assert found["demitasse_batch_size_images_sum", "cups"] == images
        assert found["demitasse_batch_size_images_count", "cups"] == batches
        assert found["demitasse_batch_size_images_bucket", "4.0", "cups"] == batches
        assert found["demitasse_requests_in_progress",] == batches
        assert found["demitasse_under_way_images", "cups", "1"] == under_way
        assert found["demitasse_queue_images", "cups", "1"] == under_way - batches
        # A version that is gone leaves nothing under way
        assert found["demitasse_under_way_images", "mugs", "1"] == 0
        assert found["demitasse_queue_images", "mugs", "1"] == 0
        assert found["demitasse_refused_versions",] == 1  # by each of them, and no two
        # Each process has the same versions
        assert [key for key in found if key[0] == "demitasse_model_info"] == [
            ("demitasse_model_info", "CPU", "fake", "cups", "f32", "1")
        ]
        assert not any(key[0].endswith("_created") for key in found)


async def test_process_that_serves_alone_shares_nothing() -> None:
    async with asyncio.timeout(20):
        await Metrics().share_gauges()
