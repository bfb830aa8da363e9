"""What TensorFlow Serving's clients and the cloud platforms ask of the process, each from start to overload.

Each contract is one process, for a start takes longer than all that is asked of it: its models come once it has been
asked while it has none, and at the end its engine is held by a white picture.
"""

import base64
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.e2e.service import PATIENCE_S, ROOT, Service

Send = Callable[[bytes], httpx.Response]

LIMIT_BYTES = 2_000_000


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository that is still empty."""
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def start_held(start, models: Path) -> Callable[..., Service]:
    """Starts services with an engine that can be held, a queue of one and an empty repository."""
    return lambda **options: start(
        **{
            "module": "tests.e2e.hanging",
            "MODEL_REPOSITORY": str(models),
            "QUEUE_SIZE": "1",
            "REQUEST_TIMEOUT_MS": "3000",
            "RELOAD_INTERVAL_S": "0.1",
            "MAX_BODY_BYTES": str(LIMIT_BYTES),
            **options,
        }
    )


def _publish(models: Path, service: Service, health: str) -> None:
    """The shipped model arrives, and the platform sees it."""
    (models / "imagenet").symlink_to(ROOT / "models" / "imagenet")
    service.wait_for(lambda: service.http.get(health).status_code == 200, f"{health} to answer 200")


def _white() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def _held(service: Service, send: Send) -> Iterator[list[httpx.Response]]:
    """The queue's one place is taken; the list gets the answer to the request that has it."""
    answers: list[httpx.Response] = []
    caller = threading.Thread(target=lambda: answers.append(send(_white())))
    caller.start()
    place = 'demitasse_under_way_images{model="imagenet",version="1"} 1.0'
    service.wait_for(lambda: place in service.http.get("/metrics").text, "the request that holds the engine")
    yield answers
    caller.join(PATIENCE_S)


def _b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def _in_the_one_shape(answer: httpx.Response) -> tuple[int, str]:
    assert list(answer.json()) == ["error"]
    return answer.status_code, answer.json()["error"]["code"]


def _in_one_text(answer: httpx.Response) -> tuple[int, type]:
    assert list(answer.json()) == ["error"]
    return answer.status_code, type(answer.json()["error"])


def test_tensorflow_serving(start_held, models: Path, espresso: bytes) -> None:
    service = start_held()
    model = "/v1/models/imagenet"

    def predict(data: bytes, path: str = f"{model}:predict") -> httpx.Response:
        return service.http.post(path, json={"instances": [_b64(data)]})

    service.wait_for(lambda: service.http.get("/health/live").status_code == 200, "the process")
    assert _in_one_text(service.http.get(model))[0] in (404, 503)  # 503 until the repository has been looked at
    _publish(models, service, model)

    status = service.http.get(model).json()["model_version_status"]
    assert [(version["version"], version["state"]) for version in status] == [("1", "AVAILABLE")]
    signature = service.http.get(f"{model}/metadata").json()["metadata"]["signature_def"]["signature_def"]
    (images,) = signature["serving_default"]["inputs"].values()
    height, width = (int(dim["size"]) for dim in images["tensor_shape"]["dim"][1:3])

    (rows,) = predict(espresso).json()["predictions"]
    assert (len(rows), rows.index(max(rows))) == (1000, 967)
    with Image.open(io.BytesIO(espresso)) as photo:
        side = min(photo.size)
        box = [(photo.width - side) / 2, (photo.height - side) / 2, (photo.width + side) / 2, (photo.height + side) / 2]
        pixels = np.asarray(photo.resize((width, height), Image.Resampling.BICUBIC, box))
    columns = {"inputs": {"images": [pixels.tolist()]}}
    (output,) = service.http.post(f"{model}/versions/1:predict", json=columns).json()["outputs"]
    assert output.index(max(output)) == 967
    (result,) = service.http.post(f"{model}:classify", json={"examples": [{"images": _b64(espresso)}]}).json()[
        "results"
    ]
    assert (result[0][0], len(result)) == ("espresso", 1000)

    assert _in_one_text(predict(b"no picture")) == (400, str)
    assert _in_one_text(predict(espresso, "/v1/models/nope:predict")) == (404, str)
    assert _in_one_text(predict(espresso, f"{model}/labels/stable:predict")) == (404, str)
    assert _in_one_text(service.http.post(f"{model}:regress", json={})) == (400, str)
    assert _in_one_text(service.http.post(f"{model}:predict", content=b"{")) == (400, str)
    assert _in_one_text(predict(bytes(LIMIT_BYTES))) == (413, str)
    with _held(service, predict) as held:
        refused = predict(espresso)
    assert _in_one_text(refused) == (429, str)
    assert int(refused.headers["retry-after"]) >= 1
    assert _in_one_text(held[0]) == (504, str)


