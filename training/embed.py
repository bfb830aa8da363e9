"""Embeddings of pictures by a published version: what its `explain` endpoint says of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tqdm import tqdm

from models.manifest import InputSpec
from models.preprocess import ImageError
from models.repository import InvalidVersion
from training.pictures import Pictures, Pixels, read

_BATCH = 32
_ENDPOINT = "explain"
_TOP_CLASS = -1

Embed = Callable[[Pixels], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Embedded:
    """Of the readable pictures, in order: embeddings float32 [N, D] and classes int32 [N]."""

    embeddings: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int32]
    unreadable: tuple[tuple[str, str], ...]


def load(saved_model: Path) -> Embed:
    """uint8 [N, H, W, 3] -> float32 [N, D], computed by TensorFlow. Raises `InvalidVersion`."""
    try:
        model = tf.saved_model.load(str(saved_model))
        endpoint = model.signatures[_ENDPOINT]
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        raise InvalidVersion(f"{saved_model}: TensorFlow can't load {_ENDPOINT}: {error}") from error
    inputs = endpoint.structured_input_signature[1]

    def embedding(images: tf.Tensor) -> Any:
        classes = {"class_ids": tf.fill([tf.shape(images)[0]], _TOP_CLASS)} if "class_ids" in inputs else {}
        return endpoint(images=images, **classes)["embedding"]

    # Alone, so that TensorFlow leaves out what only heat maps need
    compute = tf.function(embedding, input_signature=[inputs["images"]])

    def embed(images: Pixels) -> npt.NDArray[np.float32]:
        _ = model  # its variables go with it
        found: npt.NDArray[np.float32] = compute(tf.constant(images)).numpy()
        return found

    return embed


def extract(
    pictures: Pictures,
    spec: InputSpec,
    embed: Embed,
    take_thumbnail: Callable[[bytes], None] | None = None,
    description: str = "embeddings",
) -> Embedded:
    """Decode and compute, both at the same time; thumbnails of the readable pictures are handed on in their order."""
    kept: list[int] = []
    unreadable: list[tuple[str, str]] = []
    batch: list[Pixels] = []
    found: list[npt.NDArray[np.float32]] = []
    looks = read(pictures, spec, thumbnails=take_thumbnail is not None)
    for number, look in tqdm(looks, total=len(pictures.classes), desc=description, unit=" pictures", disable=None):
        if isinstance(look, ImageError):
            unreadable.append((pictures.name(number), str(look)))
            continue
        kept.append(number)
        batch.append(look.pixels)
        if take_thumbnail is not None and look.thumbnail is not None:
            take_thumbnail(look.thumbnail)
        if len(batch) == _BATCH:
            found.append(embed(np.stack(batch)))
            batch.clear()
    if batch:
        found.append(embed(np.stack(batch)))
    embeddings = np.concatenate(found) if found else np.empty((0, 0), np.float32)
    return Embedded(embeddings, pictures.classes[kept], tuple(unreadable))
