"""The pictures that are sent: made from the two of the tests, so that a run needs nothing else.

Made ones are crops of those two with other sizes, brightness and camera grain, as JPEG of 500x375 and about 108 KB,
like photos of Caltech-101. Each is kept only if the model is sure of its class, so that a wrong answer is a mistake of
the service and not of rounding.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from app.inference.engines.openvino import OpenVinoEngine
from models.preprocess import load_image
from models.repository import ModelRepository

ROOT = Path(__file__).parents[1]
SOURCES = (ROOT / "tests" / "pictures" / "espresso_cup.jpg", ROOT / "tests" / "pictures" / "cat.jpg")

PHOTO = (500, 375)
TINY = (32, 32)
TWELVE_MEGAPIXELS = (4000, 3000)

_QUALITY = 96
_GRAIN = 6.0  # standard deviation of the noise, of 255
_SURE_BY = 0.15  # the top class leads by at least so much


@dataclass(frozen=True)
class Picture:
    """A file, and the label that the model named puts first."""

    data: bytes
    label: str


def made(model: str, size: tuple[int, int], count: int, seed: int = 0) -> list[Picture]:
    """`count` pictures of `size` (width, height), and what the model says of each in float32."""
    return _with_labels(model, _variants(size, count, seed))[:count]


def _variants(size: tuple[int, int], count: int, seed: int) -> Iterator[bytes]:
    random = np.random.default_rng(seed)
    sources = [Image.open(path).convert("RGB") for path in SOURCES]
    for index in range(3 * count):
        source = sources[index % len(sources)]
        part = random.uniform(0.75, 1.0)
        width, height = source.width * part, source.height * part
        left, top = random.uniform(0, source.width - width), random.uniform(0, source.height - height)
        picture = source.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
        pixels = np.asarray(picture, np.float32) * random.uniform(0.8, 1.2)
        pixels += random.normal(0, _GRAIN, pixels.shape)
        buffer = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=_QUALITY)
        yield buffer.getvalue()


def _with_labels(model: str, files: Iterator[bytes]) -> list[Picture]:
    repository = ModelRepository(ROOT / "models")
    folder = repository.find(model)
    manifest = repository.read(folder)
    engine = OpenVinoEngine(folder, manifest, "f32")
    found = []
    for data in files:
        probabilities = engine.infer(load_image(data, manifest.input)[None])[0]
        second, first = np.argsort(probabilities)[-2:]
        if probabilities[first] - probabilities[second] >= _SURE_BY:
            found.append(Picture(data, manifest.labels[first].name))
    return found


def mean_bytes(pictures: Sequence[Picture]) -> float:
    return sum(len(picture.data) for picture in pictures) / len(pictures)
