"""A small network that learns CIFAR-10 in few epochs: a frozen whitening stem and three groups of two convolutions.

Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (arXiv:2404.00498). BatchNorm follows its data quickly
and has no scale, the convolutions begin as the identity, the head ends in a fixed factor. For ten classes 1,971,352
parameters, the published 1.97 million; with the 288 of the stem's kernel and the moving statistics of 1,152 BatchNorm
channels 1,973,944. Two things differ for the sake of a CPU's time: GELU in its form with a sigmoid, and the stem's
bias, there trained for three epochs, stays as it is: no gradient has to pass the first trained convolution.
"""

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from training.architectures._fused import FusedBatchNorm, QuickGelu, SameConv2D
from training.splits import spread

NATIVE = (32, 32, 10)

WIDTHS = (64, 256, 256)
_STEM_KERNEL = 2
_STEM_EPSILON = 5e-4
_STEM_PICTURES = 5000
# Of CIFAR-10's training pictures, in the scale of 0 to 1
_MEAN = (0.4914, 0.4822, 0.4465)
_DEVIATION = (0.2470, 0.2435, 0.2616)


def build(height: int | None, width: int | None, classes: int) -> keras.Model:
    return build_with("airbench", height, width, classes, WIDTHS)


def build_with(
    name: str, height: int | None, width: int | None, classes: int, widths: tuple[int, int, int]
) -> keras.Model:
    """The network with other widths of its groups; without height and width, for pictures of any size."""
    pixels = keras.Input((height, width, 3), name="pixels")
    # In float32 whatever the policy: whitening divides by small numbers, and costs next to nothing
    x = _normalise(pixels)
    x = layers.Conv2D(2 * 3 * _STEM_KERNEL**2, _STEM_KERNEL, name="stem", dtype="float32")(x)
    x = QuickGelu()(x)
    for index, filters in enumerate(widths):
        x = _group(x, filters, f"group{index}")
    embedding = layers.GlobalMaxPooling2D()(x)
    head = layers.Dense(classes, use_bias=False, kernel_initializer=keras.initializers.RandomNormal(stddev=1.0))
    logits = layers.Rescaling(1 / widths[-1])(head(embedding))
    network = keras.Model(pixels, {"logits": logits, "embedding": embedding, "features": x}, name=name)
    network.get_layer("stem").trainable = False
    return network


def prepare(network: keras.Model, images: npt.NDArray[np.uint8]) -> None:
    """Set the stem so that 2x2 patches of `images`, uint8 [N, H, W, 3], come out whitened, and once more negated."""
    pictures = np.asarray(_normalise(spread(images, _STEM_PICTURES).astype(np.float32)))
    size = _STEM_KERNEL
    windows = np.lib.stride_tricks.sliding_window_view(pictures, (size, size), axis=(1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, size * size * 3).astype(np.float64)
    values, vectors = np.linalg.eigh(patches.T @ patches / len(patches))
    whitening = vectors / np.sqrt(values + _STEM_EPSILON)
    kernel = np.concatenate([whitening, -whitening], axis=1).reshape(size, size, 3, -1)
    stem = network.get_layer("stem")
    stem.set_weights([kernel, np.zeros(kernel.shape[-1])])


def _normalise(pixels: keras.KerasTensor) -> keras.KerasTensor:
    scale = [1 / (255 * deviation) for deviation in _DEVIATION]
    offset = [-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)]
    return layers.Rescaling(scale, offset=offset, dtype="float32")(pixels)


def _group(x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
    x = layers.MaxPooling2D(2)(_convolution(x, filters, f"{name}_conv0"))
    x = QuickGelu()(_norm(x, f"{name}_bn0"))
    x = _norm(_convolution(x, filters, f"{name}_conv1"), f"{name}_bn1")
    return QuickGelu()(x)


def _convolution(x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
    return SameConv2D(filters, 3, kernel_initializer=PartialIdentity(), name=name)(x)


def _norm(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return FusedBatchNorm(momentum=0.6, epsilon=1e-5, scale=False, name=name)(x)


class PartialIdentity(keras.initializers.Initializer):
    """The first filters of a convolution hand on its input, the others begin at random."""

    def __call__(self, shape: tuple[int, ...], dtype: str | None = None) -> keras.KerasTensor:
        height, width, inputs, outputs = shape
        limit = 1 / np.sqrt(height * width * inputs)
        kernel = keras.ops.convert_to_numpy(keras.random.uniform(shape, -limit, limit)).copy()
        kept = min(inputs, outputs)
        kernel[..., :kept] = 0.0
        kernel[height // 2, width // 2, range(kept), range(kept)] = 1.0
        return keras.ops.convert_to_tensor(kernel, dtype)
