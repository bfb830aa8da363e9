"""Bytes to pixels, on the spot or in worker threads, and what is said of bytes that are no picture."""

import asyncio
import gc
import io
import threading

import numpy as np
import pytest
from PIL import Image

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


async def test_caller_who_leaves_while_its_explanation_is_decoded_leaves_no_second_thread_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[bytes] = []
    leave = threading.Event()

    def opened(data: bytes, max_pixels: int) -> Image.Image:
        begun.append(data)
        if data != b"prediction":
            leave.wait(20)
        return Image.new("RGB", (3, 2))

    monkeypatch.setattr(preprocess, "open_image", opened)
    decoder = Decoder(threads=2, max_pixels=100)
    first = asyncio.create_task(decoder.look(b"1", SPEC))
    await until(lambda: begun == [b"1"])
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first

    second = asyncio.create_task(decoder.look(b"2", SPEC))
    assert (await decoder.decode(b"prediction", SPEC)).shape == (SPEC.height, SPEC.width, 3)
    assert begun == [b"1", b"prediction"]
    leave.set()
    await second
    assert begun[2:] == [b"2"]
    decoder.close()


async def test_error_of_a_picture_whose_caller_has_left_is_nobodys(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun, leave = threading.Event(), threading.Event()

    def load(*_: object) -> np.ndarray:
        begun.set()
        leave.wait(20)
        raise preprocess.UnreadableImage("cut short")

    monkeypatch.setattr(preprocess, "load_image", load)
    decoder = Decoder(threads=1, max_pixels=100)
    left = asyncio.create_task(decoder.decode(b"1", SPEC))
    await until(begun.is_set)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    leave.set()
    with pytest.raises(UnreadableImage):
        await decoder.decode(b"2", SPEC)
    gc.collect()
    assert caplog.messages == []
    decoder.close()


def _picture(kind: str, size: tuple[int, int], mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind)
    return buffer.getvalue()


def _padded(data: bytes, size: int) -> bytes:
    return data + bytes(size - len(data))


@pytest.mark.parametrize(
    ("data", "on_the_spot"),
    [
        (_picture("JPEG", (128, 128)), True),
        (_picture("PNG", (16_384, 1)), True),
        (_padded(_picture("PNG", (2, 2)), 8192), True),
        (_padded(_picture("PNG", (2, 2)), 8193), False),
        (_picture("JPEG", (128, 129)), False),
        (_picture("PNG", (5000, 5000), "1"), False),  # 3.5 kB that claim 25 million pixels
        (_picture("GIF", (2, 2)), False),
        (_picture("BMP", (2, 2)), False),
        (_picture("WEBP", (2, 2)), False),
        (_picture("TIFF", (2, 2)), False),
    ],
)
async def test_thumbnails_need_no_thread_and_all_else_does(
    data: bytes, on_the_spot: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def to_pixels(image: Image.Image, spec: InputSpec) -> np.ndarray:
        threads.append(threading.current_thread())
        return pixels_of(image, spec)

    pixels_of = preprocess.to_pixels
    monkeypatch.setattr(preprocess, "to_pixels", to_pixels)
    decoder = Decoder(threads=1, max_pixels=25_000_000)
    pixels = await decoder.decode(data, SPEC)
    decoder.close()
    assert [thread is threading.current_thread() for thread in threads] == [on_the_spot]
    np.testing.assert_array_equal(pixels, preprocess.load_image(data, SPEC))


async def test_thumbnail_is_no_slower_where_all_threads_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    leave = threading.Event()
    monkeypatch.setattr(preprocess, "load_image", lambda *_: leave.wait(20))
    decoder = Decoder(threads=1, max_pixels=100)
    crowd = [asyncio.create_task(decoder.decode(b"photo", SPEC)) for _ in range(5)]
    await asyncio.sleep(0)
    assert (await decoder.decode(png(77), SPEC) == 77).all()
    assert not any(task.done() for task in crowd)
    leave.set()
    await asyncio.gather(*crowd)
    decoder.close()


async def test_small_file_whose_header_claims_more_pixels_than_allowed_is_refused_without_a_thread() -> None:
    decoder = Decoder(threads=1, max_pixels=24_999_999)
    decoder.close()
    with pytest.raises(TooManyPixels, match="the picture has 5000 x 5000 pixels, the limit is 24,999,999"):
        await decoder.decode(_picture("PNG", (5000, 5000), "1"), SPEC)


async def test_models_take_turns_at_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    leave = threading.Event()

    def load(data: bytes, spec: InputSpec, max_pixels: int) -> np.ndarray:
        leave.wait(20)
        decoded.append(data)
        return np.zeros((2, 3, 3), np.uint8)

    monkeypatch.setattr(preprocess, "load_image", load)
    decoder = Decoder(threads=1, max_pixels=100)
    crowd = [asyncio.create_task(decoder.decode(b"busy %d" % number, SPEC, "busy")) for number in range(50)]
    await asyncio.sleep(0)
    single = asyncio.create_task(decoder.decode(b"other", SPEC, "other"))
    await asyncio.sleep(0)
    leave.set()
    await asyncio.gather(*crowd, single)
    decoder.close()
    # Two have their places when the others come: one is being decoded, one is ready for when it is done
    assert decoded == [b"busy 0", b"busy 1", b"other", *(b"busy %d" % number for number in range(2, 50))]


async def test_pictures_that_are_to_be_explained_leave_a_thread_to_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[bytes] = []
    leave = threading.Event()

    def opened(data: bytes, max_pixels: int) -> Image.Image:
        begun.append(data)
        leave.wait(20)
        return Image.new("RGB", (3, 2))

    monkeypatch.setattr(preprocess, "open_image", opened)
    decoder = Decoder(threads=2, max_pixels=100)
    looks = [asyncio.create_task(decoder.look(b"look %d" % number, SPEC)) for number in range(9)]
    await until(lambda: begun)
    monkeypatch.setattr(preprocess, "load_image", lambda data, spec, max_pixels: np.zeros((2, 3, 3), np.uint8))
    await decoder.decode(b"prediction", SPEC)
    assert begun == [b"look 0"]
    leave.set()
    await asyncio.gather(*looks)
    decoder.close()
