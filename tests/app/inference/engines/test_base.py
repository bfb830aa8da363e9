"""A version proves itself before it serves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.inference.engines.base import EngineError, prove, shared_out
from models.repository import ModelRepository, VersionFolder
from tests.app.conftest import FakeEngine, publish, shades


def _prove(engine: Any, folder: VersionFolder, max_batch_size: int = 4) -> None:
    prove(engine, folder, ModelRepository(folder.path.parent.parent).read(folder), max_batch_size)


class _Off(FakeEngine):
    def __init__(self, off: float, precision: str = "f32", at_size: int = 1) -> None:
        super().__init__()
        self.off, self.precision, self.at_size = off, precision, at_size

    def infer(self, images: np.ndarray) -> np.ndarray:
        return super().infer(images) + (self.off if len(images) == self.at_size else 0)


def test_engine_is_proved_and_warmed_at_every_batch_size_the_largest_first(tmp_path: Path) -> None:
    engine = FakeEngine()
    _prove(engine, publish(tmp_path))
    assert engine.sizes == [4, 2, 1]


def _with_lanes(*lanes: FakeEngine) -> FakeEngine:
    engine = FakeEngine()
    engine.lanes = tuple(lane.infer for lane in lanes)
    return engine


def test_each_lane_is_proved_at_its_share_of_every_batch_size_and_the_whole_with_one_image(tmp_path: Path) -> None:
    lanes = FakeEngine(), FakeEngine()
    engine = _with_lanes(*lanes)
    _prove(engine, publish(tmp_path), max_batch_size=8)
    assert (engine.sizes, [lane.sizes for lane in lanes]) == ([1], [[4, 2, 1], [4, 2, 1]])


def test_lane_that_is_wrong_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"is off by 0\.5000"):
        _prove(_with_lanes(FakeEngine(), _Off(0.5, at_size=2)), publish(tmp_path))


@pytest.mark.parametrize(
    ("max_batch_size", "lanes", "largest"), [(8, 0, 8), (8, 1, 8), (8, 2, 4), (8, 3, 2), (2, 4, 1), (1, 2, 1)]
)
def test_lanes_share_the_largest_batch(max_batch_size: int, lanes: int, largest: int) -> None:
    assert shared_out(max_batch_size, lanes) == largest


@pytest.mark.parametrize(("off", "precision"), [(0.02, "f32"), (-0.02, "f32"), (0.2, "bf16"), (float("nan"), "f32")])
def test_probabilities_beyond_the_tolerance_of_the_precision_are_refused(
    off: float, precision: str, tmp_path: Path
) -> None:
    for size in (1, 4):
        with pytest.raises(EngineError, match=rf"golden.npz is off by .* on fake \({precision}\), the manifest allows"):
            _prove(_Off(off, precision, size), publish(tmp_path))


def test_every_golden_example_is_compared(tmp_path: Path) -> None:
    class WrongOnBright(FakeEngine):
        def infer(self, images: np.ndarray) -> np.ndarray:
            return super().infer(np.minimum(images, 100))

    folder = publish(tmp_path)
    images = np.stack([np.full((2, 2, 3), shade, np.uint8) for shade in (10, 20, 200)])
    np.savez(folder.path / "golden.npz", images=images, probabilities=shades(images))
    _prove(FakeEngine(), folder)
    with pytest.raises(EngineError, match=r"is off by 0\.3922"):
        _prove(WrongOnBright(), folder)


def test_probabilities_within_the_tolerance_of_the_precision_pass(tmp_path: Path) -> None:
    folder = publish(tmp_path)
    _prove(_Off(0.009), folder)
    _prove(_Off(0.09, "bf16"), folder)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "unreadable"),
        ({"images": np.zeros((1, 2, 2, 3), np.uint8)}, "unreadable"),
        ({"images": np.zeros((1, 2, 2, 3), np.float32), "probabilities": np.zeros((1, 3))}, "holds float32"),
        (
            {"images": np.zeros((1, 5, 2, 3), np.uint8), "probabilities": np.zeros((1, 3))},
            r"expected uint8 \[n, \*\(2,",
        ),
        ({"images": np.zeros((0, 2, 2, 3), np.uint8), "probabilities": np.zeros((0, 3))}, r"holds uint8 \(0,"),
        ({"images": np.zeros((2, 2, 2, 3), np.uint8), "probabilities": np.zeros((1, 3))}, "expected uint8"),
        ({"images": np.zeros((1, 2, 2, 3), np.uint8), "probabilities": np.zeros((1, 4))}, r"has \(4,\) probabilities"),
    ],
)
def test_golden_file_that_does_not_fit_the_manifest_is_refused(
    arrays: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    folder = publish(tmp_path)
    np.savez(folder.path / "golden.npz", **arrays)
    with pytest.raises(EngineError, match=message):
        _prove(FakeEngine(), folder)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    "damage", [Path.unlink, _cut, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"no archive")]
)
def test_golden_file_that_cannot_be_read_is_refused(damage: Any, tmp_path: Path) -> None:
    folder = publish(tmp_path)
    damage(folder.path / "golden.npz")
    with pytest.raises(EngineError, match=r"golden.npz is unreadable"):
        _prove(FakeEngine(), folder)
