"""Hashes that stay close where a picture is copied, and the pairs found by them."""

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from training.duplicates import near_duplicates, perceptual_hash


def _waves(height: int, width: int, seed: int) -> npt.NDArray[np.uint8]:
    """Sums of a few slow waves, as photos are; the same picture at every size."""
    random = np.random.default_rng(seed)
    y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    grey = sum(
        random.normal() * np.cos(np.pi * (v * y + u * x) + random.uniform(0, 6)) for v in range(6) for u in range(6)
    )
    return np.repeat(np.clip(128 + 15 * grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _distance(a: np.uint64, b: np.uint64) -> int:
    return int(np.bitwise_count(a ^ b))


@pytest.mark.parametrize(("size", "within"), [((32, 32), 4), ((33, 47), 6), ((100, 77), 4), ((500, 300), 4)])
def test_a_picture_has_nearly_one_hash_at_all_sizes(size: tuple[int, int], within: int) -> None:
    for seed in range(10):
        hashed = perceptual_hash(_waves(*size, seed))
        assert isinstance(hashed, np.uint64)
        assert _distance(hashed, perceptual_hash(_waves(224, 224, seed))) <= within


def test_half_the_frequencies_exceed_their_median() -> None:
    for seed in range(10):
        assert int(np.bitwise_count(perceptual_hash(_waves(64, 64, seed)))) == pytest.approx(32, abs=3)


def test_copies_are_close_and_other_pictures_are_far() -> None:
    for seed in range(20):
        pixels = _waves(224, 224, seed)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=40)
        hashed = perceptual_hash(pixels)
        assert _distance(hashed, perceptual_hash(np.asarray(Image.open(file)))) <= 4
        assert _distance(hashed, perceptual_hash(pixels // 2 + 60)) <= 4
        assert _distance(hashed, perceptual_hash(pixels[:, ::-1])) > 16
        assert _distance(hashed, perceptual_hash(_waves(224, 224, seed + 100))) > 16


def test_bits_stand_for_frequencies_from_slow_to_fast() -> None:
    """The first bit is the mean, the second the slowest wave along the width, the ninth that along the height."""
    ramp = np.repeat(np.linspace(255, 0, 64).astype(np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)

    assert int(perceptual_hash(ramp)) >> 62 == 0b11
    assert int(perceptual_hash(ramp[:, ::-1])) >> 62 == 0b10
    assert int(perceptual_hash(ramp.transpose(1, 0, 2))) >> 55 == 0b1_0000_0001


def test_flat_pictures_have_one_hash_not_noise() -> None:
    hashes = {int(perceptual_hash(np.full((100, 77, 3), value, np.uint8))) for value in (1, 100, 255)}
    assert hashes == {1 << 63}


def test_pairs_are_those_of_every_comparison_in_order() -> None:
    random = np.random.default_rng(0)
    a, b = (random.integers(0, 2**64, n, dtype=np.uint64) for n in (700, 1500))
    b[[3, 1499, 20]] = a[699], a[0] ^ np.uint64(0b1111 << 60), a[0] ^ np.uint64(0b11111)
    b[7] = a[699] ^ np.uint64(1)

    assert near_duplicates(a, b) == [(0, 1499), (699, 3), (699, 7)]
    assert near_duplicates(a, b, distance=5) == [(0, 20), (0, 1499), (699, 3), (699, 7)]
    every = [(i, j) for i in range(40) for j in range(60) if _distance(a[i], b[j]) <= 24]
    assert near_duplicates(a[:40], b[:60], distance=24) == every
    assert len(every) > 20


def test_nothing_is_near_to_nothing() -> None:
    some, none = np.arange(3, dtype=np.uint64), np.array([], np.uint64)
    assert near_duplicates(some, none) == near_duplicates(none, some) == near_duplicates(none, none) == []
