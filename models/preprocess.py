"""Bytes of a picture -> uint8 [height, width, 3] as an input spec says: the one pixel path of training and serving.

Pictures are taken as people have them: any EXIF orientation, grey, palette, CMYK, 16-bit, transparent (over white),
animated (the first frame). Colour profiles are ignored, as they are in the data that networks are trained on.
"""

import io
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import (
    ExifTags,
    Image,
    TiffImagePlugin,
    WebPImagePlugin,  # noqa: F401  it registers itself; else the first such picture has Pillow import all its plugins
)

from models.manifest import InputSpec

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
DEFAULT_MAX_PIXELS = 64_000_000

# The limit of the caller decides. Pillow's own, an error above twice this number, has to stay behind it: some pictures
# take their memory while they are opened, before anyone can look at their size (43 bytes of GIF took 900 MB).
_CEILING = 2**28
Image.MAX_IMAGE_PIXELS = _CEILING // 2

# Pillow's remarks on odd metadata are of no use to who runs this, and tear the JSON lines of a log.
warnings.filterwarnings("ignore", module=r"PIL\.")

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = frozenset((5, 6, 7, 8))  # orientations that swap height and width

# What Pillow's decoders raise on damaged input, besides OSError
_DECODER_ERRORS = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, ArithmeticError)


class ImageError(ValueError):
    """A picture that can't be used; the message says what was expected and what came."""


class UnreadableImage(ImageError):
    """Empty, damaged or cut short."""


class UnsupportedImage(ImageError):
    """Not a picture, or in a format that is not read here."""


class TooManyPixels(ImageError):
    """The header claims more pixels than allowed, and nothing was decoded; or memory ran out."""


class Box(NamedTuple):
    """A part of a picture, its sides as fractions of the picture's width and height."""

    left: float
    top: float
    right: float
    bottom: float


