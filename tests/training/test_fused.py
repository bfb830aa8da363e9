"""Layers that train sooner are Keras's: the same results, the same gradients, in both precisions."""

from collections.abc import Callable, Iterator
from functools import partial

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from training import architectures, devices, fit
from training.architectures import _fused, airbench


def test_fused_batch_norm_is_keras_s_in_training_and_afterwards() -> None:
    options = {"momentum": 0.6, "epsilon": 1e-5, "scale": False}
    ours, keras_s = _fused.FusedBatchNorm(**options), keras.layers.BatchNormalization(**options)
    pixels = tf.constant(np.random.default_rng(0).normal(3.0, 2.0, (50, 8, 8, 4)).astype(np.float32))
    weights = np.random.default_rng(1).normal(size=pixels.shape).astype(np.float32)
    found = []
    for layer in (ours, keras_s):
        layer.build(pixels.shape)
        layer.beta.assign([0.5, -1.0, 0.0, 2.0])
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            normalised = layer(pixels, training=True)
            loss = tf.reduce_sum(normalised * weights)
        gradients = tape.gradient(loss, [pixels, layer.beta])
        found.append([normalised, *gradients, layer.moving_mean, layer.moving_variance, layer(pixels)])
    for one, other in zip(*found, strict=True):
        # Ours divides the variance by n - 1 for the running one, Keras's by n: here 3,200
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-3, atol=1e-3)


def test_quick_gelu_is_near_gelu() -> None:
    x = np.linspace(-8, 8, 1001, dtype=np.float32)
    difference = np.abs(np.asarray(_fused.quick_gelu(x)) - np.asarray(keras.activations.gelu(x)))
    assert 0.02 < difference.max() < 0.021


@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 1e-6), ("bfloat16", 2.0**-7)])
def test_quick_gelu_is_trained_as_the_plain_formula_is(dtype: str, rounding: float) -> None:
    drawn = np.random.default_rng(0).normal(0.0, 3.0, (2, 40, 5, 5, 3)).astype(np.float32)
    x, weights = (tf.cast(values, dtype) for values in drawn)
    layer = _fused.QuickGelu(dtype=dtype)
    exact = tf.cast(x, tf.float64)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, exact])
        found, expected = layer(x, training=True), exact * tf.sigmoid(1.702 * exact)
        loss = tf.reduce_sum(found * weights)
        exact_loss = tf.reduce_sum(expected * tf.cast(weights, tf.float64))

    assert found.dtype == layer(x).dtype == x.dtype
    np.testing.assert_allclose(_float(found), _float(expected), rtol=rounding, atol=rounding / 4)
    np.testing.assert_allclose(_float(layer(x)), _float(expected), rtol=4 * rounding, atol=rounding)
    gradient, exact_gradient = tape.gradient(loss, x), tape.gradient(exact_loss, exact)
    np.testing.assert_allclose(_float(gradient), _float(exact_gradient), rtol=rounding, atol=2 * rounding)


@pytest.fixture
def in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(devices, "has_bfloat16", lambda: True)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *_: [])
    with fit.compute_dtype(mixed=True):
        yield


