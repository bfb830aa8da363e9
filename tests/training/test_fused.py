"""Layers that train sooner are Keras's: the same results, the same gradients, in both precisions."""

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from training import devices, fit
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


@pytest.mark.parametrize(("height", "width"), [(3, 4), (7, 6), (7, 8), (9, 9)])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_same_convolution_has_keras_s_gradients_on_maps_of_any_size(
    height: int, width: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(height)
    pixels, weights = (random.normal(size=(6, height, width, count)).astype(np.float32) for count in (4, 5))
    by_matrices, products = [], _fused._kernel_gradient
    monkeypatch.setattr(_fused, "_kernel_gradient", lambda *given: by_matrices.append(1) or products(*given))
    kernel = random.normal(size=(size, size, 4, 5)).astype(np.float32)
    monkeypatch.setattr(devices, "has_bfloat16", lambda: True)
    with fit.compute_dtype(mixed=True):
        ours = _fused.SameConv2D(5, size, kernel_initializer=keras.initializers.Zeros(), name="ours")
    keras_s = keras.layers.Conv2D(5, size, padding="same", use_bias=False)
    found = []
    for layer in (ours, keras_s):
        layer.build(pixels.shape)
        layer.kernel.assign(kernel)
        x = tf.cast(pixels, layer.compute_dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = layer(x)
            loss = tf.reduce_sum(output * tf.cast(weights, output.dtype))
        found.append([output, *tape.gradient(loss, [x, layer.kernel.value])])

    assert found[0][0].dtype == tf.bfloat16
    assert bool(by_matrices) == (max(height, width) <= 7)
    for one, other in zip(*found, strict=True):
        largest = abs(_float(other)).max()
        np.testing.assert_allclose(_float(one) / largest, _float(other) / largest, atol=0.02)


def test_only_training_compiles_anything() -> None:
    network = airbench.build_with("tiny", 12, 12, 3, (4, 6, 6))

    def compiled(*, training: bool) -> int:
        answer = tf.function(lambda pixels: network(pixels, training=training)["logits"])
        graph = answer.get_concrete_function(tf.TensorSpec((None, 12, 12, 3))).graph.as_graph_def()
        return sum(function.attr["_XlaMustCompile"].b for function in graph.library.function)

    assert compiled(training=True) > 0
    assert compiled(training=False) == 0


def _float(tensor: tf.Tensor) -> npt.NDArray[np.float64]:
    return np.asarray(tf.cast(tensor, tf.float64))