def load_image(data: bytes, spec: InputSpec, max_pixels: int = DEFAULT_MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Decode a picture and bring it to the model's input.

    Returns uint8 [spec.height, spec.width, 3], RGB. Raises an `ImageError`. `max_pixels`, at most 2**28, is compared
    with the header's width times height before anything is decoded.
    """
    return to_pixels(open_image(data, max_pixels), spec)


def open_image(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """The first half of `load_image`: reads the header, and compares its size with the limit."""
    if not data:
        raise UnreadableImage("the picture is empty: 0 bytes came")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = min(max_pixels, _CEILING)
        raise TooManyPixels(f"the picture's header claims more than the limit of {limit:,} pixels in all") from error
    except _DECODER_ERRORS as error:
        if data.startswith(_SIGNATURES) or (data.startswith(b"RIFF") and data[8:12] == b"WEBP"):
            raise UnreadableImage(f"the picture's header is damaged or cut short ({len(data)} bytes came)") from error
        raise UnsupportedImage(f"expected one of {', '.join(FORMATS)}; the data begins with {data[:12]!r}") from error
    if image.width * image.height > max_pixels:
        raise TooManyPixels(
            f"the picture has {image.width} x {image.height} pixels, the limit is {max_pixels:,} pixels in all"
        )
    if (tile := _tile_pixels(image)) > max_pixels:
        raise TooManyPixels(f"the picture is stored in tiles of {tile:,} pixels, the limit is {max_pixels:,}")
    return image


def to_pixels(image: Image.Image, spec: InputSpec) -> npt.NDArray[np.uint8]:
    """The second half of `load_image`, for a picture that has just been opened."""
    with _within_memory(image):
        _decode(image, lambda: _needed_size(image, spec))
        return np.asarray(_render(image, spec), dtype=np.uint8)


def seen(image: Image.Image, spec: InputSpec) -> Box:
    """The part of the upright picture that became the model's input, after `to_pixels`."""
    if spec.resize != "crop":
        return Box(0.0, 0.0, 1.0, 1.0)
    width, height = _upright_size(image)
    left, top, right, bottom = _centre_box(width, height, spec.width / spec.height, spec.crop_fraction)
    return Box(left / width, top / height, right / width, bottom / height)


def upright(image: Image.Image, longest_side: int) -> Image.Image:
    """The whole of a picture that has just been opened, as people see it: RGB, no side longer than that in pixels."""
    with _within_memory(image):
        _decode(image, lambda: _fitted(image.size, longest_side))
        size, orientation = _fitted(image.size, longest_side), _orientation(image)
        image = _in_full_colour(image)
        if image.size != size:
            image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
        return _finished(image, orientation)


def _fitted(size: tuple[int, int], longest_side: int) -> tuple[int, int]:
    scale = min(1.0, longest_side / max(size))
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height


@contextmanager
def _within_memory(image: Image.Image) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise TooManyPixels(f"the picture of {image.width} x {image.height} pixels does not fit in memory") from error


def _upright_size(image: Image.Image) -> tuple[int, int]:
    return (image.height, image.width) if _orientation(image) in _LYING else image.size


def _tile_pixels(image: Image.Image) -> int:
    """Pixels of one tile of a tiled TIFF, 0 of all else: a tile is decoded whole, however small the picture."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 0
    width, height = (image.tag_v2.get(tag, 0) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH))
    return width * height if isinstance(width, int) and isinstance(height, int) else 0


def _decode(image: Image.Image, needed: Callable[[], tuple[int, int]]) -> None:
    """Decode all of it, a JPEG at the nearest DCT scale (1/2, 1/4, 1/8) above the size needed."""
    try:
        if image.format in ("JPEG", "MPO"):
            image.draft(image.mode, needed())
        # Before anyone asks a PNG for its orientation: that loads it too, and a second load hides what the first found
        image.load()
    except _DECODER_ERRORS as error:
        raise UnreadableImage(f"the {image.format} picture is damaged or cut short: {error}") from error


def _needed_size(image: Image.Image, spec: InputSpec) -> tuple[int, int]:
    """The smallest size, as stored, from which the target can be cut without enlarging."""
    height, width = spec.height, spec.width
    if _orientation(image) in _LYING:
        height, width = width, height
    return math.ceil(width / spec.crop_fraction), math.ceil(height / spec.crop_fraction)


def _render(image: Image.Image, spec: InputSpec) -> Image.Image:
    """Colours, then crop and resize in one step, then orientation: few pixels are left to turn by then."""
    orientation = _orientation(image)
    height, width = (spec.width, spec.height) if orientation in _LYING else (spec.height, spec.width)
    box = (0.0, 0.0, float(image.width), float(image.height))
    if spec.resize == "crop":
        box = _centre_box(image.width, image.height, width / height, spec.crop_fraction)
    image = _in_full_colour(image).resize((width, height), _RESAMPLING[spec.interpolation], box=box, reducing_gap=2.0)
    return _finished(image, orientation)


def _finished(image: Image.Image, orientation: int) -> Image.Image:
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    return _over_white(image) if image.mode == "RGBA" else image


def _centre_box(width: int, height: int, aspect: float, fraction: float) -> tuple[float, float, float, float]:
    """The largest centred box of the given aspect ratio (width / height), scaled by `fraction`."""
    box_width = min(width, height * aspect) * fraction
    box_height = min(height, width / aspect) * fraction
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return left, top, left + box_width, top + box_height


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8. Broken EXIF data must not cost the picture; TIFF is turned by its decoder."""
    if image.format == "TIFF":
        return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises nearly anything on malformed EXIF
        return 1


def _in_full_colour(image: Image.Image) -> Image.Image:
    """RGB, or RGBA where there is transparency."""
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bit(image)
    if image.mode == "La":  # grey multiplied by its alpha: Pillow knows but one way from there
        image = image.convert("LA")
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or floating point to 8 bits, by the range of its type.

    Pillow reads 16-bit files as `I;16` or `I`, and its own conversion would clip them. A wider range than 16 bits
    is scaled by its maximum; floating point counts as 0 to 1, or as 0 to its maximum where that is more.
    """
    values = np.array(image, dtype=np.float32)  # and in place from here: 50 megapixels would be 400 MB a step
    np.nan_to_num(values, copy=False, posinf=0.0, neginf=0.0)
    transparent = values == image.info["transparency"] if isinstance(image.info.get("transparency"), int) else None
    full_scale = 1.0 if image.mode == "F" else 65535.0
    values *= 255.0 / max(full_scale, float(values.max(initial=0.0)))
    np.clip(np.rint(values, out=values), 0, 255, out=values)
    grey = Image.fromarray(values.astype(np.uint8))
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(transparent, 0, 255).astype(np.uint8)))
    return grey


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return white.convert("RGB")
