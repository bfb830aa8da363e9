"""`python -m tests.app.api.examples` makes the answers that the OpenAPI document shows, in app/api/examples.json.

Each is what the application says to a request. Models are made up, since those that are shipped will change.
"""

import asyncio
import io
import json
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from app.api import document
from app.inference.engines.base import Explanation, Unexplained
from app.keys import hashed, line_of
from models.manifest import Label
from tests.app.conftest import ExplainingEngine, Served, png, publish, serving, until
from tests.app.test_indexes import publish as publish_index

PATH = Path(document.__file__).with_name("examples.json")
REQUEST_ID = "a3c7be4b1cb34db1a0ae9a7d4d5c6a1e"
TIMING_MS = {"decode": 1.8, "queue": 0.4, "inference": 6.1}
THUMBNAIL = "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBD"  # how one begins
VERTEX, VERTEX_HEALTH = "/vertex", "/vertex-health"

_PLACES = {"name": "coffee", "model": "coffee", "version": 1, "label": "stable", "method": "predict"}
_PREDICTIONS = ("predict", "predict_batch", "sagemaker_invocations", "vertex_predict")
_PICTURES = (*_PREDICTIONS, "explain", "similar")
_LOOK_UP = ("get_model", "get_version")

Examples = dict[str, dict[str, dict[str, Any]]]  # operation id -> status -> name -> body


class Engine(ExplainingEngine):
    name, precision = "openvino", "bf16"


@dataclass
class Recorder:
    served: Served
    examples: Examples = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._operations = {
            operation["operationId"]: (method, path, operation)
            for path, operations in self.served.app.openapi()["paths"].items()
            for method, operation in operations.items()
        }

    def operation_ids(self, *starts: str) -> list[str]:
        return [name for name in self._operations if name.startswith(starts)]

    def path(self, operation_id: str) -> str:
        return str(self._operations[operation_id][1])

    async def ask(self, operation_id: str, name: str | None = None, query: str = "", **request: Any) -> None:
        """Keep the answer to a request for an operation. What the request leaves open is as the document has it.

        An error is named after its code, another answer, or an error of another protocol, as `name` says.
        """
        method, path, operation = self._operations[operation_id]
        if operation_id == "predict_batch" and not request:
            request["files"] = {"files": png(242)}
        path = path.format(**_PLACES | request.pop("path", {}))
        body = operation.get("requestBody", {}).get("content", {})
        if not request.keys() & {"files", "content", "json"} and "application/json" in body:
            request["json"] = body["application/json"]["example"]
        answer = await self.served.http.request(method, f"{path}?{query}" if query else path, **request)
        status = str(answer.status_code) if str(answer.status_code) in operation["responses"] else "default"
        found = _settled(answer.json())
        name = name or (found["error"]["code"] if answer.is_error else "answer")
        self.examples.setdefault(operation_id, {}).setdefault(status, {})[name] = found


def _settled(body: Any) -> Any:
    """What is another with each request, as one that is always the same."""
    if isinstance(body, list):
        return [_settled(value) for value in body]
    if not isinstance(body, dict):
        return body
    timing = TIMING_MS | ({"search": 0.2} if "search" in body.get("timing_ms", {}) else {})
    same = {"request_id": REQUEST_ID, "timing_ms": timing, "thumbnail": THUMBNAIL, "retry_after_s": 1}
    return {key: same.get(key, _settled(value)) for key, value in body.items()}


