"""Random changes to training pictures: small, different for each picture, and the same for the same seed."""

import numpy as np
import pytest
import tensorflow as tf

from training.augment import augmenter


def _discs(n: int) -> tf.Tensor:
    """White discs of radius 5 on black, two pixels right of the centre, float32 [n, 28, 28, 3]."""
    rows, columns = np.mgrid[0:28, 0:28]
    disc = 255.0 * ((rows - 13.5) ** 2 + (columns - 15.5) ** 2 <= 25.0)
    return tf.constant(np.broadcast_to(disc[None, :, :, None], (n, 28, 28, 3)).astype("float32"))


def _centres(images: tf.Tensor) -> np.ndarray:
    mass = images.numpy()[..., 0]
    weights = mass / mass.sum(axis=(1, 2), keepdims=True)
    return np.stack([(weights * axis).sum(axis=(1, 2)) for axis in np.mgrid[0:28, 0:28]], axis=1)


def test_no_augmentation_leaves_pictures_as_they_are() -> None:
    images = _discs(2)

    assert augmenter("none", 0)(images) is images


def test_pictures_keep_their_shape_type_and_range() -> None:
    changed = augmenter("shift_rotate_zoom", 0)(_discs(64))

    assert (changed.shape, changed.dtype) == ((64, 28, 28, 3), tf.float32)
    assert changed.numpy().min() >= 0.0
    assert changed.numpy().max() <= 255.001


def test_shifts_stay_near_a_tenth_of_the_picture_in_every_direction() -> None:
    shifts = _centres(augmenter("shift_rotate_zoom", 0)(_discs(256))) - _centres(_discs(1))

    # 2.8 pixels of translation; turning and scaling move a disc that is 2 pixels off the centre by less than 0.8
    assert abs(shifts).max() < 3.6
    assert shifts.min(axis=0).max() < -1.5
    assert shifts.max(axis=0).min() > 1.5
    assert abs(shifts.mean(axis=0)).max() < 0.5


@pytest.mark.parametrize(("seeds", "same"), [((3, 3), True), ((3, 4), False)])
def test_the_seed_decides_the_changes(seeds: tuple[int, int], same: bool) -> None:
    first, second = (augmenter("shift_rotate_zoom", seed)(_discs(4)).numpy() for seed in seeds)

    assert np.array_equal(first, second) is same


def test_an_input_pipeline_changes_each_batch_anew() -> None:
    pipeline = tf.data.Dataset.from_tensors(_discs(4)).repeat(3).map(augmenter("shift_rotate_zoom", 2**31 - 1))

    batches = [_centres(batch) for batch in pipeline]

    assert abs(batches[0] - batches[1]).max() > 0.1
    assert abs(batches[1] - batches[2]).max() > 0.1
