"""Bytes of a picture -> uint8 [height, width, 3] as an input spec says: the one pixel path of training and serving.

Pictures are taken as people have them: any EXIF orientation, grey, palette, CMYK, 16-bit, transparent (over white),
animated (the first frame). Colour profiles are ignored, as they are in the data that networks are trained on.
"""

import io
import math

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from models.manifest import InputSpec

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
DEFAULT_MAX_PIXELS = 50_000_000

# One limit decides, that of the caller; Pillow's own only warns, and once for the whole process.
Image.MAX_IMAGE_PIXELS = None

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

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
    """The header claims more pixels than allowed; nothing was decoded."""


def load_image(data: bytes, spec: InputSpec, max_pixels: int = DEFAULT_MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Decode a picture and bring it to the model's input.

    Returns uint8 [spec.height, spec.width, 3], RGB. Raises an `ImageError`. `max_pixels` is compared with the
    header's width times height before anything is decoded.
    """
    image = _open(data, max_pixels)
    try:
        image.draft(image.mode, _needed_size(image, spec))
        image.load()
        pixels = _render(image, spec)
    except MemoryError as error:
        raise TooManyPixels(f"the picture of {image.width} x {image.height} pixels does not fit in memory") from error
    except _DECODER_ERRORS as error:
        raise UnreadableImage(f"the {image.format} picture is damaged or cut short: {error}") from error
    return np.asarray(pixels, dtype=np.uint8)


def _open(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise UnreadableImage("the picture is empty: 0 bytes came")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except _DECODER_ERRORS as error:
        if data.startswith(_SIGNATURES):
            raise UnreadableImage(f"the picture's header is damaged or cut short ({len(data)} bytes came)") from error
        raise UnsupportedImage(f"expected one of {', '.join(FORMATS)}; the data begins with {data[:12]!r}") from error
    if image.width * image.height > max_pixels:
        raise TooManyPixels(
            f"the picture has {image.width} x {image.height} pixels, the limit is {max_pixels:,} pixels in all"
        )
    return image


def _needed_size(image: Image.Image, spec: InputSpec) -> tuple[int, int]:
    """The smallest size, as stored, from which the target can be cut without enlarging.

    JPEG's decoder takes the nearest DCT scale (1/2, 1/4, 1/8) above it.
    """
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
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or floating point to 8 bits, by the range of its type.

    Pillow reads 16-bit files as `I;16` or `I`, and its own conversion would clip them. A wider range than 16 bits
    is scaled by its maximum; floating point counts as 0 to 1, or as 0 to its maximum where that is more.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    full_scale = 1.0 if image.mode == "F" else 65535.0
    scaled = values / max(full_scale, float(values.max(initial=0.0))) * 255.0
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return white.convert("RGB")