async def record() -> Examples:
    """What the file has to hold."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        async with serving(root / "none", Engine, aip_predict_route=VERTEX, aip_health_route=VERTEX_HEALTH) as served:
            examples = await _unready(Recorder(served))
        _publish(root)
        async with serving(root, Engine, api_keys=line_of("web", hashed(b"key")), rate_limit_per_minute=1) as served:
            await _refused(Recorder(served, examples))
        async with serving(root, Engine, aip_predict_route=VERTEX, aip_health_route=VERTEX_HEALTH) as served:
            await until(lambda: served.app.state.indexes.live)
            recorder = Recorder(served, examples)
            await _answers(recorder)
            await _wrong_requests(recorder)
            await _wrong_pictures(recorder)
            await _other_protocols(recorder)
            await _overload(recorder)
            await _failures(recorder)
    return examples


def _publish(root: Path) -> None:
    decision = {
        "abstention": {
            "threshold": 0.81,
            "target_risk": 0.02,
            "confidence_level": 0.95,
            "coverage": 0.93,
            "n": 1000,
            "dataset": "coffee, validation",
        },
        "conformal": {"alpha": 0.1, "quantile": 0.62, "n": 1000, "dataset": "coffee, validation"},
    }
    labels = [Label(name=name) for name in ("latte", "espresso", "filter")]
    version = publish(root, "coffee", description="tells coffees apart", labels=labels, decision=decision)
    publish_index(version, np.array([[0, 1], [1, 0], [1, 1]], np.float32), labels=("espresso",))
    (root / "coffee" / "labels.json").write_text('{"stable": 1}')


async def _unready(recorder: Recorder) -> Examples:
    for operation in (*_PICTURES, *_LOOK_UP, "health_ready", "sagemaker_ping", "vertex_health"):
        await recorder.ask(operation)
    return recorder.examples


async def _refused(recorder: Recorder) -> None:
    for headers in ({}, *[{"x-api-key": "key"}] * 2):
        await recorder.ask("list_models", headers=headers)
    refused = recorder.examples.pop("list_models")
    recorder.examples["*"] = {status: refused[status] for status in ("401", "429")}


async def _answers(recorder: Recorder) -> None:
    small = document.SMALL_PICTURE
    for operation in ("predict", "sagemaker_invocations", "vertex_predict"):
        await recorder.ask(operation, query="top_k=2")
    files = [("files", ("espresso.png", png(242))), ("files", ("notes.txt", b"milk, sugar"))]
    await recorder.ask("predict_batch", query="top_k=2", files=files)
    await recorder.ask("explain")
    await recorder.ask("similar", query="k=2")
    await recorder.ask("list_indexes")
    for operation in (
        *("list_models", "get_model", "get_version", "health_live", "health_ready"),
        *("tfs_status", "tfs_status_version", "tfs_status_label"),
        *("tfs_metadata", "tfs_metadata_version", "tfs_metadata_label"),
        *("v2_server", "v2_live", "v2_ready", "v2_model", "v2_version", "v2_model_ready", "v2_version_ready"),
        *("v2_infer", "v2_infer_version", "v2_index"),
    ):
        await recorder.ask(operation)
    for operation in ("tfs_infer", "tfs_infer_version", "tfs_infer_label"):
        await recorder.ask(operation, "predict")
        classify = {"examples": [{"b64": small}]}
        await recorder.ask(operation, "classify", path={"method": "classify"}, json=classify)


async def _wrong_requests(recorder: Recorder) -> None:
    for operation in _PICTURES:
        await recorder.ask(operation, query="model=tea")
        await recorder.ask(operation, query="version=7")
        await recorder.ask(operation, query="label=canary")
    for operation in _PREDICTIONS:
        await recorder.ask(operation, query="top_k=0")
    await recorder.ask("explain", query="class_id=3")
    await recorder.ask("similar", query="index=grounds")
    await recorder.ask("similar", query="k=0")
    await recorder.ask("explain", headers={"accept": "text/csv"})
    for operation in _LOOK_UP:
        await recorder.ask(operation, path={"name": "tea"})
    await recorder.ask("get_version", path={"version": 7})
    await recorder.ask("get_version", path={"version": 0})
    await recorder.ask("get_model", path={"name": "c" * 65})
    await recorder.ask("sagemaker_invocations", headers={"accept": "text/csv"})


async def _wrong_pictures(recorder: Recorder) -> None:
    large = bytes(20 * 2**20 + 1)
    wide = io.BytesIO()
    Image.new("1", (8001, 8000)).save(wide, "PNG")
    for operation in _PICTURES:
        if operation != "vertex_predict":
            await recorder.ask(operation, content=b"", headers={"content-type": "multipart/form-data"})
        await recorder.ask(operation, content=b"milk", headers={"content-type": "text/plain"})
        form = {"content-type": "multipart/form-data; boundary=x"}
        await recorder.ask(operation, content=large, headers=form)
    for operation in ("predict", "sagemaker_invocations", "explain", "similar"):
        await recorder.ask(operation, content=png(242)[:40], headers={"content-type": "image/png"})
        await recorder.ask(operation, content=wide.getvalue(), headers={"content-type": "image/png"})
    await recorder.ask("vertex_predict", content=b"{", headers={"content-type": "application/json"})


async def _other_protocols(recorder: Recorder) -> None:
    for operation in recorder.operation_ids("tfs_", "v2_"):
        if "{model}" in recorder.path(operation):
            await recorder.ask(operation, "error", path={"model": "tea"})
    await recorder.ask("v2_index", "error", content=b"{")


async def _overload(recorder: Recorder) -> None:
    live = recorder.served.app.state.registry.get()
    with ExitStack() as places:
        for _ in range(recorder.served.app.state.settings.queue_size):
            places.enter_context(live.batcher.admit())
            places.enter_context(live.explainer.admit())
        for operation in _PICTURES:
            await recorder.ask(operation)


async def _failures(recorder: Recorder) -> None:
    state = recorder.served.app.state
    hurried = state.settings.model_copy(update={"request_timeout_ms": 50.0})
    with (
        mock.patch.object(state, "settings", hurried),
        mock.patch.object(state.pipeline, "infer", _never),
        mock.patch.object(state.pipeline, "explain", _never),
    ):
        for operation in _PICTURES:
            await recorder.ask(operation)
    with mock.patch.object(state, "bodies", None):
        for operation in _PICTURES:
            await recorder.ask(operation)
    with mock.patch.object(recorder.served.engine, "infer", _failing):
        for operation in ("predict", "sagemaker_invocations", "vertex_predict"):
            await recorder.ask(operation)
    with mock.patch.object(recorder.served.engine, "explain", _unexplained):
        await recorder.ask("explain")
    explainer = state.registry.get().explainer
    with (
        mock.patch.object(recorder.served.engine, "load_explanations", _without_embedding),
        mock.patch.object(explainer, "_loading", None),  # as before its first picture
    ):
        await recorder.ask("similar")
    with mock.patch.object(state, "device", SimpleNamespace(busy_s=31.0)):
        await recorder.ask("health_live")
        await recorder.ask("sagemaker_ping")
        await recorder.ask("vertex_health")
    with mock.patch.object(state, "draining", True):
        await recorder.ask("health_ready")


async def _never(*_: Any) -> None:
    await asyncio.Event().wait()


def _unexplained(images: Any, class_ids: Any) -> Explanation:
    found = ExplainingEngine().explain(images, class_ids)
    return Explanation(found.probabilities, found.embedding, None)


def _without_embedding() -> None:
    raise Unexplained


def _failing(images: Any) -> None:
    raise RuntimeError("the engine failed")


if __name__ == "__main__":
    PATH.write_text(json.dumps(asyncio.run(record()), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
