"""VGG-16: thirteen 3x3 convolutions in five groups, and three dense layers.

Simonyan and Zisserman 2015 (arXiv:1409.1556), configuration D, as in keras.applications: 138,357,544 parameters at
224x224 for 1,000 classes, the first dense layer grows with the picture; input BGR less ImageNet's mean. Pictures of
less than 32 pixels are enlarged.
"""

from collections.abc import Callable

import keras
from keras import layers

from training.architectures._common import at_least, caffe, with_logits

NATIVE = (224, 224, 1000)


def build(height: int, width: int, classes: int) -> keras.Model:
    return build_with(height, width, classes, "vgg16", keras.applications.VGG16)


def build_with(
    height: int, width: int, classes: int, name: str, application: Callable[..., keras.Model]
) -> keras.Model:
    """The network with the convolutions of `application`."""
    pixels = keras.Input((height, width, 3), name="pixels")
    x = caffe(at_least(pixels, 32))
    features = application(weights=None, include_top=False, input_tensor=x).output
    x = layers.Dense(4096, activation="relu", name="fc1")(layers.Flatten()(features))
    embedding = layers.Dense(4096, activation="relu", name="fc2")(layers.Dropout(0.5)(x))
    return with_logits(name, pixels, features, embedding, classes, dropout=0.5)
