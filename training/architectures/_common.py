"""What several networks share: how pixels are normalised, what happens to pictures that are too small, the outputs."""

import keras
import numpy as np
from keras import layers

# Luma weights of ITU-R BT.601, those by which Pillow makes a picture grey
_LUMA = np.array([0.299, 0.587, 0.114], "float32").reshape(1, 1, 3, 1)
# Of ImageNet's training pictures: RGB, in the scale of 0 to 1 and in that of 0 to 255
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN = (123.68, 116.779, 103.939)


def at_least(pixels: keras.KerasTensor, side: int) -> keras.KerasTensor:
    """Pictures with a side shorter than `side` enlarged until none is, bilinearly and in proportion."""
    _, height, width, _ = pixels.shape
    shorter = min(height, width)
    if shorter >= side:
        return pixels
    height, width = (round(length * side / shorter) for length in (height, width))
    return layers.Resizing(height, width, interpolation="bilinear", dtype="float32")(pixels)


# These three are in float32 whatever the policy, which costs next to nothing
def symmetric(pixels: keras.KerasTensor) -> keras.KerasTensor:
    """From -1 to 1, as the Inception family expects it."""
    return layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32")(pixels)


def standardised(pixels: keras.KerasTensor) -> keras.KerasTensor:
    """By ImageNet's mean and deviation, as in torchvision."""
    scale = [1 / (255 * deviation) for deviation in _DEVIATION]
    offset = [-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)]
    return layers.Rescaling(scale, offset=offset, dtype="float32")(pixels)


def caffe(pixels: keras.KerasTensor) -> keras.KerasTensor:
    """BGR less ImageNet's mean, in the scale of 0 to 255."""
    return layers.Rescaling(1.0, offset=[-mean for mean in _CAFFE_MEAN], dtype="float32")(pixels)[..., ::-1]


def grey(pixels: keras.KerasTensor) -> keras.KerasTensor:
    """One channel from three. Its three weights are fixed, they count among those that are not trainable."""
    return layers.Conv2D(1, 1, use_bias=False, kernel_initializer=_luma, trainable=False, name="grey")(pixels)


def conv_norm(
    x: keras.KerasTensor,
    filters: int,
    kernel: int | tuple[int, int],
    *,
    strides: int = 1,
    padding: str = "same",
    groups: int = 1,
    epsilon: float = 1e-5,
    relu: bool = True,
) -> keras.KerasTensor:
    """Convolution without bias, BatchNorm, ReLU. With strides, 'same' pads all sides alike, as in PyTorch."""
    if strides > 1 and padding == "same" and isinstance(kernel, int) and kernel > 1:
        x, padding = layers.ZeroPadding2D(kernel // 2)(x), "valid"
    x = layers.Conv2D(filters, kernel, strides, padding=padding, groups=groups, use_bias=False)(x)
    x = layers.BatchNormalization(epsilon=epsilon)(x)
    return layers.ReLU()(x) if relu else x


def averaged(
    name: str, pixels: keras.KerasTensor, features: keras.KerasTensor, classes: int, dropout: float = 0.0
) -> keras.Model:
    """The network whose head is global average pooling and one dense layer."""
    embedding = layers.GlobalAveragePooling2D()(features)
    return with_logits(name, pixels, features, embedding, classes, dropout)


def with_logits(
    name: str,
    pixels: keras.KerasTensor,
    features: keras.KerasTensor,
    embedding: keras.KerasTensor,
    classes: int,
    dropout: float = 0.0,
) -> keras.Model:
    """The network whose last dense layer reads `embedding`, in training with dropout before it."""
    x = layers.Dropout(dropout)(embedding) if dropout else embedding
    outputs = {"logits": layers.Dense(classes, name="logits")(x), "embedding": embedding, "features": features}
    return keras.Model(pixels, outputs, name=name)


def _luma(shape: tuple[int, ...], dtype: str | None = None) -> keras.KerasTensor:
    return keras.ops.convert_to_tensor(np.broadcast_to(_LUMA, shape), dtype=dtype)
