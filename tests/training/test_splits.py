"""Data sets split without overlap, and known by what they hold."""

import numpy as np
import pytest

from models.manifest import Label
from training.splits import DataError, Dataset, Split, split, spread


def _numbered(n: int) -> Split:
    """Pictures that carry their own number."""
    numbers = np.arange(n)
    images = np.zeros((n, 2, 2, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = numbers // 256, numbers % 256
    return Split(images, (numbers % 3).astype(np.int64))


def _numbers(split: Split) -> list[int]:
    return (split.images[:, 0, 0, 0].astype(int) * 256 + split.images[:, 0, 0, 1]).tolist()


def _dataset(n: int) -> Dataset:
    labels = tuple(Label(name=name) for name in "abc")
    return Dataset("numbers", "made up", labels, _numbered(n), _numbered(7))


def test_splits_share_no_picture_leave_none_out_and_keep_labels() -> None:
    splits = split(_dataset(1000), validation=10, calibration=200, decision=300)

    parts = (splits.train, splits.validation, splits.calibration, splits.decision)
    assert [len(part) for part in parts] == [490, 10, 200, 300]
    assert sorted(number for part in parts for number in _numbers(part)) == list(range(1000))
    for part in (*parts, splits.test):
        assert part.classes.tolist() == [number % 3 for number in _numbers(part)]
    assert _numbers(splits.test) == list(range(7))


def test_held_out_parts_are_drawn_at_random_but_always_alike() -> None:
    first, second = split(_dataset(1000), 10, 200, 300), split(_dataset(1000), 10, 200, 300)

    assert _numbers(first.decision) == _numbers(second.decision)
    assert _numbers(first.decision) != list(range(300))
    # A uniform draw of 300 from 0..999 has its mean within 4 standard errors of 499.5
    assert np.mean(_numbers(first.decision)) == pytest.approx(499.5, abs=4 * 289 / 300**0.5)


@pytest.mark.parametrize("n", [599, 600])
def test_something_must_be_left_to_train_on(n: int) -> None:
    with pytest.raises(DataError, match=f"numbers has {n} training pictures, 600 are to be held out"):
        split(_dataset(n), 100, 200, 300)

    assert len(split(_dataset(601), 100, 200, 300).train) == 1


def test_a_split_is_known_by_its_pixels_its_labels_and_their_order() -> None:
    whole = _numbered(5)
    pixel, classes = whole.images.copy(), whole.classes.copy()
    pixel[4, 1, 1, 2] = 1
    classes[0] = 2
    variants = [Split(pixel, whole.classes), Split(whole.images, classes), Split(whole.images[::-1], whole.classes)]

    records = [each.record() for each in (whole, *variants)]

    assert len({record.sha256 for record in records}) == 4
    assert [record.n for record in records] == [5] * 4
    assert _numbered(5).record() == records[0]


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0]), (3, [0, 4, 9]), (10, list(range(10))), (11, list(range(10)))]
)
def test_some_pictures_are_taken_from_all_over(count: int, expected: list[int]) -> None:
    chosen = spread(_numbered(10).images, count)

    assert _numbers(Split(chosen, np.zeros(len(chosen), np.int64))) == expected
