"""Pictures as data: URIs: thumbnails, mosaics of small pictures, and what they show of a network's inside."""

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import keras
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from PIL import Image

from training.plots import data_uri

_COLUMNS = 8
_GAP = 3
_GAP_INDEX = 255
_MOST_FILTERS = 64
_MOST_MAPS = 32
# What may stand between a convolution and the end of its block
_BLOCK = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.Dropout,
)
_THUMBNAIL = 160
_PIXELATED_BELOW = 65

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]


class Picture(NamedTuple):
    """A data: URI and the size in pixels. `pixelated`: too small to be smoothed when shown larger."""

    uri: str
    width: int
    height: int
    pixelated: bool


class Shown(NamedTuple):
    """A picture of the network's inside with its heading and what it shows."""

    title: str
    text: str
    picture: Picture


def photo(image: Pixels) -> Picture:
    """uint8 [H, W, 3] as a thumbnail of at most 160 pixels: JPEG, or PNG where it is small already."""
    picture = Image.fromarray(image)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    small = max(picture.size) < _PIXELATED_BELOW
    return _picture(picture, "PNG" if small else "JPEG", pixelated=small)


def mosaic(tiles: Floats, side: int, *, palette: str = "gray") -> Picture:
    """float [n, h, w] in a palette, or [n, h, w, 3] as RGB, each tile contrast-stretched and about `side` long."""
    height, width = _fit(tiles.shape[1], tiles.shape[2], side)
    columns, rows = min(_COLUMNS, len(tiles)), math.ceil(len(tiles) / _COLUMNS)
    size = (rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, *tiles.shape[3:])
    canvas = np.full(size, 128 if tiles.ndim == 4 else _GAP_INDEX, dtype=np.uint8)
    how = Image.Resampling.NEAREST if width >= tiles.shape[2] else Image.Resampling.BOX
    for index, tile in enumerate(tiles):
        top, left = (
            (length + _GAP) * place for length, place in zip((height, width), divmod(index, columns), strict=True)
        )
        resized = Image.fromarray(_stretch(tile)).resize((width, height), how)
        canvas[top : top + height, left : left + width] = resized
    picture = Image.fromarray(canvas)
    if tiles.ndim == 3:
        picture.putpalette(_palette(palette))
    return _picture(picture, "PNG", pixelated=True)


def shown(network: keras.Model, image: Pixels | None) -> Iterator[Shown]:
    """Filters of the first convolution that looks at more than one pixel.

    And what comes out of its block and of the last one for `image`, uint8 [H, W, 3].
    """
    block = _first_block(network)
    if block:
        yield _filters(block[0])
    if image is None:
        return
    first, outputs = _outputs(network, block[-1] if block else None, image[None].astype(np.float32))
    yield Shown("A test picture", "The first one, as it goes into the network.", photo(image))
    if first is not None and first.ndim == 4:
        yield _maps("After the first convolution block", first[0])
    last = outputs.get("features") if isinstance(outputs, Mapping) else None
    if last is not None and len(last.shape) == 4:
        yield _maps("After the last convolution block", _array(last)[0])


def _filters(layer: keras.layers.Layer) -> Shown:
    kernel = _array(layer.kernel)
    height, width, channels, n = kernel.shape
    which = f"All {n}" if n <= _MOST_FILTERS else f"The first {_MOST_FILTERS} of {n}"
    text = f"{which} filters of {height}x{width} pixels in '{layer.name}', stretched in contrast"
    tiles = kernel.transpose(3, 0, 1, 2)[:_MOST_FILTERS]
    if channels != 3:
        tiles = tiles.mean(axis=3)
    text += {1: ".", 3: ", as colours."}.get(channels, f", means over {channels} channels.")
    return Shown("First filters", text, mosaic(tiles, 48))


def _maps(title: str, features: Floats) -> Shown:
    """Of float [h, w, channels] those that vary most."""
    height, width, n = features.shape
    liveliest = np.argsort(-features.std(axis=(0, 1)), kind="stable")[:_MOST_MAPS]
    which = f"All {n} channels" if n <= _MOST_MAPS else f"The {_MOST_MAPS} of {n} channels that vary most"
    text = f"{which}, {height}x{width} pixels each; brighter is more."
    return Shown(title, text, mosaic(features[..., liveliest].transpose(2, 0, 1), 72, palette="viridis"))


def _first_block(network: keras.Model) -> list[keras.layers.Layer]:
    """The first convolution larger than one pixel, in nested models too, and what belongs to it; or nothing."""
    layers = network.layers
    for at, layer in enumerate(layers):
        if isinstance(layer, keras.Model):
            if block := _first_block(layer):
                return block
        elif isinstance(layer, keras.layers.Conv2D) and max(layer.kernel_size) > 1:
            end = next((i for i in range(at + 1, len(layers)) if not isinstance(layers[i], _BLOCK)), len(layers))
            return list(layers[at:end])
    return []


def _outputs(network: keras.Model, layer: keras.layers.Layer | None, pictures: Floats) -> tuple[Floats | None, object]:
    """What `layer` hands on and what the network does. Listening works for nested models, cutting the graph doesn't."""
    if layer is None:
        return None, network(pictures, training=False)
    with _listening(layer) as heard:
        outputs = network(pictures, training=False)
    return _array(heard[0]) if heard else None, outputs


@contextmanager
def _listening(layer: keras.layers.Layer) -> Iterator[list[keras.KerasTensor]]:
    heard, call = [], layer.call

    def listen(*arguments: object, **options: object) -> keras.KerasTensor:
        heard.append(call(*arguments, **options))
        return heard[-1]

    layer.call = listen
    try:
        yield heard
    finally:
        del layer.call


def _array(tensor: keras.KerasTensor) -> Floats:
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")))


def _palette(name: str) -> bytes:
    """255 colours of a colour map, and grey for the gaps."""
    colours = mpl.colormaps[name](np.linspace(0, 1, _GAP_INDEX))[:, :3]
    return bytes((255 * colours).round().astype(np.uint8).tobytes()) + bytes((128, 128, 128))


def _stretch(tile: Floats) -> Pixels:
    finite = np.nan_to_num(tile.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = finite.min(), finite.max()
    stretched: Pixels = (
        ((finite - low) / (high - low if high > low else 1.0) * (_GAP_INDEX - 1)).round().astype(np.uint8)
    )
    return stretched


def _fit(height: int, width: int, side: int) -> tuple[int, int]:
    """Enlarged by a whole number, so that all pixels of a tile are alike, or made smaller."""
    longest = max(height, width)
    if longest <= side:
        return height * (side // longest), width * (side // longest)
    return max(1, round(height * side / longest)), max(1, round(width * side / longest))


def _picture(picture: Image.Image, kind: str, *, pixelated: bool) -> Picture:
    stream = io.BytesIO()
    picture.save(stream, kind, optimize=True, quality=80)
    return Picture(data_uri(f"image/{kind.lower()}", stream.getvalue()), *picture.size, pixelated)
