"""Training: what comes back, that it can be interrupted, and that two devices do what one does."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from training import checkpoint, devices, fit
from training.architectures import airbench
from training.checkpoint import Checkpoint
from training.fit import Trained
from training.recipe import Recipe, RecipeError
from training.splits import Split, Splits

ROOT = Path(__file__).parents[2]


def _recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "model": "m", "description": "", "dataset": "mnist", "architecture": "mnist_cnn", "epochs": 2, "batch_size": 8,
        "input": {"height": 4, "width": 4}, "learning_rate": 0.05,
    }  # fmt: skip
    return Recipe.model_validate({**values, **changes})


def _numbered(n: int) -> Split:
    """Pictures whose every pixel is their own number, the class of which tells whether it is large."""
    numbers = np.arange(n)
    images = np.broadcast_to(numbers[:, None, None, None], (n, 4, 4, 3)).astype(np.uint8)
    return Split(images, (numbers >= n // 2).astype(np.int64))


def _splits() -> Splits:
    return Splits(*(_numbered(n) for n in (200, 20, 20, 20, 20)))


def _builder(policies: list[str]) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        policies.append(keras.mixed_precision.dtype_policy().name)
        pixels = keras.Input((4, 4, 3))
        features = keras.layers.Rescaling(1 / 100, -1.0)(pixels)
        embedding = keras.layers.BatchNormalization(momentum=0.8)(keras.layers.GlobalAveragePooling2D()(features))
        logits = keras.layers.Dense(2, kernel_initializer="zeros")(embedding)
        return keras.Model(pixels, {"logits": logits, "embedding": embedding, "features": features})

    return build


def _accuracy(network: keras.Model, split: Split) -> float:
    logits = keras.ops.convert_to_numpy(network(split.images.astype("float32"), training=False)["logits"])
    return float((logits.argmax(axis=1) == split.classes).mean())


def test_mixed_precision_trains_in_bfloat16_and_gives_back_a_float32_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_bfloat16", lambda: True)
    keras.utils.set_random_seed(0)
    policies: list[str] = []

    trained = fit.fit(_builder(policies), _splits(), _recipe(mixed_precision=True))

    assert policies == ["mixed_bfloat16", "float32"]
    assert {layer.compute_dtype for layer in trained.network.layers} == {"float32"}
    assert _accuracy(trained.network, _numbered(200)) > 0.9


def test_a_network_learns_from_small_pictures_first_and_comes_back_for_the_size_it_is_served_at() -> None:
    keras.utils.set_random_seed(0)
    seen: list[tuple[int, ...]] = []

    class Sizes(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            seen.append(self.model.input_shape[1:3])

    def build(*, any_size: bool = False) -> keras.Model:
        side = None if any_size else 16
        return airbench.build_with("tiny", side, side, 2, (4, 8, 8))

    def split(n: int) -> Split:
        numbers = np.arange(n)
        images = np.broadcast_to(numbers[:, None, None, None], (n, 16, 16, 3)).astype(np.uint8)
        return Split(images, (numbers >= n // 2).astype(np.int64))

    splits = Splits(*(split(n) for n in (64, 8, 8, 8, 8)))
    recipe = _recipe(
        architecture="airbench", small_epochs=2, epochs=4, learning_rate=0.01, input={"height": 16, "width": 16}
    )
    trained = fit.fit(build, splits, recipe, callbacks=[Sizes()])

    assert seen == [(None, None)] * 4
    assert trained.network.input_shape == (None, 16, 16, 3)
    assert [epoch.epoch for epoch in trained.history] == [1, 2, 3, 4]
    assert trained.history[-1].loss < trained.history[0].loss


def test_a_loss_without_bounds_ends_the_run_and_leaves_the_epoch_before(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)

    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            if epoch == 1:
                self.model.layers[-1].set_weights([np.full(w.shape, np.inf) for w in self.model.layers[-1].weights])

    with pytest.raises(
        RecipeError, match=r"^the loss is nan, of the watched pictures nan, after epoch 2; try a lower --learning-rate$"
    ):
        fit.fit(_builder([]), _splits(), _recipe(epochs=3), Checkpoint(tmp_path), callbacks=[Spoil()])
    assert [epoch.epoch for epoch in checkpoint.figures(tmp_path)] == [1]


def test_the_precision_of_the_process_is_restored_even_where_building_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_bfloat16", lambda: True)

    def build() -> keras.Model:
        raise RuntimeError("out of ideas")

    with pytest.raises(RuntimeError, match="out of ideas"):
        fit.fit(build, _splits(), _recipe(mixed_precision=True))
    assert keras.mixed_precision.dtype_policy().name == "float32"


def test_every_epoch_leaves_its_figures(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    splits = _splits()

    trained = fit.fit(_builder([]), splits, _recipe(epochs=3, schedule="linear"), Checkpoint(tmp_path))

    assert checkpoint.figures(tmp_path) == trained.history
    assert [epoch.epoch for epoch in trained.history] == [1, 2, 3]
    assert [epoch.learning_rate for epoch in trained.history] == pytest.approx([0.05 * 2 / 3, 0.05 / 3, 0.0])
    assert trained.history[-1].loss < trained.history[0].loss < 1.0
    assert trained.history[-1].validation_accuracy == pytest.approx(_accuracy(trained.network, splits.validation))
    assert trained.seconds_before == 0.0


def _noise(n: int, seed: int) -> Split:
    random = np.random.default_rng(seed)
    return Split(random.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8), random.integers(0, 3, n))


def _random_network() -> keras.Model:
    """With all that goes on from step to step: BatchNorm's averages and the seeds of dropout."""
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, use_bias=False)(keras.layers.Rescaling(1 / 255)(pixels))
    features = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    embedding = keras.layers.Dropout(0.3)(keras.layers.GlobalAveragePooling2D()(features))
    logits = keras.layers.Dense(3)(embedding)
    return keras.Model(pixels, {"logits": logits, "embedding": embedding, "features": features})


