"""EfficientNet-Lite0 for small pictures, which it enlarges four times.

Made for photos, it would shrink 32x32 pixels to one place; enlarged they have a last feature map of 4x4.
"""

import keras
from keras import layers

from training.architectures import efficientnet_lite0

NATIVE = (32, 32, 10)
_FACTOR = 4


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    # In float32 whatever the policy: between two pixels bfloat16 has too few steps
    enlarged = layers.UpSampling2D(_FACTOR, interpolation="bilinear", dtype="float32")(pixels)
    return efficientnet_lite0.of("efficientnet_lite0_x4", pixels, enlarged, classes)
