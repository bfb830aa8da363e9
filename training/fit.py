"""The epochs: optimiser and loss as the recipe says, a checkpoint after each."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from training import architectures, devices, pipeline
from training.checkpoint import Checkpoint
from training.history import Epoch
from training.optimizers import optimizer, plateau_rate
from training.recipe import Recipe, RecipeError
from training.splits import Splits


@dataclass(frozen=True)
class Trained:
    """A float32 network and the figures of its epochs; `seconds_before` were spent in a run that this one resumed."""

    network: keras.Model
    history: tuple[Epoch, ...]
    seconds_before: float = 0.0


def fit(
    build: Callable[..., keras.Model],
    splits: Splits,
    recipe: Recipe,
    checkpoint: Checkpoint | None = None,
    strategy: tf.distribute.Strategy | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Trained:
    """Build a network and train it for all of the recipe's epochs; the validation figures only steer a plateau.

    Goes on where `checkpoint` ends, and writes it after each epoch. With a strategy of several devices each takes a
    batch of the recipe's size, and the learning rate is multiplied by their number (Goyal et al. 2017, the linear
    scaling rule). In mixed precision the weights are float32 all along, so a float32 network of the same weights is
    returned. `build` is asked for a network of `any_size` where the recipe's first epochs have smaller pictures.
    """
    strategy = strategy or tf.distribute.get_strategy()
    with compute_dtype(mixed=recipe.mixed_precision):
        with strategy.scope():
            network = build(any_size=True) if recipe.small_epochs else build()
            architectures.prepare(recipe.architecture, network, splits.train.images)
            classifier = keras.Model(network.input, network.output["logits"])
            _compile(classifier, splits, recipe, strategy.num_replicas_in_sync)
        done = checkpoint.restore(classifier) if checkpoint is not None else ()
        history = _fit(classifier, splits, recipe, checkpoint, done, strategy.num_replicas_in_sync, callbacks)
    trained = build()
    trained.set_weights(network.get_weights())
    return Trained(trained, history, sum(epoch.seconds for epoch in done))


def _compile(classifier: keras.Model, splits: Splits, recipe: Recipe, devices: int) -> None:
    batch_size = recipe.batch_size * devices
    steps = recipe.epochs * pipeline.steps(len(splits.train), batch_size)
    compile_for_training(
        classifier, optimizer(recipe, steps, batch_size, factor=float(devices)), recipe.label_smoothing
    )


def compile_for_training(
    classifier: keras.Model, optimiser: keras.optimizers.Optimizer, label_smoothing: float
) -> None:
    """Cross-entropy of logits against one-hot classes, and accuracy."""
    classifier.compile(
        optimizer=optimiser,
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=label_smoothing),
        metrics=["accuracy"],
        jit_compile=bool(tf.config.list_physical_devices("GPU")),  # XLA speeds GPUs up and slows CPUs down
    )
    optimiser.build(classifier.trainable_variables)  # so that a checkpoint has where to go


def _fit(
    classifier: keras.Model,
    splits: Splits,
    recipe: Recipe,
    checkpoint: Checkpoint | None,
    done: tuple[Epoch, ...],
    devices: int,
    callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[Epoch, ...]:
    rate = None
    if recipe.schedule == "plateau":
        rate = partial(plateau_rate, recipe.learning_rate * devices)
    batch_size, depth = recipe.batch_size * devices, classifier.output_shape[-1]
    return run_epochs(
        classifier,
        pipeline.batches(splits.train, recipe, batch_size, depth, first_epoch=len(done)),
        pipeline.steps(len(splits.train), batch_size),
        (splits.validation.images, keras.utils.to_categorical(splits.validation.classes, depth)),
        recipe.epochs,
        Recorder(checkpoint, done, rate),
        callbacks,
    )


def run_epochs(
    classifier: keras.Model,
    batches: tf.data.Dataset,
    steps: int,
    validation: tuple[npt.NDArray[np.uint8], npt.NDArray[np.floating]],
    epochs: int,
    recorder: "Recorder",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[Epoch, ...]:
    """The epochs that `recorder` has not got yet; returns the figures of all."""
    devices = classifier.distribute_strategy.num_replicas_in_sync
    watched = len(validation[1]) // devices * devices  # Keras fails where one device gets fewer than another
    at_once = pipeline.evaluation_batch(*validation[0].shape[1:3])
    if (done := len(recorder.history)) < epochs:
        classifier.fit(
            batches,
            steps_per_epoch=steps,
            validation_data=tuple(part[:watched] for part in validation),
            validation_batch_size=max(1, at_once // devices) * devices,
            initial_epoch=done,
            epochs=epochs,
            shuffle=False,  # the pipeline does that itself
            callbacks=[recorder, *callbacks],
            verbose=1 if sys.stdout.isatty() else 2,
        )
    return recorder.history


class Recorder(keras.callbacks.Callback):
    """Keeps the figures of each epoch, with them the checkpoint; `rate` of these figures is the next learning rate."""

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        done: tuple[Epoch, ...],
        rate: Callable[[tuple[Epoch, ...]], float] | None = None,
    ) -> None:
        super().__init__()
        self.history = done
        self._checkpoint, self._rate = checkpoint, rate
        self._began = time.monotonic()

    def on_epoch_begin(self, _epoch: int, _logs: dict[str, Any] | None = None) -> None:
        self._began = time.monotonic()
        if self._rate is not None:
            self.model.optimizer.learning_rate = self._rate(self.history)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Raises `RecipeError` where the loss has no bounds any more: no later epoch would mend that."""
        figures = {key: float(value) for key, value in (logs or {}).items()}
        if not (math.isfinite(figures["loss"]) and math.isfinite(figures["val_loss"])):
            losses = f"{figures['loss']:g}, of the watched pictures {figures['val_loss']:g},"
            raise RecipeError(f"the loss is {losses} after epoch {epoch + 1}; try a lower --learning-rate")
        record = Epoch(
            epoch=epoch + 1,
            loss=figures["loss"],
            accuracy=figures["accuracy"],
            validation_loss=figures["val_loss"],
            validation_accuracy=figures["val_accuracy"],
            learning_rate=float(self.model.optimizer.learning_rate),
            seconds=round(time.monotonic() - self._began, 1),
        )
        self.history = (*self.history, record)
        if self._checkpoint is not None:
            self._checkpoint.save(self.model, self.history)


@contextmanager
def compute_dtype(*, mixed: bool) -> Iterator[None]:
    """Networks built inside compute in bfloat16, where that is wanted and the processor has it."""
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16" if mixed and devices.has_bfloat16() else "float32")
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)