class _Interrupt(keras.callbacks.Callback):
    """Ctrl-C in the middle of the third epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self.epoch, batch) == (2, 1):
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "changes",
    [
        # without a better accuracy, the rate falls within these epochs
        {"optimizer": "adam", "schedule": "plateau", "augmentation": "flip_crop", "cutout": 3, "epochs": 5},
        {"optimizer": "muon", "schedule": "linear", "learning_rate": 0.01, "label_smoothing": 0.1, "epochs": 4},
    ],
)
def test_a_run_that_goes_on_ends_where_one_in_a_piece_does(tmp_path: Path, changes: dict[str, Any]) -> None:
    recipe = _recipe(input={"height": 8, "width": 8}, batch_size=16, **changes)
    splits = Splits(_noise(50, 1), *(_noise(12, seed) for seed in (2, 3, 4, 5)))

    def run(folder: str, *callbacks: keras.callbacks.Callback, seed: int = 0) -> Trained:
        keras.utils.set_random_seed(seed)
        (tmp_path / folder).mkdir(exist_ok=True)
        return fit.fit(_random_network, splits, recipe, Checkpoint(tmp_path / folder), callbacks=callbacks)

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("parts", _Interrupt())
    assert len(checkpoint.figures(tmp_path / "parts")) == 2
    resumed = run("parts", seed=9)  # another beginning must not matter

    assert [epoch.epoch for epoch in resumed.history] == list(range(1, recipe.epochs + 1))
    for ours, theirs in zip(resumed.history, whole.history, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
        assert ours.learning_rate == pytest.approx(theirs.learning_rate, rel=1e-6, abs=1e-9)
    for ours, theirs in zip(resumed.network.get_weights(), whole.network.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert resumed.seconds_before == sum(epoch.seconds for epoch in resumed.history[:2])
    # and a run that has ended is not trained any further
    assert run("parts").history == resumed.history


def test_the_stem_of_airbench_whitens_the_training_pictures_and_stays() -> None:
    train = Split(np.random.default_rng(0).integers(0, 256, (64, 9, 9, 3), dtype=np.uint8), np.arange(64) % 3)
    recipe = _recipe(
        architecture="airbench", input={"height": 9, "width": 9}, epochs=1, batch_size=16, optimizer="muon",
        learning_rate=0.24, schedule="linear", augmentation="flip_crop",
    )  # fmt: skip
    build = lambda: airbench.build_with("airbench", 9, 9, 3, (4, 6, 6))  # noqa: E731

    network = fit.fit(build, Splits(train, train, train, train, train), recipe).network

    fresh = build()
    airbench.prepare(fresh, train.images)
    for trained, expected in zip(*(each.get_layer("stem").get_weights() for each in (network, fresh)), strict=True):
        np.testing.assert_allclose(trained, expected, rtol=1e-5)


_TWO_DEVICES = """
import keras
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from training import devices, fit
from training.splits import Split, Splits
from training.recipe import Recipe

random = np.random.default_rng(0)
sizes = (70, 9, 9, 9, 9)  # 9 can't be divided by two
splits = Splits(*(Split(random.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8), np.arange(n) % 3) for n in sizes))

def build():
    layers, glorot = keras.layers, keras.initializers.GlorotUniform
    pixels = keras.Input((8, 8, 3))
    x = layers.Rescaling(1 / 255)(pixels)
    features = layers.Conv2D(6, 3, activation="tanh", kernel_initializer=glorot(seed=1))(x)
    embedding = layers.GlobalAveragePooling2D()(features)
    logits = layers.Dense(3, kernel_initializer=glorot(seed=2))(embedding)
    return keras.Model(pixels, {"logits": logits, "embedding": embedding, "features": features})

# Muon's steps for what is no kernel grow with the gradient, so that a wrong mean over devices would show
recipe = dict(
    model="m", description="", dataset="mnist", architecture="simple", input={"height": 8, "width": 8}, epochs=2,
    optimizer="muon", schedule="linear", augmentation="flip_crop",
)
runs = []
for name, factor in (("mirrored", 1), ("single", 2)):
    strategy = devices.strategy(name)
    assert strategy.num_replicas_in_sync == 3 - factor
    values = Recipe(**recipe, batch_size=8 * factor, learning_rate=0.0005 * factor)
    runs.append(fit.fit(build, splits, values, strategy=strategy))
for two, one in zip(runs[0].history, runs[1].history, strict=True):
    np.testing.assert_allclose(two.loss, one.loss, rtol=1e-4)
    np.testing.assert_allclose(two.learning_rate, one.learning_rate, atol=1e-8)
before = build().get_weights()
for two, one, start in zip(*(run.network.get_weights() for run in runs), before, strict=True):
    assert abs(one - start).max() > 1e-3
    np.testing.assert_allclose(two, one, atol=2e-5)
print("alike")
"""


def test_two_devices_train_as_one_does_with_twice_the_batch_and_twice_the_rate() -> None:
    # In a process of its own, since a processor is divided before TensorFlow starts
    done = subprocess.run([sys.executable, "-c", _TWO_DEVICES], cwd=ROOT, check=False, capture_output=True, text=True)

    assert done.stdout.splitlines()[-1:] == ["alike"], done.stderr
