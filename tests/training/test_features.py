"""Embeddings of photos: those of the network, in order, whatever can't be read and however long the last batch is."""

import errno
import io
from pathlib import Path
from typing import NoReturn

import keras
import numpy as np
import openvino as ov
import pytest
import tensorflow as tf
from PIL import Image

from models.manifest import InputSpec
from models.preprocess import load_image
from training import devices, features, photos, pipeline
from training.duplicates import perceptual_hash
from training.features import Features
from training.photos import Photo
from training.splits import DataError

SPEC = InputSpec(height=24, width=32)


@pytest.fixture(autouse=True)
def _in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the processor has: in bfloat16 one could not tell embeddings of photos that are alike apart."""
    monkeypatch.setattr(devices, "has_bfloat16", lambda: False)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(1)
    pixels = keras.Input((24, 32, 3))
    maps = keras.layers.Conv2D(7, 5, 4, activation="relu")(keras.layers.Rescaling(1 / 128, -1.0)(pixels))
    embedding = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(maps))
    return keras.Model(
        pixels, {"logits": keras.layers.Dense(3)(embedding), "embedding": embedding, "features": maps}, name="minute"
    )


def _write(folder: Path, n: int) -> list[Photo]:
    """Photos of three classes, each unlike the others, in the formats that people have."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(2)
    chosen = []
    for i in range(n):
        coarse = random.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        path = folder / f"{i:03}.{('jpg', 'png', 'webp', 'gif', 'bmp', 'tif')[i % 6]}"
        Image.fromarray(coarse).resize((70 + i, 50), Image.Resampling.BICUBIC).save(path)
        chosen.append(Photo(path, i % 3))
    return chosen


def _expected(network: keras.Model, photo: Photo) -> tuple[np.ndarray, np.ndarray]:
    pixels = load_image(photo.path.read_bytes(), SPEC)
    embedding = network(pixels[None].astype("float32"), training=False)["embedding"]
    return pixels, keras.ops.convert_to_numpy(embedding)[0]


def _assert_aligned(found: Features, expected: list[Photo], network: keras.Model) -> None:
    assert list(found.photos) == expected
    assert len(found.pixels) == len(found.embeddings) == len(found.hashes) == len(found.classes) == len(expected)
    assert (found.pixels.dtype, found.embeddings.dtype) == (np.uint8, np.float32)
    for row, photo in enumerate(expected):
        pixels, embedding = _expected(network, photo)
        np.testing.assert_array_equal(found.pixels[row], pixels)
        np.testing.assert_allclose(found.embeddings[row], embedding, atol=1e-3)
        assert found.hashes[row] == perceptual_hash(pixels)
        assert found.classes[row] == photo.class_id


@pytest.mark.parametrize("n", [1, 15, 16, 17, 40])
def test_embeddings_are_the_networks_own_for_any_number_of_photos(tmp_path: Path, network: keras.Model, n: int) -> None:
    chosen = _write(tmp_path / "photos", n)

    found = features.extract(chosen, SPEC, network, tmp_path)

    assert found.unreadable == ()
    assert n < 3 or np.ptp(found.embeddings, axis=0).max() > 0.1  # far more than the tolerance hides
    _assert_aligned(found, chosen, network)
    backwards = np.arange(n)[::-1]
    again = features.reader(network, "embedding")(found.pixels, backwards)
    np.testing.assert_allclose(again, found.embeddings[backwards], atol=1e-5)


def test_photos_that_can_not_be_read_are_left_out_of_every_array_and_listed(
    tmp_path: Path, network: keras.Model
) -> None:
    chosen = _write(tmp_path / "photos", 60)
    chosen[0].path.write_bytes(b"")
    chosen[16].path.write_bytes(chosen[18].path.read_bytes()[:100])
    chosen[59].path.unlink()

    found = features.extract(chosen, SPEC, network, tmp_path)

    assert [path for path, _ in found.unreadable] == [chosen[i].path for i in (0, 16, 59)]
    for (_, reason), part in zip(found.unreadable, ("is empty", "cut short", "No such file"), strict=True):
        assert part in reason
    _assert_aligned(found, [photo for i, photo in enumerate(chosen) if i not in (0, 16, 59)], network)


