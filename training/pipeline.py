"""Training pictures as batches: an order of its own for each epoch, changed as the recipe says."""

import tensorflow as tf

from training.augment import augmenter
from training.recipe import Recipe
from training.splits import Split

_MOST_EVALUATED_PIXELS = 2**22


def batches(split: Split, recipe: Recipe, batch_size: int, depth: int, first_epoch: int = 0) -> tf.data.Dataset:
    """Epoch after epoch of (float32 [N, H, W, 3] from 0 to 255, one-hot classes float32 [N, depth]), without end.

    The recipe's `small_epochs` have three quarters of the height and of the width (progressive resizing, as in Tan and
    Le 2021, "EfficientNetV2").
    Epoch k is the same whichever the first one was. Each has `steps(...)` batches of equal size: what is left over is
    another few pictures every time. Batches are gathered by index, since shuffling whole pictures one by one costs a
    third of a small network's step.
    """
    images, classes = tf.constant(split.images), tf.constant(split.classes)
    change = augmenter(recipe, len(split))

    def gather(rows: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pictures = tf.cast(tf.gather(images, rows), tf.float32)
        pictures = change(pictures, rows, epoch)
        if recipe.small_epochs:
            pictures = _small(pictures, epoch < recipe.small_epochs)
        return pictures, tf.one_hot(tf.gather(classes, rows), depth)

    order = row_batches(len(split), batch_size, recipe.seed, first_epoch)
    return order.map(gather, tf.data.AUTOTUNE).prefetch(2)


def _small(pictures: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    _, height, width, channels = pictures.shape
    size = (height * 3 // 4, width * 3 // 4)
    sized = tf.cond(wanted, lambda: tf.image.resize(pictures, size, antialias=True), lambda: pictures)
    return tf.ensure_shape(sized, [None, None, None, channels])


def row_batches(count: int, batch_size: int, seed: int, first_epoch: int) -> tf.data.Dataset:
    """Epoch after epoch of (rows int64 [N], the epoch's number), each epoch in an order of its own."""

    def epoch_of_rows(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), [seed, epoch])
        rows = tf.data.Dataset.from_tensor_slices(order).batch(min(batch_size, count), drop_remainder=True)
        return rows.map(lambda batch: (batch, epoch))

    return tf.data.Dataset.range(first_epoch, 2**31).flat_map(epoch_of_rows)


def evaluation_batch(height: int, width: int) -> int:
    """How many pictures are evaluated at once: of four million pixels a layer of 64 channels takes a gigabyte."""
    return max(1, min(256, _MOST_EVALUATED_PIXELS // (height * width)))


def steps(count: int, batch_size: int) -> int:
    """Batches in an epoch of so many examples."""
    return max(1, count // batch_size)
