"""The epochs: input pipeline, optimiser and loss as the recipe says."""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf

from training.augment import augmenter
from training.data import Split, Splits
from training.recipe import Recipe


def fit(build: Callable[[], keras.Model], splits: Splits, recipe: Recipe) -> keras.Model:
    """Build a network and train it for all of the recipe's epochs; the validation figures are only shown.

    In mixed precision the weights are float32 all along, so a float32 network of the same weights is returned.
    """
    with _dtype_policy("mixed_bfloat16" if recipe.mixed_precision and _has_bfloat16() else "float32"):
        network = build()
        _fit(network, splits, recipe)
    trained = build()
    trained.set_weights(network.get_weights())
    return trained


def _fit(network: keras.Model, splits: Splits, recipe: Recipe) -> None:
    steps = recipe.epochs * math.ceil(len(splits.train) / recipe.batch_size)
    classifier = keras.Model(network.input, network.output["logits"])
    classifier.compile(
        optimizer=keras.optimizers.Adam(_learning_rate(recipe, steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=bool(tf.config.list_physical_devices("GPU")),  # XLA speeds GPUs up and slows CPUs down
    )
    classifier.fit(
        _training_batches(splits.train, recipe),
        validation_data=(splits.validation.images, splits.validation.classes),
        epochs=recipe.epochs,
        shuffle=False,  # the pipeline does that itself
        verbose=1 if sys.stdout.isatty() else 2,
    )


@contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def _has_bfloat16() -> bool:
    """Elsewhere bfloat16 is emulated, which is slower than float32."""
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def _learning_rate(recipe: Recipe, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    if recipe.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps)
    return recipe.learning_rate


def _training_batches(split: Split, recipe: Recipe) -> tf.data.Dataset:
    """Batches are gathered by index: shuffling whole pictures one by one costs a third of a small network's step."""
    images, classes = tf.constant(split.images), tf.constant(split.classes)
    change = augmenter(recipe.augmentation, recipe.seed)

    def gather(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return change(tf.cast(tf.gather(images, rows), tf.float32)), tf.gather(classes, rows)

    rows = tf.data.Dataset.range(len(split)).shuffle(len(split), seed=recipe.seed)
    return rows.batch(recipe.batch_size).map(gather, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