@pytest.mark.parametrize(("broken", "n"), [(3, 40), (1, 1)])
def test_too_many_photos_that_can_not_be_read_are_refused(
    tmp_path: Path, network: keras.Model, broken: int, n: int
) -> None:
    chosen = _write(tmp_path / "photos", n)
    for photo in chosen[:broken]:
        photo.path.write_bytes(b"no picture")

    with pytest.raises(DataError, match=rf"^{broken} of {n} photos can't be read, more than 5%; repair or remove them"):
        features.extract(chosen, SPEC, network, tmp_path)


def test_pixels_stay_in_a_file_that_nobody_writes_to(tmp_path: Path, network: keras.Model) -> None:
    found = features.extract(_write(tmp_path / "photos", 20), SPEC, network, tmp_path)

    assert isinstance(found.pixels, np.memmap)
    assert sum(path.stat().st_size for path in tmp_path.iterdir() if path.is_file()) == 20 * 24 * 32 * 3
    with pytest.raises(ValueError, match="read-only"):
        found.pixels[0] = 0


def test_a_full_disk_is_an_error_that_can_be_caught(
    tmp_path: Path, network: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the death of the process, which awaits who writes to a mapped file."""

    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            if self.tell() > 24 * 32 * 3 * 20:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    real = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r", *rest: Full() if mode == "wb" else real(path, mode, *rest))
    chosen = _write(tmp_path / "photos", 60)

    with pytest.raises(OSError, match="No space left on device"):
        features.extract(chosen, SPEC, network, tmp_path)


def test_who_interrupts_is_heard_and_no_photo_is_read_after_that(
    tmp_path: Path, network: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, read = _write(tmp_path / "photos", 1), []

    def load(data: bytes, spec: InputSpec) -> np.ndarray:
        read.append(len(data))
        if len(read) == 100:
            raise KeyboardInterrupt
        return load_image(data, spec)

    monkeypatch.setattr(photos, "load_image", load)
    monkeypatch.setattr(features.os, "cpu_count", lambda: 1)

    with pytest.raises(KeyboardInterrupt):
        features.extract(chosen * 1000, SPEC, network, tmp_path)
    assert len(read) <= 100 + 8


def test_embeddings_are_computed_in_bfloat16_where_the_processor_has_it(
    network: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing, hints = _write(tmp_path / "photos", 4), []
    compile_model = ov.Core.compile_model

    def recorded(core: ov.Core, model: ov.Model, device: str, config: dict[str, str]) -> ov.CompiledModel:
        hints.append(config["INFERENCE_PRECISION_HINT"])
        return compile_model(core, model, device, config)

    monkeypatch.setattr(ov.Core, "compile_model", recorded)
    found = []
    for has in (True, False):
        monkeypatch.setattr(devices, "has_bfloat16", lambda has=has: has)
        found.append(features.extract(listing, SPEC, network, tmp_path).embeddings)

    assert hints == ["bf16", "f32"]
    np.testing.assert_allclose(*found, atol=0.02 * np.abs(found[1]).max())


def test_fewer_pictures_are_read_at_once_where_they_are_large(
    network: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, rows = np.random.default_rng(3).integers(0, 256, (40, 24, 32, 3), dtype=np.uint8), np.arange(40)
    at_once: list[int] = []
    requests: list[int] = []

    class Queue(ov.AsyncInferQueue):
        def __init__(self, compiled: ov.CompiledModel) -> None:
            super().__init__(compiled)
            requests.append(len(self))

        def start_async(self, inputs: dict[int, np.ndarray], userdata: slice) -> None:
            at_once.append(len(inputs[0]))
            super().start_async(inputs, userdata)

    monkeypatch.setattr(ov, "AsyncInferQueue", Queue)
    logits = features.reader(network, "logits")(pixels, rows)
    for each, expected in ((99, [8] * 5), (6, [6] * 6 + [4]), (0, [1] * 40)):
        at_once.clear()
        monkeypatch.setattr(pipeline, "evaluation_batch", lambda height, width, each=each: each * requests[0])
        np.testing.assert_allclose(features.reader(network, "logits")(pixels, rows), logits, atol=1e-5)
        assert at_once == expected


def test_a_full_disk_is_told_where_a_network_is_to_be_read(
    network: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(OSError, match=r"the network can't be written to .*: No space left on device"):
        features.reader(network, "logits")
