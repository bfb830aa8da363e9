"""Photos that are there twice: hashes of what a picture looks like, and pairs of hashes that are nearly the same."""

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dctn

_PAIRS_AT_A_TIME = 2**18


def perceptual_hash(pixels: npt.NDArray[np.uint8]) -> np.uint64:
    """The 64-bit pHash of uint8 [H, W, 3], H and W at least 32: which of 8 x 8 low frequencies exceed their median.

    Zauner, Implementation and benchmarking of perceptual image hash functions, 2010, section 3.2.1; but grey of
    32 x 32 comes from a box filter, and the frequencies start at 0, which finds cropped copies better.
    """
    grey = Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.BOX)
    # Rounded, to 1/16 of a grey level: where a frequency is missing altogether, its sign must not be left to chance
    low = np.rint(dctn(np.asarray(grey, dtype=np.float64), norm="ortho")[:8, :8])
    return np.uint64(np.packbits(low > np.median(low)).view(">u8")[0])


def near_duplicates(
    hashes_a: npt.NDArray[np.uint64], hashes_b: npt.NDArray[np.uint64], distance: int = 4
) -> list[tuple[int, int]]:
    """Index pairs, in order, of the hashes uint64 [N] and [M] that differ in at most `distance` bits.

    Copies of half the size or of JPEG quality 40 differ in no more than 4 bits, unrelated photos hardly ever.
    """
    rows = max(1, _PAIRS_AT_A_TIME // max(1, len(hashes_b)))
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(hashes_a), rows):
        near = np.bitwise_count(hashes_a[start : start + rows, None] ^ hashes_b) <= distance
        if near.any():  # seldom, and argwhere takes longer than all the rest
            pairs.extend((start + int(a), int(b)) for a, b in np.argwhere(near))
    return pairs
