"""`POST /explain` of the shipped models, over real HTTP."""

import io

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.e2e.service import Service


def test_heat_map_of_the_top_class_lies_on_the_coffee(shipped: Service, espresso: bytes) -> None:
    answer = shipped.http.post("/explain", files={"file": espresso})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["label"], body["class_id"], body["method"]) == ("espresso", 967, "grad-cam")
    heat = np.array(body["heatmap"])
    assert (heat.shape, heat.min() >= 0, heat.max()) == ((7, 7), True, 1.0)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 1 <= row <= 4
    assert 1 <= column <= 5
    predicted = shipped.http.post("/predict", files={"file": espresso}).json()["predictions"][0]
    assert body["confidence"] == pytest.approx(predicted["confidence"], abs=0.02)  # the two are computed in bfloat16


def test_classes_have_heat_maps_of_their_own(shipped: Service, espresso: bytes) -> None:
    heats = [
        np.array(shipped.http.post(f"/explain?class_id={one}", files={"file": espresso}).json()["heatmap"])
        for one in (967, 910)  # espresso, and the wooden spoon
    ]
    assert np.corrcoef(heats[0].ravel(), heats[1].ravel())[0, 1] < 0.8


@pytest.mark.parametrize("model", ["caltech101", "cifar10", "mnist"])
def test_every_shipped_model_explains(shipped: Service, espresso: bytes, model: str) -> None:
    answer = shipped.http.post(f"/explain?model={model}", files={"file": espresso}, headers={"accept": "image/png"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    with Image.open(io.BytesIO(espresso)) as sent, Image.open(io.BytesIO(answer.content)) as painted:
        assert painted.width / painted.height == pytest.approx(sent.width / sent.height, rel=0.01)


def test_errors_have_the_one_shape_whatever_is_accepted(shipped: Service) -> None:
    answer: httpx.Response = shipped.http.post("/explain", content=b"milk", headers={"accept": "image/png"})
    assert answer.status_code == 415
    assert answer.json()["error"]["code"] == "unsupported_media_type"
