"""EfficientNet-Lite0: mobile inverted bottlenecks with ReLU6 and without squeeze-and-excitation.

Tan and Le 2019 (arXiv:1905.11946), in the Lite variant of the TensorFlow model garden: fixed stem and head,
4,652,008 trainable parameters for 1,000 classes, input (x - 127) / 128.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import keras
from keras import layers

from training.architectures._fused import FrozenBatchNorm, SameDepthwiseConv2D

NATIVE = (224, 224, 1000)
STEM_FILTERS = 32
HEAD_FILTERS = 1280
_EPSILON = 1e-3


@dataclass(frozen=True)
class Block:
    """One bottleneck; `expand` is the factor by which its first 1x1 convolution widens its input."""

    index: int
    kernel: int
    stride: int
    expand: int
    filters_in: int
    filters_out: int


# repeats, kernel, stride of the first, expand, filters
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def blocks() -> Iterator[Block]:
    """The sixteen bottlenecks in order."""
    index, filters_in = 0, STEM_FILTERS
    for repeats, kernel, stride, expand, filters in _STAGES:
        for repeat in range(repeats):
            yield Block(index, kernel, stride if repeat == 0 else 1, expand, filters_in, filters)
            index, filters_in = index + 1, filters


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    x = layers.Rescaling(1 / 128, offset=-127 / 128)(pixels)
    x = _norm(_conv(x, STEM_FILTERS, 3, 2, "stem_conv"), "stem_bn")
    for block in blocks():
        x = _bottleneck(x, block)
    features = _norm(_conv(x, HEAD_FILTERS, 1, 1, "head_conv"), "head_bn")
    embedding = layers.GlobalAveragePooling2D()(features)
    logits = layers.Dense(classes, name="classifier")(layers.Dropout(0.2)(embedding))
    outputs = {"logits": logits, "embedding": embedding, "features": features}
    return keras.Model(pixels, outputs, name="efficientnet_lite0")


def _bottleneck(x: keras.KerasTensor, block: Block) -> keras.KerasTensor:
    prefix, shortcut = f"block{block.index}_", x
    if block.expand != 1:
        x = _conv(x, block.filters_in * block.expand, 1, 1, prefix + "expand_conv")
        x = _norm(x, prefix + "expand_bn")
    x = SameDepthwiseConv2D(block.kernel, block.stride, name=prefix + "depthwise_conv")(x)
    x = _norm(x, prefix + "depthwise_bn")
    x = _norm(_conv(x, block.filters_out, 1, 1, prefix + "project_conv"), prefix + "project_bn", relu6=False)
    if block.stride == 1 and block.filters_in == block.filters_out:
        x = layers.Add()([x, shortcut])
    return x


def _conv(x: keras.KerasTensor, filters: int, kernel: int, stride: int, name: str) -> keras.KerasTensor:
    return layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=name)(x)


def _norm(x: keras.KerasTensor, name: str, *, relu6: bool = True) -> keras.KerasTensor:
    return FrozenBatchNorm(_EPSILON, relu6=relu6, name=name)(x)
