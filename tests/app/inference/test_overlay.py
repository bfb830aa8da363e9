"""Pictures under heat: its colours, where it lies, and that the rest stays as it is."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from app.inference.overlay import colours, overlay
from models.preprocess import Box, UnreadableImage

WHOLE = Box(0.0, 0.0, 1.0, 1.0)


def _grey(width: int, height: int, format_: str = "PNG", orientation: int = 1) -> bytes:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", (width, height), (100, 100, 100)).save(buffer, format_, exif=exif)
    return buffer.getvalue()


def _laid(data: bytes, heat: list[list[float]], region: Box = WHOLE) -> np.ndarray:
    image = Image.open(io.BytesIO(overlay(data, np.array(heat, np.float32), region, 10**7)))
    assert (image.format, image.mode) == ("PNG", "RGB")
    return np.asarray(image)


def test_colours_are_those_of_inferno_and_grow_lighter() -> None:
    found = colours(np.linspace(0, 1, 50, dtype=np.float32))
    np.testing.assert_array_equal(found[[0, -1]], [(0, 0, 4), (252, 255, 164)])
    assert (np.diff(found @ np.array([0.299, 0.587, 0.114])) > 0).all()


def test_heat_covers_its_region_half_where_it_is_greatest_and_nothing_where_there_is_none() -> None:
    found = _laid(_grey(80, 40), [[1.0, 0.0]], Box(0.5, 0.0, 1.0, 0.5))
    assert found.shape == (40, 80, 3)
    np.testing.assert_allclose(found[5, 42], [(100 + 252) / 2, (100 + 255) / 2, (100 + 164) / 2], atol=0.5)
    untouched = found.copy()
    untouched[:20, 40:] = 100
    np.testing.assert_array_equal(untouched, 100)
    np.testing.assert_array_equal(found[5, 78], 100)
    np.testing.assert_array_equal(_laid(_grey(80, 40), [[0.0, 0.0]]), 100)


def test_picture_is_turned_and_bounded() -> None:
    assert _laid(_grey(3000, 1500, "JPEG", orientation=6), [[1.0]]).shape == (1024, 512, 3)
    assert _laid(_grey(5000, 1), [[1.0]]).shape == (1, 1024, 3)


def test_damaged_picture_is_unreadable() -> None:
    with pytest.raises(UnreadableImage):
        overlay(_grey(64, 64)[:-60], np.ones((1, 1), np.float32), WHOLE, 10**7)
