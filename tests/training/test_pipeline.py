"""The order of training pictures: each once an epoch, and the same wherever a run begins."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from training import pipeline
from training.recipe import Recipe
from training.splits import Split


def _recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "model": "m", "description": "", "dataset": "mnist", "architecture": "simple", "epochs": 2, "batch_size": 8,
        "input": {"height": 4, "width": 4}, "learning_rate": 0.05,
    }  # fmt: skip
    return Recipe.model_validate({**values, **changes})


def _numbered(n: int) -> Split:
    """Pictures whose every pixel is their own number, of class 0, 1, 2, 0, 1, …"""
    numbers = np.arange(n)
    images = np.broadcast_to(numbers[:, None, None, None], (n, 4, 4, 3)).astype(np.uint8)
    return Split(images, (numbers % 3).astype(np.int64))


def _numbers(batches: tf.data.Dataset, count: int) -> list[list[int]]:
    """The numbers of the pictures in the first batches."""
    return [images[:, 0, 0, 0].astype(int).tolist() for images, _ in batches.take(count).as_numpy_iterator()]


@pytest.mark.parametrize(
    ("size", "pictures"), [((28, 28), 256), ((32, 32), 256), ((224, 224), 83), ((195, 396), 54), ((4000, 3000), 1)]
)
def test_what_is_evaluated_at_once_fits_into_memory(size: tuple[int, int], pictures: int) -> None:
    assert pipeline.evaluation_batch(*size) == pictures


def test_every_picture_is_seen_once_an_epoch_but_for_what_is_left_over() -> None:
    batches = pipeline.batches(_numbered(21), _recipe(), batch_size=8, depth=3)

    found = _numbers(batches, 8)

    assert pipeline.steps(21, 8) == 2
    assert [len(batch) for batch in found] == [8] * 8
    epochs = [{*found[2 * epoch], *found[2 * epoch + 1]} for epoch in range(4)]
    assert [len(epoch) for epoch in epochs] == [16] * 4
    # others are left over each time
    assert set().union(*epochs) == set(range(21))


def test_pictures_come_as_they_are_with_their_own_class_as_one_hot() -> None:
    (images, classes), *_ = pipeline.batches(_numbered(21), _recipe(), 21, depth=4).take(1).as_numpy_iterator()

    numbers = images[:, 0, 0, 0].astype(int)
    assert (images.dtype, images.shape) == (np.float32, (21, 4, 4, 3))
    assert (images == numbers[:, None, None, None]).all()
    assert classes.dtype == np.float32
    np.testing.assert_array_equal(classes, np.eye(4)[numbers % 3])


def test_each_epoch_has_its_own_order_and_each_seed_its_own_orders() -> None:
    first, again, other = (
        _numbers(pipeline.batches(_numbered(21), _recipe(seed=seed), 21, depth=3), 2) for seed in (1, 1, 2)
    )

    assert again == first
    orders = [list(range(21)), *first, *other]
    assert len({tuple(order) for order in orders}) == 5


@pytest.mark.parametrize("augmentation", ["none", "flip_crop"])
def test_an_epoch_is_the_same_whichever_was_the_first(augmentation: str) -> None:
    split = Split(np.random.default_rng(0).integers(0, 256, (10, 6, 6, 3), dtype=np.uint8), np.arange(10) % 3)
    recipe = _recipe(augmentation=augmentation, cutout=2)

    in_a_row = list(pipeline.batches(split, recipe, 4, depth=3).take(8).as_numpy_iterator())
    from_third = list(pipeline.batches(split, recipe, 4, depth=3, first_epoch=2).take(4).as_numpy_iterator())

    for (images, classes), (resumed_images, resumed_classes) in zip(in_a_row[4:], from_third, strict=True):
        np.testing.assert_array_equal(resumed_images, images)
        np.testing.assert_array_equal(resumed_classes, classes)


def test_fewer_pictures_than_a_batch_are_one_batch() -> None:
    batches = pipeline.batches(_numbered(5), _recipe(), batch_size=8, depth=3)

    assert pipeline.steps(5, 8) == 1
    assert [sorted(batch) for batch in _numbers(batches, 2)] == [[0, 1, 2, 3, 4]] * 2


def test_first_epochs_have_smaller_pictures_of_the_same_content_where_the_recipe_says_so() -> None:
    recipe = _recipe(small_epochs=2, architecture="airbench")
    found = [images for images, _ in pipeline.batches(_numbered(8), recipe, 8, depth=3).take(3).as_numpy_iterator()]
    later = pipeline.batches(_numbered(8), recipe, 8, depth=3, first_epoch=1).take(1).as_numpy_iterator()

    assert [images.shape for images in found] == [(8, 3, 3, 3), (8, 3, 3, 3), (8, 4, 4, 3)]
    for images in found:  # pictures of one value each, in whatever size
        assert sorted(images[:, 0, 0, 0].round()) == list(range(8))
        np.testing.assert_allclose(images, np.broadcast_to(images[:, :1, :1, :1], images.shape), atol=1e-4)
    np.testing.assert_array_equal(next(later)[0], found[1])