def _results(layer: keras.Layer, kernel: np.ndarray, x: np.ndarray, upstream: np.ndarray) -> list[tf.Tensor]:
    """Output of a convolution with that kernel, gradient of the input, gradient of the kernel."""
    layer.build(x.shape)
    layer.kernel.assign(kernel)
    pixels = tf.cast(x, layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        output = layer(pixels)
        loss = tf.reduce_sum(output * tf.cast(upstream, output.dtype))
    return [output, *tape.gradient(loss, [pixels, layer.kernel.value])]


def _assert_alike(found: list[tf.Tensor], expected: list[tf.Tensor]) -> None:
    assert [one.shape for one in found] == [one.shape for one in expected]
    for one, other in zip(found, expected, strict=True):
        largest = abs(_float(other)).max()
        np.testing.assert_allclose(_float(one) / largest, _float(other) / largest, atol=0.02)


@pytest.mark.usefixtures("in_bfloat16")
@pytest.mark.parametrize(("height", "width"), [(3, 4), (7, 6), (7, 8), (9, 9)])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_same_convolution_has_keras_s_gradients_on_maps_of_any_size(
    height: int, width: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(height)
    x, upstream = (random.normal(size=(6, height, width, count)).astype(np.float32) for count in (4, 5))
    by_matrices, products = [], _fused._kernel_gradient
    monkeypatch.setattr(_fused, "_kernel_gradient", lambda *given: by_matrices.append(1) or products(*given))
    kernel = random.normal(size=(size, size, 4, 5)).astype(np.float32)
    ours = _fused.SameConv2D(5, size, kernel_initializer=keras.initializers.Zeros(), name="ours")
    keras_s = keras.layers.Conv2D(5, size, padding="same", use_bias=False, dtype="float32")

    found = _results(ours, kernel, x, upstream)

    assert found[0].dtype == tf.bfloat16
    assert bool(by_matrices) == (max(height, width) <= 7)
    _assert_alike(found, _results(keras_s, kernel, x, upstream))


@pytest.mark.usefixtures("in_bfloat16")
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize(("height", "width"), [(4, 7), (8, 5), (2, 2)])
def test_depthwise_convolution_has_keras_s_gradients_with_any_kernel_and_stride(
    height: int, width: int, size: int, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(height)
    x = random.normal(size=(6, height, width, 3)).astype(np.float32)
    upstream = random.normal(size=(6, -(-height // stride), -(-width // stride), 3)).astype(np.float32)
    kernel = random.normal(size=(size, size, 3, 1)).astype(np.float32)
    in_parts, gradient = [], _fused._gradient_of_5x5
    monkeypatch.setattr(_fused, "_gradient_of_5x5", lambda *given: in_parts.append(1) or gradient(*given))
    ours = _fused.SameDepthwiseConv2D(size, stride, name="ours")
    keras_s = keras.layers.DepthwiseConv2D(size, stride, padding="same", use_bias=False, dtype="float32")

    found = _results(ours, kernel, x, upstream)

    assert found[0].dtype == tf.bfloat16
    assert bool(in_parts) == (size == 5)
    _assert_alike(found, _results(keras_s, kernel, x, upstream))


@pytest.mark.parametrize("relu6", [True, False])
@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("trainable", [True, False])
def test_frozen_batch_norm_is_keras_s(
    relu6: bool, mixed: bool, trainable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "has_bfloat16", lambda: True)
    random = np.random.default_rng(0)
    x, upstream = random.normal(2.0, 3.0, (2, 6, 4, 5, 3)).astype(np.float32)
    with fit.compute_dtype(mixed=mixed):
        ours = _fused.FrozenBatchNorm(1e-3, relu6=relu6, name="ours")
    keras_s = keras.layers.BatchNormalization(epsilon=1e-3)
    found = []
    for layer in (ours, keras_s):
        layer.build(x.shape)
        layer.set_weights(np.array([[0.5, 2.0, 1.0], [1.0, -1.0, 3.0], [2.0, 1.0, 2.0], [4.0, 9.0, 8.0]]))
        layer.trainable = trainable
        pixels = tf.cast(x, layer.compute_dtype)
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            normalised = layer(pixels, training=True)
            if relu6 and layer is keras_s:
                normalised = tf.nn.relu6(normalised)
            loss = tf.reduce_sum(normalised * tf.cast(upstream, normalised.dtype))
        answer = layer(pixels)
        answer = tf.nn.relu6(answer) if relu6 and layer is keras_s else answer
        found.append([normalised, answer, tape.gradient(loss, pixels)])

    assert found[0][0].dtype == (tf.bfloat16 if mixed else tf.float32)
    for one, other in zip(*found, strict=True):
        near = np.isclose(_float(one), _float(other), rtol=0.01 if mixed else 1e-5, atol=0.05 if mixed else 1e-5)
        # in bfloat16 a value next to 0 or 6 may fall on the other side, where it has no gradient
        assert near.mean() > (0.98 if mixed else 0.999)


@pytest.mark.usefixtures("in_bfloat16")
def test_gradient_of_5x5_is_the_same_where_the_size_is_known_only_when_it_runs() -> None:
    x, upstream = (
        tf.cast(np.random.default_rng(1).normal(size=(2, side, side + 1, 3)), tf.bfloat16) for side in (8, 4)
    )
    unknown = tf.TensorSpec((None, None, None, 3), tf.bfloat16)
    in_graph = tf.function(lambda x, upstream: _fused._gradient_of_5x5(x, upstream, 2), [unknown, unknown])

    expected = _fused._gradient_of_5x5(x, upstream, 2)

    assert expected.shape == (5, 5, 3, 1)
    np.testing.assert_array_equal(_float(in_graph(x, upstream)), _float(expected))


@pytest.mark.parametrize(
    "build",
    [
        partial(airbench.build_with, "tiny", 12, 12, 3, (4, 6, 6)),
        partial(architectures.build, "efficientnet_lite0", 12, 12, 3),
    ],
)
def test_inference_in_float32_compiles_nothing(build: Callable[[], keras.Model]) -> None:
    network = build()

    def compiled(*, training: bool) -> int:
        answer = tf.function(lambda pixels: network(pixels, training=training)["logits"])
        graph = answer.get_concrete_function(tf.TensorSpec((None, 12, 12, 3))).graph.as_graph_def()
        return sum(function.attr["_XlaMustCompile"].b for function in graph.library.function)

    assert compiled(training=False) == 0
    assert (compiled(training=True) > 0) == (network.name == "tiny")


def _float(tensor: tf.Tensor) -> npt.NDArray[np.float64]:
    return np.asarray(tf.cast(tensor, tf.float64))
