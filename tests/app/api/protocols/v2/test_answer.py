"""Probabilities as the outputs that were asked for, in JSON and behind it."""

import json
from pathlib import Path

import numpy as np
import pytest

from app.api.protocols.v2.answer import answer
from app.api.protocols.v2.request import Asked, Wanted
from app.registry import LiveVersion
from tests.app.conftest import publish, serving

FOUND = [np.array([0.25, 0.75, 0.0], np.float32), np.array([0.5, 0.125, 0.375], np.float32)]


async def _answered(root: Path, *outputs: Wanted, request_id: str | None = None) -> tuple[dict, bytes, str]:
    """The JSON, what comes behind it, and the content type, of pictures with the probabilities above."""
    publish(root)
    async with serving(root) as served:
        live: LiveVersion = served.app.state.registry.get()
        response = answer(Asked(request_id, [], outputs), FOUND, live)
    length = int(response.headers.get("inference-header-content-length", len(response.body)))
    assert int(response.headers["content-length"]) == len(response.body)
    return json.loads(response.body[:length]), response.body[length:], response.headers["content-type"]


async def test_outputs_in_json_are_flat_and_have_their_shape(tmp_path: Path) -> None:
    wanted = [Wanted("probabilities", False), Wanted("label", False)]
    body, behind, content_type = await _answered(tmp_path, *wanted, request_id="42")
    assert body == {
        "model_name": "cups",
        "model_version": "1",
        "id": "42",
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [2, 3], "data": [0.25, 0.75, 0, 0.5, 0.125, 0.375]},
            {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["bright", "dark"]},
        ],
    }
    assert (behind, content_type) == (b"", "application/json")


async def test_outputs_in_binary_follow_the_json_in_its_order(tmp_path: Path) -> None:
    body, behind, content_type = await _answered(tmp_path, Wanted("label", True), Wanted("probabilities", True))
    assert "id" not in body
    assert body["outputs"] == [
        {"name": "label", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 18}},
        {"name": "probabilities", "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": 24}},
    ]
    assert behind[:18] == b"\x06\0\0\0bright\x04\0\0\0dark"
    np.testing.assert_array_equal(np.frombuffer(behind[18:], "<f4").reshape(2, 3), np.stack(FOUND))
    assert content_type == "application/octet-stream"


async def test_some_outputs_may_be_binary_and_others_not(tmp_path: Path) -> None:
    body, behind, _ = await _answered(tmp_path, Wanted("probabilities", False), Wanted("label", True))
    assert [set(output) - {"name", "datatype", "shape"} for output in body["outputs"]] == [{"data"}, {"parameters"}]
    assert len(behind) == 18


@pytest.mark.parametrize("classes", [2, 100])
async def test_classification_tells_value_index_and_label_of_the_top_classes(tmp_path: Path, classes: int) -> None:
    body, _, _ = await _answered(tmp_path, Wanted("probabilities", False, classes))
    best = [["0.750000:1:bright", "0.250000:0:dark", "0.000000:2:never"]]
    best += [["0.500000:0:dark", "0.375000:2:never", "0.125000:1:bright"]]
    k = min(classes, 3)
    (output,) = body["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "BYTES", [2, k])
    assert output["data"] == [*best[0][:k], *best[1][:k]]
