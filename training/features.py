"""Embeddings of photos by a frozen backbone: each photo is decoded and computed once, both at the same time."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tqdm import tqdm

from models.manifest import InputSpec
from models.preprocess import ImageError
from models.quiet import without_openvino_telemetry
from training import duplicates, photos
from training.photos import Photo

without_openvino_telemetry()
import openvino as ov  # noqa: E402
from openvino.tools.ovc import convert_model  # noqa: E402

_BATCH = 16
_PIXELS = "pixels"

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Features:
    """Of the N readable photos, in order.

    pixels uint8 [N, H, W, 3], a file mapped into memory; embeddings float32 [N, D]; perceptual hashes uint64 [N];
    class ids int64 [N].
    """

    photos: tuple[Photo, ...]
    pixels: npt.NDArray[np.uint8]
    embeddings: npt.NDArray[np.float32]
    hashes: npt.NDArray[np.uint64]
    classes: npt.NDArray[np.int64]
    unreadable: tuple[tuple[Path, str], ...]


def extract(listing: Sequence[Photo], spec: InputSpec, network: keras.Model, scratch: Path) -> Features:
    """Decode all photos into a file in `scratch` and compute their embeddings.

    Raises `DataError` where more than 5 % of the photos can't be read, `OSError` where the disk is full.
    """
    found = np.empty((len(listing), network.output["embedding"].shape[-1]), np.float32)
    hashes = np.empty(len(listing), np.uint64)
    queue = _queue(network, found)
    kept: list[Photo] = []
    unreadable: list[tuple[Path, str]] = []
    batch: list[npt.NDArray[np.uint8]] = []
    # Written first and mapped afterwards: where the disk is full, writing to a mapped file kills the process
    with (scratch / _PIXELS).open("wb") as file:

        def compute() -> None:
            images = np.stack(batch)
            file.write(images.data)
            queue.start_async({0: images}, slice(len(kept) - len(batch), len(kept)))
            batch.clear()

        decoded = photos.decode(listing, spec, os.cpu_count() or 1)
        try:
            for index, picture in tqdm(decoded, total=len(listing), desc="features", unit=" photos", disable=None):
                if isinstance(picture, ImageError):
                    unreadable.append((listing[index].path, str(picture)))
                    continue
                hashes[len(kept)] = duplicates.perceptual_hash(picture)
                kept.append(listing[index])
                batch.append(picture)
                if len(batch) == _BATCH:
                    compute()
            if batch:
                compute()
        finally:
            queue.wait_all()  # whatever ends it: a queue that goes with requests under way takes the process along
    photos.refuse_if_too_many(unreadable, len(listing))
    n = len(kept)
    pixels = np.memmap(scratch / _PIXELS, np.uint8, "r", shape=(n, spec.height, spec.width, 3))
    classes = np.array([photo.class_id for photo in kept], np.int64)
    return Features(tuple(kept), pixels, found[:n], hashes[:n], classes, tuple(unreadable))


def embeddings(network: keras.Model, pixels: npt.NDArray[np.uint8], rows: Rows) -> npt.NDArray[np.float32]:
    """Float32 [len(rows), D] of those rows of pixels uint8 [N, H, W, 3], in a third of TensorFlow's time."""
    found = np.empty((len(rows), network.output["embedding"].shape[-1]), np.float32)
    queue = _queue(network, found)
    try:
        for start in range(0, len(rows), _BATCH):
            part = slice(start, min(start + _BATCH, len(rows)))
            queue.start_async({0: pixels[rows[part]]}, part)
    finally:
        queue.wait_all()  # as above
    return found


def _queue(network: keras.Model, embeddings: npt.NDArray[np.float32]) -> ov.AsyncInferQueue:
    """Takes pictures with the slice of `embeddings` where theirs belong."""
    queue = ov.AsyncInferQueue(_compiled(network))
    queue.set_callback(lambda request, rows: np.copyto(embeddings[rows], request.get_output_tensor().data))
    return queue


def _compiled(network: keras.Model) -> ov.CompiledModel:
    """The embedding alone, for uint8 pictures, in float32: the precision in which heads are fitted and figures read."""
    _, height, width, channels = network.input_shape

    def embed(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": network(tf.cast(images, tf.float32), training=False)["embedding"]}

    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    signature = tf.TensorSpec((None, height, width, channels), tf.uint8, name="images")
    with TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=tf.function(embed, input_signature=[signature]))
        model = convert_model(folder)
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
    return ov.Core().compile_model(model, "CPU", hints)
