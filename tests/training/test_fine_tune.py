"""The second phase of transfer learning: which weights move, which stay, and what the network is shown."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from training import architectures, fine_tune
from training.checkpoint import Checkpoint
from training.fit import Trained
from training.head import Head
from training.recipe import Transfer

N, SIZE = 48, 64


def _minute(name: str, height: int | None, width: int | None, classes: int) -> keras.Model:
    """Maps 4, 16 and 32 times smaller than the picture, with BatchNorm after each."""
    x = pixels = keras.Input((height, width, 3))
    for part, filters, stride in (("lower", 4, 4), ("middle", 6, 4), ("upper", 8, 2)):
        x = layers.Conv2D(filters, 3, stride, padding="same", use_bias=False, name=f"{part}_conv")(x)
        x = layers.ReLU()(layers.BatchNormalization(name=f"{part}_bn")(x))
    embedding = layers.GlobalAveragePooling2D()(x)
    logits = layers.Dense(classes, name="classifier")(layers.Dropout(0.2)(embedding))
    return keras.Model(pixels, {"logits": logits, "embedding": embedding, "features": x}, name=name)


@pytest.fixture
def backbone(monkeypatch: pytest.MonkeyPatch) -> keras.Model:
    """A minute network of 1,000 classes, which every other one is built like."""
    monkeypatch.setattr(architectures, "build", _minute)
    keras.utils.set_random_seed(3)
    network = _minute("minute", SIZE, SIZE, 1000)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([np.random.default_rng(5).uniform(0.5, 1.5, len(w)) for w in layer.get_weights()])
    return network


HEAD = Head(np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32), np.array([0.3, -0.2, 0.5], np.float32))


def _recipe(**changes: Any) -> Transfer:
    return Transfer.model_validate(
        {"model": "m", "description": "", "epochs": 1, "batch_size": 8, "learning_rate": 0.01, **changes}
    )


def _pictures() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(7)
    classes = np.arange(N) % 3
    pixels = random.integers(0, 80, (N, SIZE, SIZE, 3), dtype=np.uint8)
    pixels[np.arange(N), :, :, classes] += 100
    return pixels, classes.astype(np.int64)


def _tune(start: keras.Model, checkpoint: Checkpoint | None = None, *more: Any, **changes: Any) -> Trained:
    pixels, classes = _pictures()
    rows, watched = np.arange(2, 42), np.arange(42, N)
    return fine_tune.fine_tune(start, pixels, classes, rows, watched, _recipe(**changes), checkpoint, *more)


def _output(network: keras.Model, name: str, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(network(pixels.astype("float32"), training=False)[name]))


def test_with_head_gives_the_logits_of_the_head_on_the_same_embedding(backbone: keras.Model) -> None:
    pixels, _ = _pictures()
    before = backbone.get_weights()

    network = fine_tune.with_head(backbone, HEAD)

    embedding = _output(backbone, "embedding", pixels)
    np.testing.assert_array_equal(_output(network, "embedding", pixels), embedding)
    np.testing.assert_allclose(_output(network, "logits", pixels), HEAD(embedding), rtol=1e-4, atol=1e-4)
    assert np.ptp(HEAD(embedding), axis=0).max() > 0.01
    # The backbone is not touched, and shares nothing with the new network
    fine_tune.classifier_of(network).set_weights([np.zeros((8, 3)), np.zeros(3)])
    network.get_layer("lower_conv").set_weights([np.zeros((3, 3, 3, 4))])
    for ours, theirs in zip(backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_classifier_is_the_last_dense_layer() -> None:
    x = keras.Input((4,))
    hidden = layers.Dense(5, name="hidden")(x)
    logits = layers.Dense(3, name="last")(hidden)

    assert fine_tune.classifier_of(keras.Model(x, {"logits": logits, "embedding": hidden})).name == "last"


def test_what_is_near_the_pixels_and_batchnorm_stay_bit_by_bit_and_the_rest_is_trained(backbone: keras.Model) -> None:
    start = fine_tune.with_head(backbone, HEAD)
    before = {layer.name: layer.get_weights() for layer in start.layers}

    trained = _tune(start, epochs=2)

    assert trained.network is not start
    moved = {
        layer.name: max(np.abs(a - b).max() for a, b in zip(layer.get_weights(), before[layer.name], strict=True))
        for layer in trained.network.layers
        if "conv" in layer.name or "bn" in layer.name or layer.name == "classifier"
    }
    assert {name for name, most in moved.items() if most == 0} == {"lower_conv", "lower_bn", "middle_bn", "upper_bn"}
    # Adam's steps are as large as the learning rate: a tenth of it, three tenths, the whole
    assert moved["middle_conv"] == pytest.approx(moved["classifier"] * 0.1, rel=0.5)
    assert moved["upper_conv"] == pytest.approx(moved["classifier"] * 0.3, rel=0.5)
    for layer in start.layers:  # and where it started from is left as it was
        for ours, theirs in zip(layer.get_weights(), before[layer.name], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_the_network_that_comes_back_computes_in_float32_and_learnt_something(backbone: keras.Model) -> None:
    trained = _tune(fine_tune.with_head(backbone, HEAD), epochs=6, learning_rate=0.05)

    assert {layer.compute_dtype for layer in trained.network.layers} == {"float32"}
    assert [epoch.epoch for epoch in trained.history] == [1, 2, 3, 4, 5, 6]
    first, last = trained.history[0], trained.history[-1]
    assert last.loss < first.loss / 2
    assert last.validation_loss < first.validation_loss / 2


class _EndsAfter(keras.callbacks.Callback):
    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch + 1 == self.epochs:
            raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras's variables
def test_a_run_that_goes_on_ends_where_one_in_a_piece_does(backbone: keras.Model, tmp_path: Path) -> None:
    start = fine_tune.with_head(backbone, HEAD)
    keras.utils.set_random_seed(0)
    whole = _tune(start, epochs=4)

    with pytest.raises(KeyboardInterrupt):
        _tune(start, Checkpoint(tmp_path), [_EndsAfter(2)], epochs=4)
    resumed = _tune(start, Checkpoint(tmp_path), epochs=4)

    assert [epoch.epoch for epoch in resumed.history] == [1, 2, 3, 4]
    assert resumed.seconds_before == sum(epoch.seconds for epoch in resumed.history[:2])
    rates = [epoch.learning_rate for epoch in resumed.history]
    assert rates == pytest.approx([epoch.learning_rate for epoch in whole.history], rel=1e-4)
    assert rates[0] > rates[2] > rates[3]  # the cycle went on, and did not begin anew
    again = _tune(start, Checkpoint(tmp_path), epochs=4)  # nothing is left to do
    for ours, theirs in zip(again.network.get_weights(), resumed.network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("size", [224, 200, 64])
def test_efficientnet_is_trained_from_its_maps_of_a_sixteenth_upwards(size: int) -> None:
    network = architectures.build("efficientnet_lite0", size, size, 3)

    factors = fine_tune._freeze(network, network)

    trainable = {layer.name for layer in network.layers if layer.trainable and layer.trainable_variables}
    assert not any("bn" in name for name in trainable)
    blocks = sorted({int(name.split("_")[0][5:]) for name in trainable if name.startswith("block")})
    assert blocks == list(range(5, 16))
    assert {"block5_depthwise_conv", "head_conv", "classifier"} <= trainable
    assert not {"stem_conv", "block4_project_conv", "block5_expand_conv"} & trainable
    assert factors["block5_depthwise_conv/kernel"] == factors["block10_project_conv/kernel"] == 0.1
    assert factors["block11_depthwise_conv/kernel"] == factors["head_conv/kernel"] == 0.3
    assert not any(path.startswith("classifier") for path in factors)


def _crops(picture: np.ndarray, n: int = 400) -> np.ndarray:
    images = np.broadcast_to(picture, (n, *picture.shape)).astype(np.uint8)
    return np.asarray(fine_tune._cropped(tf.constant(images), tf.constant([3, 4], tf.int64), picture.shape[:2]))


def test_crops_stay_inside_the_picture_and_have_its_size() -> None:
    white = _crops(np.full((32, 48, 3), 255))
    noise = _crops(np.random.default_rng(0).integers(0, 256, (32, 48, 3)))

    assert (white.dtype, white.shape) == (np.float32, (400, 32, 48, 3))
    assert white.min() > 254.9  # nothing black comes in from outside
    assert noise.min() >= 0
    assert noise.max() <= 255


def test_crops_are_different_parts_of_at_least_three_fifths_and_half_of_them_mirrored() -> None:
    across = np.broadcast_to(np.linspace(0, 250, 48)[None, :, None], (32, 48, 3))
    down = np.broadcast_to(np.linspace(0, 250, 32)[:, None, None], (32, 48, 3))

    left, right = (_crops(across)[:, 0, column, 0] for column in (0, -1))
    top, bottom = (_crops(down)[:, row, 0, 0] for row in (0, -1))

    mirrored = left > right
    assert 0.4 < mirrored.mean() < 0.6
    assert (bottom > top).all()  # never upside down
    for reach in (np.abs(right - left), bottom - top):
        assert reach.min() > 0.59 * 250
        assert reach.min() < 0.63 * 250
        assert reach.max() > 0.97 * 250
    assert np.minimum(left, right).max() > 0.3 * 250
    assert np.minimum(left, right).min() < 0.01 * 250


def test_every_photo_is_shown_once_an_epoch_with_its_own_class_and_other_crops() -> None:
    pixels = np.broadcast_to((np.arange(20) * 10)[:, None, None, None], (20, 32, 32, 3)).astype(np.uint8)
    pixels[:, :, 16:] += 5
    classes, rows = np.arange(20) % 4, np.arange(3, 19)
    batches = fine_tune._batches(pixels, classes, rows, 4, _recipe(batch_size=4), first_epoch=0)

    shown = list(batches.take(8).as_numpy_iterator())

    for epoch in (shown[:4], shown[4:]):
        images, targets = (np.concatenate(part) for part in zip(*epoch, strict=True))
        found = (images[:, 0].mean(axis=(1, 2)) // 10).astype(int)
        assert sorted(found) == list(rows)
        np.testing.assert_array_equal(targets.argmax(axis=1), classes[found])
    first, second = (
        {tuple(image[0, :, 0]) for images, _ in epoch for image in images} for epoch in (shown[:4], shown[4:])
    )
    assert len(first & second) < 4
    # The second epoch is the same for who begins with it
    again = next(iter(fine_tune._batches(pixels, classes, rows, 4, _recipe(batch_size=4), first_epoch=1)))
    np.testing.assert_array_equal(again[0], shown[4][0])


def test_first_epochs_see_smaller_crops_where_the_recipe_says_so(backbone: keras.Model) -> None:
    pixels, classes = _pictures()
    recipe = _recipe(epochs=3, small_epochs=2, batch_size=16)
    batches = fine_tune._batches(pixels, classes, np.arange(N), 3, recipe, first_epoch=0)

    sides = [images.shape[1:3] for images, _ in batches.take(9).as_numpy_iterator()]

    assert sides == 6 * [(SIZE * 3 // 4, SIZE * 3 // 4)] + 3 * [(SIZE, SIZE)]
    assert fine_tune._freeze(_minute("minute", None, None, 3), backbone) == fine_tune._freeze(backbone, backbone)

    trained = _tune(fine_tune.with_head(backbone, HEAD), epochs=6, small_epochs=4, learning_rate=0.05)

    assert trained.network.input_shape == (None, SIZE, SIZE, 3)
    assert trained.history[-1].validation_loss < trained.history[0].validation_loss / 2
    names = ("lower_conv", "lower_bn", "middle_conv", "middle_bn", "upper_conv", "upper_bn")
    nets = (backbone, trained.network)
    weights = [[np.concatenate(network.get_layer(name).get_weights()) for name in names] for network in nets]
    moved = [name for name, *pair in zip(names, *weights, strict=True) if not np.array_equal(*pair)]
    assert moved == ["middle_conv", "upper_conv"]


@pytest.mark.parametrize(("name", "length"), [("resnet34", 512), ("resnet50", 2048)])
def test_a_residual_network_is_tuned_on_small_crops_first(name: str, length: int) -> None:
    keras.utils.set_random_seed(0)
    head = Head(np.zeros((length, 3), np.float32), np.zeros(3, np.float32))
    start = fine_tune.with_head(architectures.build(name, SIZE, SIZE, 7), head)

    trained = _tune(start, epochs=2, small_epochs=1, batch_size=20, learning_rate=0.001)

    assert (trained.network.name, trained.network.input_shape) == (name, (None, SIZE, SIZE, 3))
    assert np.isfinite([epoch.loss for epoch in trained.history]).all()
    moved = [
        bool((ours != theirs).any())
        for ours, theirs in zip(trained.network.get_weights(), start.get_weights(), strict=True)
    ]
    assert not moved[0]
    assert moved[-1]
