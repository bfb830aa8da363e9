"""What a network gives for many pictures, and for photos: each is decoded and computed once, both at the same time."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tqdm import tqdm

from models.manifest import InputSpec, Precision
from models.preprocess import ImageError
from models.quiet import without_openvino_telemetry
from training import devices, duplicates, photos, pipeline
from training.photos import Photo

without_openvino_telemetry()
import openvino as ov  # noqa: E402
from openvino.tools.ovc import convert_model  # noqa: E402

_BATCH = 8
_PIXELS = "pixels"

Rows = npt.NDArray[np.int64]
Reader = Callable[[npt.NDArray[np.uint8], Rows], npt.NDArray[np.float32]]


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


def precision() -> Precision:
    """In which `extract` computes: bfloat16 where the processor has it, as it is served there."""
    return "bf16" if devices.has_bfloat16() else "f32"


def extract(listing: Sequence[Photo], spec: InputSpec, network: keras.Model, scratch: Path) -> Features:
    """Decode all photos into a file in `scratch` and compute their embeddings, in `precision()`.

    Raises `DataError` where more than 5 % of the photos can't be read, `OSError` where the disk is full.
    """
    found = np.empty((len(listing), network.output["embedding"].shape[-1]), np.float32)
    hashes = np.empty(len(listing), np.uint64)
    queue = _queue(network, "embedding", precision())
    _fill(found, queue)
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


def reader(network: keras.Model, output: str) -> Reader:
    """What gives the network's `output` of rows of pixels uint8 [N, H, W, 3], computed in float32 [len(rows), ...].

    That one alone, so that no feature maps of all pictures are kept; on the CPU, in half to a third of the time of
    Keras's predict there. Raises `OSError` where the disk is full.
    """
    queue, shape = _queue(network, output, "f32"), network.output[output].shape[1:]
    _, height, width, _ = network.input_shape
    at_once = max(1, min(_BATCH, pipeline.evaluation_batch(height, width) // len(queue)))

    def read(pixels: npt.NDArray[np.uint8], rows: Rows) -> npt.NDArray[np.float32]:
        found = np.empty((len(rows), *shape), np.float32)
        _fill(found, queue)
        try:
            for start in range(0, len(rows), at_once):
                part = slice(start, min(start + at_once, len(rows)))
                queue.start_async({0: pixels[rows[part]]}, part)
        finally:
            queue.wait_all()  # as above
        return found

    return read


def _fill(found: npt.NDArray[np.float32], queue: ov.AsyncInferQueue) -> None:
    """Have the queue take pictures with the slice of `found` where what they give belongs."""
    queue.set_callback(lambda request, rows: np.copyto(found[rows], request.get_output_tensor().data))


def _queue(network: keras.Model, output: str, precision: Precision) -> ov.AsyncInferQueue:
    """The only owner of its model, which would wait for a thread that waits for Python if it were the last to go."""
    return ov.AsyncInferQueue(_compiled(network, output, precision))


def _compiled(network: keras.Model, output: str, precision: Precision) -> ov.CompiledModel:
    """One output, for uint8 pictures."""
    _, height, width, channels = network.input_shape

    def compute(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {output: network(tf.cast(images, tf.float32), training=False)[output]}

    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    signature = tf.TensorSpec((None, height, width, channels), tf.uint8, name="images")
    with TemporaryDirectory() as folder:
        try:
            tf.saved_model.save(module, folder, signatures=tf.function(compute, input_signature=[signature]))
        except tf.errors.OpError as error:
            raise OSError(f"the network can't be written to {folder}: {error}") from error
        model = convert_model(folder)
    hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "THROUGHPUT"}
    return ov.Core().compile_model(model, "CPU", hints)
