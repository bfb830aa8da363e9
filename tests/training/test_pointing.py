"""The pointing game: pairs of photos side by side, and maps that point right, wrong or nowhere."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from models.manifest import InputSpec
from training import pointing
from training.photos import Photo
from training.pointing import Explained, Pair

SPEC = InputSpec(height=32, width=64, resize="stretch")
SHADES = (40, 120, 200)


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    """Twelve of three classes, each of its class's shade, of many sizes."""
    listing = []
    for number in range(12):
        path = tmp_path / f"{number}.png"
        Image.new("L", (40 + 9 * number, 30 + 50 * (number % 2)), SHADES[number % 3]).save(path)
        listing.append(Photo(path, number % 3))
    return listing


def test_each_photo_is_in_one_pair_beside_one_of_another_class(photos: list[Photo]) -> None:
    pairs = list(pointing.compose(photos, SPEC))

    assert len(pairs) >= 5
    used = [class_id for pair in pairs for class_id in pair.classes]
    assert all(used.count(class_id) <= 4 for class_id in range(3))
    for pixels, (left, right), border in pairs:
        assert left != right
        assert pixels.shape == (32, 64, 3)
        column = round(border * 64)
        np.testing.assert_allclose(pixels[:, : column - 2], SHADES[left], atol=1)
        np.testing.assert_allclose(pixels[:, column + 2 :], SHADES[right], atol=1)
    again = list(pointing.compose(photos, SPEC))
    assert [pair.classes for pair in again] == [pair.classes for pair in pairs]


def test_photos_of_one_class_make_no_pair(photos: list[Photo]) -> None:
    assert list(pointing.compose(photos[::3], SPEC)) == []


def test_hits_are_maps_whose_maximum_lies_on_their_own_side() -> None:
    pairs = [Pair(np.full((2, 4, 3), i, np.uint8), (0, 1), 0.7) for i in range(20)]

    def explain(images: np.ndarray, class_ids: np.ndarray) -> Explained:
        """Class 0 always points at the second of four columns, class 1 at the third, which is left of the border.

        In every other picture it is the fourth, and the last picture has nothing positive. The first is recognised.
        """
        numbers = images[:, 0, 0, 0]
        heatmaps = np.zeros((len(images), 2, 4), np.float32)
        columns = np.where(class_ids == 0, 1, np.where(numbers % 2, 3, 2))
        heatmaps[np.arange(len(images)), 1, columns] = np.where(numbers == 19, 0, 1)
        probabilities = np.tile(np.arange(7, dtype=np.float32), (len(images), 1))
        probabilities[numbers == 0, :2] = 9
        return Explained(probabilities, heatmaps)

    every, recognised = pointing.play(explain, pairs, "made up")

    assert (every.name, every.n, every.interval) == ("pointing", 40, "wilson")
    assert every.value == pytest.approx((19 + 9) / 40)
    assert every.low < every.value < every.high
    assert (recognised.name, recognised.n) == ("pointing_where_both_are_in_the_top_5", 2)
    assert recognised.value == 0.5


def test_both_engines_play_with_the_same_maps(minute: SimpleNamespace) -> None:
    images, class_ids = minute.dataset.test.images[:8], np.array([0, 1, 2, 3] * 2, np.int32)

    ir, saved_model = (by(minute.folder.path)(images, class_ids) for by in (pointing.by_ir, pointing.by_saved_model))

    np.testing.assert_allclose(ir.probabilities, saved_model.probabilities, atol=0.02)
    # The IR's weights are of 16 bits: a ReLU that is next to zero may fall to the other side, and its map takes a step
    highest = abs(saved_model.heatmaps).max()
    assert np.isclose(ir.heatmaps, saved_model.heatmaps, rtol=0, atol=0.01 * highest).mean() > 0.8
    np.testing.assert_allclose(ir.heatmaps, saved_model.heatmaps, atol=0.1 * highest)
