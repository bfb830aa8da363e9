"""Random changes to training pictures: small, different for each picture, and the same for the same seed."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from training.augment import augmenter
from training.recipe import Recipe


def _recipe(augmentation: str, **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "model": "m", "description": "", "dataset": "mnist", "architecture": "simple", "epochs": 2, "batch_size": 8,
        "input": {"height": 28, "width": 28}, "learning_rate": 0.05, "augmentation": augmentation,
    }  # fmt: skip
    return Recipe.model_validate({**values, **changes})


def _changed(images: Any, augmentation: str, epoch: int = 0, rows: Any = None, **changes: Any) -> np.ndarray:
    """The pictures as that epoch shows them; unless rows are given, they are the first ones."""
    rows = tf.range(len(images), dtype=tf.int64) if rows is None else tf.constant(rows, tf.int64)
    change = augmenter(_recipe(augmentation, **changes), examples=1000)
    result: np.ndarray = change(tf.constant(images, tf.float32), rows, tf.constant(epoch, tf.int64)).numpy()
    return result


def _discs(n: int) -> np.ndarray:
    """White discs of radius 5 on black, two pixels right of the centre, float32 [n, 28, 28, 3]."""
    rows, columns = np.mgrid[0:28, 0:28]
    disc = 255.0 * ((rows - 13.5) ** 2 + (columns - 15.5) ** 2 <= 25.0)
    return np.broadcast_to(disc[None, :, :, None], (n, 28, 28, 3)).astype("float32")


def _noise(n: int, height: int = 7, width: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3)).astype("float32")


def _centres(images: np.ndarray) -> np.ndarray:
    mass = images[..., 0]
    weights = mass / mass.sum(axis=(1, 2), keepdims=True)
    return np.stack([(weights * axis).sum(axis=(1, 2)) for axis in np.mgrid[0:28, 0:28]], axis=1)


def _offset(picture: np.ndarray, original: np.ndarray, shift: int = 2) -> tuple[bool, int, int]:
    """Whether it was mirrored, and which window of the padded picture it is."""
    height, width, _ = original.shape
    for mirrored in (False, True):
        side = original[:, ::-1] if mirrored else original
        padded = np.pad(side, [(shift, shift), (shift, shift), (0, 0)], mode="reflect")
        for down in range(2 * shift + 1):
            for right in range(2 * shift + 1):
                if np.array_equal(padded[down : down + height, right : right + width], picture):
                    return mirrored, down, right
    raise AssertionError("no window of the padded picture")


def test_no_augmentation_leaves_pictures_as_they_are() -> None:
    np.testing.assert_array_equal(_changed(_noise(3), "none"), _noise(3))


def test_pictures_keep_their_shape_type_and_range() -> None:
    changed = _changed(_discs(64), "shift_rotate_zoom")

    assert (changed.shape, changed.dtype) == ((64, 28, 28, 3), np.float32)
    assert changed.min() >= 0.0
    assert changed.max() <= 255.001


def test_shifts_stay_near_a_tenth_of_the_picture_in_every_direction() -> None:
    shifts = _centres(_changed(_discs(256), "shift_rotate_zoom")) - _centres(_discs(1))

    # 2.8 pixels of translation; turning and scaling move a disc that is 2 pixels off the centre by 1 at most
    assert abs(shifts).max() < 3.9
    assert shifts.min(axis=0).max() < -1.5
    assert shifts.max(axis=0).min() > 1.5
    assert abs(shifts.mean(axis=0)).max() < 0.5


def test_an_input_pipeline_changes_each_batch_anew() -> None:
    change = augmenter(_recipe("shift_rotate_zoom", seed=2**31 - 1), examples=12)
    rows = tf.data.Dataset.range(12).batch(4)

    batches = [_centres(batch.numpy()) for batch in rows.map(lambda r: change(tf.constant(_discs(4)), r, 0))]

    assert abs(batches[0] - batches[1]).max() > 0.1
    assert abs(batches[1] - batches[2]).max() > 0.1


def test_two_epochs_in_a_row_show_both_sides_of_every_picture() -> None:
    sides = np.array(
        [[_offset(a, b)[0] for a, b in zip(_changed(_noise(40), "flip_crop", e), _noise(40), strict=True)]
         for e in range(4)]
    )  # fmt: skip

    assert (sides[1:] != sides[:-1]).all()
    # and about half of them are mirrored in each
    assert 8 < sides[0].sum() < 32


def test_a_picture_has_the_same_side_wherever_it_stands_in_its_epoch() -> None:
    images, order = _noise(20), np.random.default_rng(1).permutation(20)

    before = [_offset(a, b)[0] for a, b in zip(_changed(images, "flip_crop"), images, strict=True)]
    after = _changed(images[order], "flip_crop", rows=order)

    assert [_offset(a, b)[0] for a, b in zip(after, images[order], strict=True)] == [before[row] for row in order]


@pytest.mark.parametrize("shift", [0, 2, 4])
def test_a_shifted_picture_is_a_window_of_the_reflected_one_and_all_windows_come(shift: int) -> None:
    images = _noise(600)

    changed = _changed(images, "flip_crop", shift=shift)
    offsets = [_offset(a, b, shift)[1:] for a, b in zip(changed, images, strict=True)]

    assert len(set(offsets)) == (2 * shift + 1) ** 2
    assert np.mean(offsets, axis=0) == pytest.approx([shift, shift], abs=0.35)


@pytest.mark.parametrize("side", [1, 4, 7])
def test_cutout_greys_a_square_that_lies_inside_and_nothing_else(side: int) -> None:
    images = _noise(200)

    grey = _changed(images, "none", cutout=side) != images

    assert (_changed(images, "none", cutout=side)[grey] == 127.5).all()
    places = set()
    for picture in grey.all(axis=3):
        rows, columns = np.flatnonzero(picture.any(axis=1)), np.flatnonzero(picture.any(axis=0))
        assert (len(rows), len(columns)) == (side, side)
        assert picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        places.add((rows[0], columns[0]))
    # everywhere in 7 x 9 pixels
    assert len(places) > 0.8 * (8 - side) * (10 - side)
    assert grey.sum() == 200 * 3 * side**2


@pytest.mark.parametrize("augmentation", ["shift_rotate_zoom", "flip_crop", "none"])
def test_the_seed_decides_the_changes(augmentation: str) -> None:
    first, same, other = (_changed(_discs(8), augmentation, cutout=9, seed=seed) for seed in (3, 3, 4))

    np.testing.assert_array_equal(same, first)
    assert (other != first).any()


@pytest.mark.parametrize(("augmentation", "cutout"), [("flip_crop", 0), ("shift_rotate_zoom", 0), ("none", 3)])
def test_the_epoch_decides_the_changes_and_so_does_the_batch(augmentation: str, cutout: int) -> None:
    images = _noise(8)
    first = _changed(images, augmentation, 5, cutout=cutout)

    np.testing.assert_array_equal(_changed(images, augmentation, 5, cutout=cutout), first)
    assert (_changed(images, augmentation, 7, cutout=cutout) != first).any()
    assert (_changed(images, augmentation, 5, rows=range(8, 16), cutout=cutout) != first).any()
