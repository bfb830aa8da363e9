"""Blocks of pixels to rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.batch.inference import Classify, Wanted
from app.inference.engines.base import EngineError
from models.manifest import Decision
from tests.app.batch.conftest import DECISION, decided
from tests.app.conftest import FakeEngine, manifest, publish

POISON = 250


class Poisoned(FakeEngine):
    def infer(self, images: np.ndarray) -> np.ndarray:
        if (images == POISON).any():
            raise RuntimeError("poison")
        return super().infer(images)


class Laned(FakeEngine):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.lanes = (super().infer, super().infer)

    def infer(self, images: np.ndarray) -> np.ndarray:
        assert len(images) == 1  # the self-test; lanes compute whatever is more
        return super().infer(images)


def _classify(root: Path, engine: Any = FakeEngine, top_k: int | None = None, **changes: Any) -> Classify:
    folder = publish(root, decision=DECISION)
    wanted = Wanted(folder, decided(), "openvino", "f32", top_k, batch_size=4)
    return Classify(wanted, changes.pop("load_engine", engine))


def _block(*values: int | str) -> dict[str, Any]:
    """A shade for each picture, or what is wrong with it."""
    shades = [value if isinstance(value, int) else 0 for value in values]
    codes = ["" if isinstance(value, int) else value for value in values]
    return {
        "part": np.full(len(values), 3),
        "row": np.arange(len(values)),
        "path": np.array([f"{number}.png" for number in range(len(values))], object),
        "code": np.array(codes, object),
        "message": np.array([code and f"{code}!" for code in codes], object),
        "pixels": np.array(shades, np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8),
    }


@pytest.mark.parametrize("engine", [FakeEngine, Laned])
def test_rows_say_what_predict_says(tmp_path: Path, engine: Any) -> None:
    found = _classify(tmp_path, engine, top_k=2)(_block(51, "unreadable_image", 127)).to_pylist()
    about = {"part": 3, "model": "cups", "version": 1}
    assert found[0] == {
        **about,
        "row": 0,
        "path": "0.png",
        "label": "dark",
        "class_id": 0,
        "confidence": 0.8,
        "reliable": True,
        "prediction_set": ["dark"],
        "predictions": [
            {"label": "dark", "class_id": 0, "confidence": 0.8},
            {"label": "bright", "class_id": 1, "confidence": 0.2},
        ],
        "error": None,
    }
    assert found[1] == {
        **about,
        "row": 1,
        "path": "1.png",
        **dict.fromkeys(("label", "class_id", "confidence", "reliable", "prediction_set", "predictions")),
        "error": {"code": "unreadable_image", "message": "unreadable_image!"},
    }
    assert (found[2]["label"], found[2]["reliable"], found[2]["prediction_set"]) == ("dark", False, ["dark", "bright"])


def test_predictions_are_left_out_unless_they_are_asked_for(tmp_path: Path) -> None:
    assert "predictions" not in _classify(tmp_path)(_block(51)).schema.names


def test_figures_that_the_manifest_lacks_are_null(tmp_path: Path) -> None:
    wanted = Wanted(publish(tmp_path), manifest(decision=Decision()), "openvino", "f32", None, None)
    (row,) = Classify(wanted, FakeEngine)(_block(51)).to_pylist()
    assert (row["label"], row["reliable"], row["prediction_set"]) == ("dark", None, None)


@pytest.mark.parametrize("engine", [FakeEngine, Laned])
def test_every_picture_keeps_its_place_whatever_batch_it_is_in(tmp_path: Path, engine: Any) -> None:
    shades = list(range(0, 220, 3))
    found = _classify(tmp_path, engine)(_block(*shades)).to_pylist()
    assert [row["row"] for row in found] == list(range(len(shades)))
    bright = [row["confidence"] if row["label"] == "bright" else 1 - row["confidence"] for row in found]
    np.testing.assert_allclose(bright, np.array(shades) / 255, atol=1e-5)


def test_engine_sees_sizes_that_it_was_warmed_up_with(tmp_path: Path) -> None:
    engine = FakeEngine()
    classify = _classify(tmp_path, load_engine=lambda folder, manifest: engine)
    warm, engine.sizes = set(engine.sizes), []
    classify(_block(*range(11)))
    assert sorted(engine.sizes) == [1, 2, 4, 4]
    assert set(engine.sizes) <= warm


def test_poisonous_picture_fails_alone(tmp_path: Path) -> None:
    found = _classify(tmp_path, Poisoned)(_block(1, 2, POISON, 3)).to_pylist()
    assert [row["error"] and row["error"]["code"] for row in found] == [None, None, "inference_failed", None]
    assert found[2]["label"] is None


def test_block_without_a_picture_that_could_be_decoded_needs_no_engine(tmp_path: Path) -> None:
    found = _classify(tmp_path)(_block("not_found", "not_found")).to_pylist()
    assert [row["error"]["code"] for row in found] == ["not_found", "not_found"]


def test_version_that_does_not_compute_what_it_should_is_refused(tmp_path: Path) -> None:
    class Wrong(FakeEngine):
        def infer(self, images: np.ndarray) -> np.ndarray:
            return 1 - super().infer(images)

    with pytest.raises(EngineError, match=r"golden\.npz is off"):
        _classify(tmp_path, Wrong)
