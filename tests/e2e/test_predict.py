"""The answers that the README promises, from the shipped models."""

import base64
import io
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.e2e.service import PICTURES, Service


def test_multipart_photo_of_an_espresso_is_espresso(shipped: Service, espresso: bytes) -> None:
    answer = shipped.http.post("/predict", files={"file": ("cup.jpg", espresso)})
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == [
        "model",
        "version",
        "request_id",
        "predictions",
        "reliable",
        "prediction_set",
        "timing_ms",
    ]
    assert (body["model"], body["version"]) == ("imagenet", 1)
    assert body["request_id"] == answer.headers["x-request-id"]
    assert len(body["predictions"]) == 5
    assert body["predictions"][0]["label"] == "espresso"
    assert body["predictions"][0]["class_id"] == 967
    confidences = [prediction["confidence"] for prediction in body["predictions"]]
    assert confidences == sorted(confidences, reverse=True)
    assert 0.5 < confidences[0] < 1.0
    assert sum(confidences) <= 1.0
    assert set(body["timing_ms"]) == {"decode", "queue", "inference"}


def _raw(client: httpx.Client, data: bytes) -> httpx.Response:
    return client.post("/predict", content=data, headers={"content-type": "image/jpeg"})


def _octets(client: httpx.Client, data: bytes) -> httpx.Response:
    return client.post("/predict", content=data, headers={"content-type": "application/octet-stream"})


def _json(client: httpx.Client, data: bytes) -> httpx.Response:
    return client.post("/predict", json={"image": base64.b64encode(data).decode()})


def _data_url(client: httpx.Client, data: bytes) -> httpx.Response:
    return client.post("/predict", json={"image": f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"})


@pytest.mark.parametrize("send", [_raw, _octets, _json, _data_url])
def test_every_kind_of_body_gives_the_same_answer(shipped: Service, espresso: bytes, send) -> None:
    expected = shipped.http.post("/predict", files={"file": espresso}).json()["predictions"]
    assert send(shipped.http, espresso).json()["predictions"] == expected


def test_query_chooses_model_version_and_number_of_classes(shipped: Service, espresso: bytes) -> None:
    answer = shipped.http.post(
        "/predict", params={"model": "cifar10", "version": 4, "top_k": 3}, files={"file": espresso}
    )
    body = answer.json()
    assert (body["model"], body["version"], len(body["predictions"])) == ("cifar10", 4, 3)
    assert isinstance(body["reliable"], bool)
    assert isinstance(body["prediction_set"], list)


def test_batch_answers_each_file_in_order_and_a_bad_file_spoils_no_other(shipped: Service, espresso: bytes) -> None:
    cat = (PICTURES / "cat.jpg").read_bytes()
    files = [("files", ("a.jpg", espresso)), ("files", ("b.jpg", b"")), ("files", ("c.jpg", cat))]
    answer = shipped.http.post("/predict/batch", params={"top_k": 1}, files=files)
    assert answer.status_code == 200
    first, second, third = answer.json()["results"]
    assert first["result"]["predictions"][0]["label"] == "espresso"
    assert second["error"]["code"] == "unreadable_image"
    assert "result" not in second
    assert third["result"]["predictions"][0]["label"] in ("tiger cat", "Egyptian cat", "tabby")
    assert [entry["filename"] for entry in (first, second, third)] == ["a.jpg", "b.jpg", "c.jpg"]


def test_drawn_digit_is_read(shipped: Service) -> None:
    digit = Image.new("L", (28, 28))
    for y in range(4, 24):
        for x in (13, 14):
            digit.putpixel((x, y), 255)
    buffer = io.BytesIO()
    digit.save(buffer, "PNG")
    body = shipped.http.post("/predict?model=mnist&top_k=1", files={"file": buffer.getvalue()}).json()
    assert body["predictions"][0]["label"] == "1"


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_other_formats_of_the_same_photo_are_espresso_too(shipped: Service, kind: str) -> None:
    buffer = io.BytesIO()
    with Image.open(PICTURES / "espresso_cup.jpg") as photo:
        photo.save(buffer, kind)
    body = shipped.http.post("/predict", files={"file": buffer.getvalue()}).json()
    assert body["predictions"][0]["label"] == "espresso"


def test_service_without_tensorflow_in_its_process(shipped: Service) -> None:
    maps = Path(f"/proc/{shipped.process.pid}/maps").read_text()
    assert "openvino" in maps
    assert "site-packages/tensorflow/" not in maps


def test_both_engines_give_the_same_answer(shipped: Service, start, imagenet: str, espresso: bytes) -> None:
    tensorflow = start(MODEL_REPOSITORY=imagenet, ENGINE="tensorflow", MAX_BATCH_SIZE="1").wait_until_ready()
    served = tensorflow.http.get("/models/imagenet").json()["versions"][0]
    assert (served["engine"], served["precision"]) == ("tensorflow", "f32")
    theirs, ours = (
        service.http.post("/predict", files={"file": espresso}).json()["predictions"][0]
        for service in (tensorflow, shipped)
    )
    assert theirs["label"] == ours["label"] == "espresso"
    detail = shipped.http.get("/models/imagenet/versions/1").json()
    tolerance = detail["manifest"]["golden_tolerance"][detail["serving"]["precision"]]
    assert theirs["confidence"] == pytest.approx(ours["confidence"], abs=tolerance)
    # Nothing but our own JSON: none of TensorFlow's start-up chatter
    assert {line["logger"].split(".")[0] for line in tensorflow.log()} == {"app"}
