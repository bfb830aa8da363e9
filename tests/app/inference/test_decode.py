"""Bytes to pixels in worker threads, and what is said of bytes that are no picture."""

import asyncio
import threading

import numpy as np
import pytest

from app.errors import DemitasseError, TooManyPixels, UnreadableImage, UnsupportedMediaType
from app.inference.decode import Decoder
from models import preprocess
from models.manifest import InputSpec
from tests.app.conftest import png, until

SPEC = InputSpec(height=2, width=3, resize="stretch")


async def test_picture_becomes_the_pixels_that_the_spec_asks_for() -> None:
    decoder = Decoder(threads=1, max_pixels=100)
    pixels = await decoder.decode(png(77, (10, 10)), SPEC)
    decoder.close()
    assert (pixels.dtype, pixels.shape) == (np.uint8, (2, 3, 3))
    assert (pixels == 77).all()


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", UnreadableImage, "the picture is empty: 0 bytes came"),
        (png(1)[:40], UnreadableImage, "damaged or cut short"),
        (b"%PDF-1.7", UnsupportedMediaType, "expected one of JPEG, PNG"),
        (png(1, (11, 10)), TooManyPixels, "the picture has 11 x 10 pixels, the limit is 100 pixels in all"),
    ],
)
def test_bad_picture_says_what_is_wrong_with_it(data: bytes, error: type[DemitasseError], message: str) -> None:
    decoder = Decoder(threads=1, max_pixels=100)
    with pytest.raises(error, match=message):
        asyncio.run(decoder.decode(data, SPEC))
    decoder.close()


async def test_caller_who_leaves_before_its_turn_costs_no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    leave = threading.Event()

    def load(data: bytes, spec: InputSpec, max_pixels: int) -> np.ndarray:
        decoded.append(data)
        leave.wait(20)
        return np.zeros((2, 3, 3), np.uint8)

    monkeypatch.setattr(preprocess, "load_image", load)
    decoder = Decoder(threads=1, max_pixels=100)
    tasks = [asyncio.create_task(decoder.decode(data, SPEC)) for data in (b"1", b"2", b"3")]
    await until(lambda: decoded == [b"1"])
    tasks[1].cancel()
    await asyncio.wait(tasks[1:2])
    leave.set()
    await asyncio.wait(tasks)
    decoder.close()
    assert decoded == [b"1", b"3"]
