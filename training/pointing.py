"""The pointing game (Zhang et al. 2016, arXiv:1608.00507) on composed pictures: do heat maps point at their class?

Two test photos of different classes stand side by side in one picture. It goes the way of every other picture, and each
of the two classes gets its heat map, whatever the model makes of the picture. A map whose maximum lies on the photo of
its class is a hit; one without anything positive is a miss. By chance it would be a hit for half of them.
"""

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image
from tqdm import tqdm

from models.manifest import InputSpec, Metric
from models.preprocess import load_image, open_image, upright
from models.quiet import without_openvino_telemetry
from training.evaluate import share
from training.photos import Photo
from training.splits import DataError

without_openvino_telemetry()
import openvino as ov  # noqa: E402

_HEIGHT = 256  # of a composed picture, in pixels
_LONGEST_SIDE = 1024
_BATCH = 16
_RECOGNISED = 5
_SEED = 0

Pixels = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float32]


class Pair(NamedTuple):
    """Two photos side by side, as the model gets them: pixels uint8 [H, W, 3].

    `classes` are the class ids of the left and the right photo; `border`, where they meet, is a fraction of the width.
    """

    pixels: Pixels
    classes: tuple[int, int]
    border: float


class Explained(NamedTuple):
    """Of N pictures: probabilities float32 [N, C] and heat maps float32 [N, h, w]."""

    probabilities: Numbers
    heatmaps: Numbers


Explain = Callable[[Pixels, npt.NDArray[np.int32]], Explained]  # uint8 [N, H, W, 3] and class ids [N]


def compose(photos: Sequence[Photo], spec: InputSpec) -> Iterator[Pair]:
    """The photos in pairs of different classes, each in one pair at most, drawn by a fixed seed.

    Both are brought to the same height. Raises `ImageError` for a photo that can't be read. The model has to see whole
    pictures: where it crops them, the border would not be where it is.
    """
    left = list(np.random.default_rng(_SEED).permutation(len(photos)))
    while left:
        first = photos[left.pop()]
        others = (place for place in reversed(range(len(left))) if photos[left[place]].class_id != first.class_id)
        if (place := next(others, None)) is None:
            return
        second = photos[left.pop(place)]
        pictures = [_upright(photo.path) for photo in (first, second)]
        widths = [picture.width for picture in pictures]
        together = Image.new("RGB", (sum(widths), _HEIGHT))
        together.paste(pictures[0], (0, 0))
        together.paste(pictures[1], (widths[0], 0))
        encoded = BytesIO()
        together.save(encoded, "PNG", compress_level=1)
        yield Pair(load_image(encoded.getvalue(), spec), (first.class_id, second.class_id), widths[0] / sum(widths))


def play(explain: Explain, pairs: Sequence[Pair], dataset: str) -> tuple[Metric, ...]:
    """Hits among the maps of all pairs, and among those of the pairs of which both classes are in the top five."""
    hits, recognised = [], []
    for start in tqdm(range(0, len(pairs), _BATCH), desc="explaining", unit=" batches", disable=None):
        batch = pairs[start : start + _BATCH]
        images = np.stack([pair.pixels for pair in batch])
        classes = np.array([pair.classes for pair in batch], np.int32)
        borders = np.array([pair.border for pair in batch])
        left, right = (explain(images, classes[:, side]) for side in (0, 1))
        sides = [_hottest(left.heatmaps) < borders, _hottest(right.heatmaps) > borders]  # False where there is none
        hits.append(np.stack(sides, axis=1))
        top = np.argsort(-left.probabilities, axis=1)[:, :_RECOGNISED]
        recognised.append((classes[:, :, None] == top[:, None]).any(axis=2).all(axis=1))
    hit, known = np.concatenate(hits), np.concatenate(recognised)
    metrics = [share("pointing", hit.ravel(), dataset)]
    if known.any():
        metrics.append(share("pointing_where_both_are_in_the_top_5", hit[known].ravel(), dataset))
    return tuple(metrics)


def by_saved_model(version: Path) -> Explain:
    """The version in TensorFlow. Raises `DataError` where it has no heat maps."""
    loaded = tf.saved_model.load(str(version))
    signature = loaded.signatures["explain"]
    if "heatmap" not in signature.structured_outputs:
        raise _without_heat_maps(version)

    def explain(images: Pixels, class_ids: npt.NDArray[np.int32]) -> Explained:
        found = loaded.signatures["explain"](images=tf.constant(images), class_ids=tf.constant(class_ids))
        return Explained(found["probabilities"].numpy(), found["heatmap"].numpy())

    return explain


def by_ir(version: Path) -> Explain:
    """The version in OpenVINO, in float32. Raises `DataError` where it has no heat maps."""
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
    compiled = ov.Core().compile_model(version / "openvino" / "model.xml", "CPU", hints)
    if not any("heatmap" in port.get_names() for port in compiled.outputs):
        raise _without_heat_maps(version)

    def explain(images: Pixels, class_ids: npt.NDArray[np.int32]) -> Explained:
        found = compiled({"images": images, "class_ids": class_ids})
        return Explained(found["probabilities"], found["heatmap"])

    return explain


def _upright(path: Path) -> Image.Image:
    picture = upright(open_image(path.read_bytes()), _LONGEST_SIDE)
    return picture.resize((max(1, round(picture.width * _HEIGHT / picture.height)), _HEIGHT), Image.Resampling.BICUBIC)


def _hottest(heatmaps: Numbers) -> npt.NDArray[np.float64]:
    """How far to the right the middle of the hottest place is, from 0 to 1; NaN where nothing is positive."""
    _, height, width = heatmaps.shape
    flat = heatmaps.reshape(-1, height * width)
    return np.where(flat.max(axis=1) > 0, (flat.argmax(axis=1) % width + 0.5) / width, np.nan)


def _without_heat_maps(version: Path) -> DataError:
    return DataError(f"{version} was exported before there were heat maps; `python -m training export` renews it")