def test_sagemaker(start_held, models: Path, espresso: bytes) -> None:
    service = start_held(arguments=["serve"], port_in="SAGEMAKER_BIND_TO_PORT", PORT="1")

    def invoke(data: bytes, **headers: str) -> httpx.Response:
        headers = {"content-type": "application/x-image", "accept": "application/json", **headers}
        return service.http.post("/invocations", content=data, headers=headers)

    service.wait_for(lambda: service.http.get("/ping").status_code == 503, "the process")
    assert _in_the_one_shape(invoke(espresso)) == (503, "not_ready")
    _publish(models, service, "/ping")
    assert service.http.get("/ping").content == b""

    attributes = {"X-Amzn-SageMaker-Custom-Attributes": "top_k=2"}
    answer = invoke(espresso, **attributes)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert [prediction["label"] for prediction in answer.json()["predictions"]] == ["espresso", "cup"]
    as_json = service.http.post("/invocations", json={"image": base64.b64encode(espresso).decode()})
    assert as_json.json()["predictions"][0]["label"] == "espresso"

    assert _in_the_one_shape(invoke(espresso[:1000])) == (400, "unreadable_image")
    assert _in_the_one_shape(invoke(espresso, **{"X-Amzn-SageMaker-Custom-Attributes": "model=nope"}))[0] == 404
    assert _in_the_one_shape(invoke(b"{", **{"content-type": "application/json"})) == (400, "malformed_body")
    assert _in_the_one_shape(invoke(espresso, accept="text/csv")) == (406, "not_acceptable")
    assert _in_the_one_shape(invoke(bytes(LIMIT_BYTES + 1))) == (413, "body_too_large")
    with _held(service, invoke) as held:
        refused = invoke(espresso)
        assert service.http.get("/ping").status_code == 200  # busy is not ill
    assert _in_the_one_shape(refused) == (429, "queue_full")
    assert int(refused.headers["retry-after"]) == refused.json()["error"]["retry_after_s"]
    assert _in_the_one_shape(held[0]) == (504, "deadline_passed")


def test_vertex_ai(start_held, models: Path, espresso: bytes) -> None:
    health, route = "/v1/endpoints/7/deployedModels/1", "/predict"  # the first is its own default, the second popular
    service = start_held(port_in="AIP_HTTP_PORT", PORT="1", AIP_HEALTH_ROUTE=health, AIP_PREDICT_ROUTE=route)

    def predict(data: bytes, query: str = "") -> httpx.Response:
        return service.http.post(route + query, json={"instances": [_b64(data)], "parameters": {"top_k": 1.0}})

    service.wait_for(lambda: service.http.get(health).status_code == 503, "the process")
    assert _in_the_one_shape(predict(espresso)) == (503, "not_ready")
    _publish(models, service, health)
    assert _from_outside(service, health) == 200

    (result,) = predict(espresso).json()["predictions"]
    assert [prediction["label"] for prediction in result["predictions"]] == ["espresso"]
    raw = service.http.post(route, content=espresso, headers={"content-type": "image/jpeg"})
    assert raw.json()["predictions"][0]["label"] == "espresso"

    assert _in_the_one_shape(predict(espresso[:1000])) == (400, "unreadable_image")
    assert _in_the_one_shape(predict(espresso, "?model=nope")) == (404, "unknown_model")
    broken = service.http.post(route, content=b"{", headers={"content-type": "application/json"})
    assert _in_the_one_shape(broken) == (400, "malformed_body")
    assert _in_the_one_shape(predict(bytes(LIMIT_BYTES))) == (413, "body_too_large")
    with _held(service, predict) as held:
        refused = predict(espresso)
    assert _in_the_one_shape(refused) == (429, "queue_full")
    assert int(refused.headers["retry-after"]) >= 1
    assert _in_the_one_shape(held[0]) == (504, "deadline_passed")


def test_azure_ml_mounts_its_models_and_container_apps_or_cloud_run_name_the_port(
    start, models: Path, espresso: bytes
) -> None:
    registered = models / "registered"
    registered.mkdir()
    (registered / "mnist").symlink_to(ROOT / "models" / "mnist")
    service = start(AZUREML_MODEL_DIR=str(models), K_SERVICE="demitasse", CONTAINER_APP_NAME="demitasse")
    service.wait_until_ready()
    assert _from_outside(service, "/health/live") == _from_outside(service, "/health/ready") == 200
    assert service.live() == {"mnist": [1]}
    score = service.http.post("/predict", json={"image": base64.b64encode(_white()).decode()})
    assert (score.status_code, score.json()["model"]) == (200, "mnist")
    assert service.stop() == 0


def _from_outside(service: Service, path: str) -> int:
    """By another address than the one that is listened on where nothing is said."""
    return httpx.get(f"http://127.0.0.2:{service.port}{path}", timeout=PATIENCE_S).status_code
