"""The second phase of transfer learning: the upper half of the backbone and its head, trained together and gently."""

import math
from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from training import architectures, pipeline
from training.checkpoint import Checkpoint
from training.fit import Recorder, Trained, compile_for_training, compute_dtype, run_epochs
from training.head import Head
from training.optimizers import DiscriminativeAdam, one_cycle
from training.recipe import Transfer

_FROZEN_BELOW = 16  # layers whose maps are less than that many times smaller than the picture
_FACTORS = {16: 0.1, 32: 0.3}  # of the learning rate, by how many times smaller the map is
_LABEL_SMOOTHING = 0.1
_SMALLEST_CROP = 0.6  # of the picture's height and width

Rows = npt.NDArray[np.int64]


def with_head(backbone: keras.Model, head: Head) -> keras.Model:
    """A new network of the backbone's architecture and weights that ends in `head`."""
    _, height, width, _ = backbone.input_shape
    network = architectures.build(backbone.name, height, width, len(head.bias))
    dense = classifier_of(network)
    theirs = {id(variable) for variable in dense.variables}
    for ours, given in zip(network.variables, backbone.variables, strict=True):
        if id(ours) not in theirs:
            ours.assign(given)
    dense.set_weights([head.kernel, head.bias])
    return network


def classifier_of(network: keras.Model) -> keras.layers.Dense:
    """The layer that gives the logits: the last dense one."""
    return [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)][-1]


def fine_tune(
    start: keras.Model,
    pixels: npt.NDArray[np.uint8],
    classes: npt.NDArray[np.int64],
    rows: Rows,
    watched: Rows,
    recipe: Transfer,
    checkpoint: Checkpoint | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Trained:
    """Train a copy of `start` on `rows` of pixels uint8 [N, H, W, 3]; the figures of `watched` are only shown.

    BatchNorm stays as it was trained, since small batches of few classes would mislead it. The learning rate goes
    through one cycle and is smaller, the further a layer is from the head. The recipe's `small_epochs` see crops of
    three quarters of the size: objects in random crops look larger than in whole photos, which smaller crops make up
    for (Touvron et al. 2019, "Fixing the train-test resolution discrepancy").
    """
    _, height, width, _ = start.input_shape
    depth = classifier_of(start).units
    with compute_dtype(mixed=True):
        any_size = recipe.small_epochs > 0
        network = architectures.build(start.name, None if any_size else height, None if any_size else width, depth)
        network.set_weights(start.get_weights())
        factors = _freeze(network, start)
        classifier = keras.Model(network.input, network.output["logits"])
        steps = pipeline.steps(len(rows), recipe.batch_size)
        rate = one_cycle(recipe.learning_rate, recipe.epochs * steps)
        adam = DiscriminativeAdam(rate, lambda variable: factors.get(variable.path, 1.0))
        compile_for_training(classifier, adam, _LABEL_SMOOTHING)
        done = checkpoint.restore(classifier) if checkpoint is not None else ()
        history = run_epochs(
            classifier,
            _batches(pixels, classes, rows, depth, recipe, len(done)),
            steps,
            (pixels[watched], keras.utils.to_categorical(classes[watched], depth)),
            recipe.epochs,
            Recorder(checkpoint, done),
            callbacks,
        )
    trained = architectures.build(start.name, height, width, depth)
    trained.set_weights(network.get_weights())
    return Trained(trained, history, sum(epoch.seconds for epoch in done))


def _freeze(network: keras.Model, sized: keras.Model) -> dict[str, float]:
    """Freeze BatchNorm and what is near the pixels; returns the factors of the other layers' weights by their path.

    `sized` is of the same layers, and of the size that is served.
    """
    height = sized.input_shape[1]
    factors = {}
    for layer, alike in zip(network.layers, sized.layers, strict=True):
        shape = alike.output.shape
        # By whole powers of two: maps are rounded up, and 200 pixels leave 13 where 224 leave 14
        shrunk = 2 ** round(math.log2(height / shape[1])) if len(shape) == 4 else None
        if isinstance(layer, keras.layers.BatchNormalization) or (shrunk is not None and shrunk < _FROZEN_BELOW):
            layer.trainable = False
        elif shrunk is not None:
            factor = _FACTORS[16] if shrunk < 2 * _FROZEN_BELOW else _FACTORS[32]
            factors.update({variable.path: factor for variable in layer.trainable_variables})
    return factors


def _batches(
    pixels: npt.NDArray[np.uint8],
    classes: npt.NDArray[np.int64],
    rows: Rows,
    depth: int,
    recipe: Transfer,
    first_epoch: int,
) -> tf.data.Dataset:
    _, height, width, channels = pixels.shape
    small, whole = (height * 3 // 4, width * 3 // 4), (height, width)

    def read(chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        return np.asarray(pixels[rows[chosen]])

    def gather(chosen: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = tf.ensure_shape(tf.numpy_function(read, [chosen], tf.uint8), (None, height, width, channels))
        key = tf.stack([tf.constant(recipe.seed, tf.int64), epoch * 2**32 + chosen[0]])
        size = tf.where(epoch < recipe.small_epochs, small, whole) if recipe.small_epochs else whole
        return _cropped(images, key, size), tf.one_hot(tf.gather(classes[rows], chosen), depth)

    order = pipeline.row_batches(len(rows), recipe.batch_size, recipe.seed, first_epoch)
    return order.map(gather, tf.data.AUTOTUNE).prefetch(2)


def _cropped(images: tf.Tensor, key: tf.Tensor, size: tf.Tensor | tuple[int, int]) -> tf.Tensor:
    """A random part of each picture at `size`, every second one mirrored: float32 [N, height, width, 3]."""
    count = tf.shape(images)[0]
    random = tf.random.stateless_uniform([5, count], key)
    down, right = (_SMALLEST_CROP + (1 - _SMALLEST_CROP) * random[i] for i in (0, 1))
    top, left = random[2] * (1 - down), random[3] * (1 - right)
    mirrored = random[4] < 0.5
    start, end = tf.where(mirrored, left + right, left), tf.where(mirrored, left, left + right)
    boxes = tf.stack([top, start, top + down, end], axis=1)
    return tf.image.crop_and_resize(images, boxes, tf.range(count), size)
