"""One network a file. Each has `build(height, width, classes) -> keras.Model`:

input float32 [N, height, width, 3], RGB from 0 to 255, normalised inside; outputs a dict of `logits` [N, classes],
`embedding` [N, D] and `features` [N, h, w, D'], the last feature map.
"""

import importlib

import keras


def build(name: str, height: int, width: int, classes: int) -> keras.Model:
    """The network of `training/architectures/<name>.py`, freshly initialised."""
    module = importlib.import_module(f"{__name__}.{name}")
    model: keras.Model = module.build(height, width, classes)
    return model
