"""Metrics for Prometheus, named by stage; where several processes serve, each is the sum over them."""

import asyncio
import os
from collections.abc import Iterable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.registry import Registry

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # where it is set, prometheus_client keeps all values in files there

_SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.5, 5.0, 10.0)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SHARED_EVERY_S = 1.0

disable_created_metrics()  # a second series for each counter, which Prometheus does not need


class Metrics:
    """One set of metrics, in a registry of its own so that several applications fit into one process.

    Where several processes serve, each value is the sum over them, whichever is asked.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._models: Registry | None = None
        self._gauged: set[tuple[str, str]] = set()
        self.requests = Counter(
            "demitasse_requests", "HTTP requests answered", ("route", "method", "status"), registry=self.registry
        )
        self.key_requests = Counter(
            "demitasse_key_requests", "HTTP requests answered, by API key", ("key", "status"), registry=self.registry
        )
        self.request_seconds = Histogram(
            "demitasse_request_seconds", "From arrival to answer", ("route",), buckets=_SECONDS, registry=self.registry
        )
        self.in_progress = Gauge(
            "demitasse_requests_in_progress",
            "HTTP requests that are being read or answered",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.stage_seconds = Histogram(
            "demitasse_stage_seconds",
            "Time of one image in a stage: decode, queue, inference, rank, search",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        # Looking one up takes as long as observing
        self._stage = cache(self.stage_seconds.labels)
        self._answered, self._answer_seconds = cache(self.requests.labels), cache(self.request_seconds.labels)
        self.batch_size = Histogram(
            "demitasse_batch_size_images", "Images in a batch", ("model",), buckets=_BATCH_SIZES, registry=self.registry
        )
        self.batch_failures = Counter(
            "demitasse_batch_failures", "Batches that the engine failed on", ("model",), registry=self.registry
        )

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        self._answered(route, method, str(status)).inc()
        self._answer_seconds(route).observe(seconds)

    def observe_stage(self, stage: str, seconds: float, ended_s: float = 0.0) -> None:  # noqa: ARG002  for traces
        self._stage(stage).observe(seconds)

    def observe_batch(self, model: str, size: int, *, failed: bool) -> None:
        self.batch_size.labels(model).observe(size)
        if failed:
            self.batch_failures.labels(model).inc()

    def watch_models(self, models: Registry) -> None:
        self._models = models
        self.registry.register(_LiveVersions(models))
        self.under_way = self._model_gauge("demitasse_under_way_images", "Images admitted and not answered yet")
        self.queued = self._model_gauge("demitasse_queue_images", "Images that wait for the engine")
        self.refused = Gauge(
            "demitasse_refused_versions",
            "Versions in the repository that can't be served",
            registry=self.registry,
            multiprocess_mode="livemax",
        )

    def render(self) -> bytes:
        """The Prometheus text format."""
        self._read_gauges()
        if METRICS_FOLDER not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        if self._models is not None:
            registry.register(_LiveVersions(self._models))
        return generate_latest(registry)

    async def share_gauges(self) -> None:
        """For ever: what this process holds of the models, told to the others that may be asked for it."""
        while METRICS_FOLDER in os.environ:
            self._read_gauges()
            await asyncio.sleep(_SHARED_EVERY_S)

    def _model_gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, ("model", "version"), registry=self.registry, multiprocess_mode="livesum")

    def _read_gauges(self) -> None:
        if self._models is None:
            return
        self.refused.set(len(self._models.refused))
        versions = {(live.folder.name, str(live.folder.version)): live.batcher for live in self._models.live}
        for key in self._gauged - versions.keys():
            for gauge in (self.under_way, self.queued):
                gauge.labels(*key).set(0)  # what other processes go on to read
                if METRICS_FOLDER not in os.environ:  # a label can't be removed from what they share
                    gauge.remove(*key)
        for key, batcher in versions.items():
            self.under_way.labels(*key).set(batcher.under_way)
            self.queued.labels(*key).set(batcher.queued)
        self._gauged = set(versions)


class _LiveVersions(Collector):
    """What is live, and what it runs on. prometheus_client shares no information of this kind between processes."""

    def __init__(self, models: Registry) -> None:
        self._models = models

    def collect(self) -> Iterable[Metric]:
        labels = ("model", "version", "engine", "device", "precision")
        info = InfoMetricFamily("demitasse_model", "Live versions", labels=labels)
        for live in self._models.live:
            engine = live.engine
            key = (live.folder.name, str(live.folder.version), engine.name, engine.device, engine.precision)
            info.add_metric(key, {})
        return [info]
