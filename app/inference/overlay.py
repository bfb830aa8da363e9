"""A heat map laid over its picture."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.preprocess import Box, open_image, upright

LONGEST_SIDE = 1024
_OPACITY = 0.5  # where the heat is greatest

# Ten colours of inferno, from 0 to 1: even in lightness for the eye, as printed in grey (van der Walt and Smith 2015)
_INFERNO = np.array(
    [
        (0, 0, 4), (27, 12, 66), (75, 12, 107), (120, 28, 109), (165, 44, 96),
        (207, 68, 70), (237, 105, 37), (251, 154, 6), (247, 208, 60), (252, 255, 164),
    ],
    np.float32,
)  # fmt: skip


def overlay(data: bytes, heat: npt.NDArray[np.float32], region: Box, max_pixels: int) -> bytes:
    """PNG of the picture as people see it, its longest side at most 1024 pixels, with heat float32 [h, w] over it.

    `heat` is from 0 to 1 and covers `region`, which is in fractions of the picture's sides. Raises an `ImageError`.
    """
    picture = np.asarray(upright(open_image(data, max_pixels), LONGEST_SIDE), np.float32)
    height, width, _ = picture.shape
    left, right = (round(side * width) for side in (region.left, region.right))
    top, bottom = (round(side * height) for side in (region.top, region.bottom))
    size = max(1, right - left), max(1, bottom - top)
    smooth = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    seen = picture[top : top + size[1], left : left + size[0]]
    seen += (colours(smooth) - seen) * (_OPACITY * smooth[..., None])
    buffer = io.BytesIO()
    Image.fromarray(np.rint(picture).astype(np.uint8)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def colours(heat: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """RGB from 0 to 255, float32 [..., 3], of heat from 0 to 1."""
    places = np.linspace(0, 1, len(_INFERNO))
    channels = [np.interp(heat, places, channel) for channel in _INFERNO.T]
    return np.stack(channels, axis=-1).astype(np.float32)
