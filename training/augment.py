"""Random changes to training pictures, as functions on batches that run inside the input pipeline.

Each change follows from the seed and the number of the step alone, so that a resumed run sees what it would have seen.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from training.recipe import Recipe

_MOST_SHIFT, _MOST_RADIANS, _MOST_ZOOM = 0.1, 0.08 * np.pi, 0.1  # of `shift_rotate_zoom`

Augmenter = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def augmenter(recipe: Recipe, examples: int) -> Augmenter:
    """A function of float32 pictures [N, H, W, 3] from 0 to 255, their rows among `examples` and the epoch, both int64.

    It returns the pictures, changed as the recipe says.
    """
    steps: list[Augmenter] = []
    if recipe.augmentation == "shift_rotate_zoom":
        steps.append(_shift_rotate_zoom(recipe.seed))
    elif recipe.augmentation == "flip_crop":
        steps.extend((_alternating_flip(recipe.seed, examples), _shifted_crop(recipe.seed, recipe.shift)))
    if recipe.cutout:
        steps.append(_cutout(recipe.seed, recipe.cutout))

    def apply(images: tf.Tensor, rows: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
        for step in steps:
            images = step(images, rows, epoch)
        return images

    return apply


def _shift_rotate_zoom(seed: int) -> Augmenter:
    """Up to a tenth of the picture's size in each direction, 14 degrees and a tenth of its scale; black outside.

    Not by Keras's layers for it: these draw from a state that parallel batches race for.
    """

    def apply(images: tf.Tensor, rows: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
        _, height, width, _ = images.shape
        drawn = tf.random.stateless_uniform([4, tf.shape(rows)[0]], _key(seed, rows, epoch, 3), -1.0, 1.0)
        angle, scale = drawn[0] * _MOST_RADIANS, 1.0 + drawn[1] * _MOST_ZOOM
        cosine, sine = tf.cos(angle) * scale, tf.sin(angle) * scale
        # Where in the picture each new pixel comes from: turned and scaled about the middle, then shifted
        x, y = (width - 1) / 2, (height - 1) / 2
        right = drawn[2] * _MOST_SHIFT * width + x - cosine * x + sine * y
        down = drawn[3] * _MOST_SHIFT * height + y - sine * x - cosine * y
        none = tf.zeros_like(angle)
        transforms = tf.stack([cosine, -sine, right, sine, cosine, down, none, none], axis=1)
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=transforms,
            output_shape=[height, width],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )

    return apply


def _alternating_flip(seed: int, examples: int) -> Augmenter:
    """Every second epoch each picture is mirrored; which epochs these are is drawn once for each picture.

    So two epochs in a row always show both sides (Jordan 2024, section 3.6), which chance alone would not.
    """
    first: npt.NDArray[np.int64] = np.random.default_rng(seed).integers(0, 2, examples)
    parity = tf.constant(first)

    def apply(images: tf.Tensor, rows: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
        mirrored = (tf.gather(parity, rows) + epoch) % 2 == 1
        return tf.where(mirrored[:, None, None, None], tf.reverse(images, [2]), images)

    return apply


def _shifted_crop(seed: int, most: int) -> Augmenter:
    def apply(images: tf.Tensor, rows: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
        _, height, width, _ = images.shape
        padded = tf.pad(images, [[0, 0], [most, most], [most, most], [0, 0]], "REFLECT")
        offsets = _integers(seed, rows, epoch, 0, 2 * most + 1)
        down = offsets[0][:, None] + tf.range(height, dtype=tf.int64)
        right = offsets[1][:, None] + tf.range(width, dtype=tf.int64)
        return tf.gather(tf.gather(padded, down, axis=1, batch_dims=1), right, axis=2, batch_dims=1)

    return apply


def _cutout(seed: int, side: int) -> Augmenter:
    """A square is replaced by middle grey (DeVries and Taylor 2017); it always lies inside the picture."""

    def apply(images: tf.Tensor, rows: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
        _, height, width, _ = images.shape
        top = _integers(seed, rows, epoch, 1, height - side + 1)[0][:, None]
        left = _integers(seed, rows, epoch, 2, width - side + 1)[1][:, None]
        down, right = tf.range(height, dtype=tf.int64), tf.range(width, dtype=tf.int64)
        inside_down = (down >= top) & (down < top + side)
        inside_right = (right >= left) & (right < left + side)
        return tf.where((inside_down[:, :, None] & inside_right[:, None, :])[..., None], 127.5, images)

    return apply


def _integers(seed: int, rows: tf.Tensor, epoch: tf.Tensor, stream: int, below: int) -> tf.Tensor:
    """int64 [2, N] from 0 to `below` - 1, drawn anew for each batch of each epoch: its first row tells it apart."""
    shape = [2, tf.shape(rows)[0]]
    return tf.random.stateless_uniform(shape, _key(seed, rows, epoch, stream), 0, below, tf.int64)


def _key(seed: int, rows: tf.Tensor, epoch: tf.Tensor, stream: int) -> tf.Tensor:
    return tf.stack([tf.constant(seed, tf.int64) * 16 + stream, tf.cast(epoch, tf.int64) * 2**32 + rows[0]])
