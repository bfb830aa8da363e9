"""One network a file. Each has `build(height, width, classes) -> keras.Model`:

input float32 [N, height, width, 3], RGB from 0 to 255, normalised inside; outputs a dict of `logits` [N, classes],
`embedding` [N, D] and `features` [N, h, w, D'], the last feature map. Some also have `prepare(network, images)`, which
sets weights by the training pictures.
"""

import importlib
from types import ModuleType

import keras
import numpy as np
import numpy.typing as npt


def build(name: str, height: int | None, width: int | None, classes: int) -> keras.Model:
    """The network of `training/architectures/<name>.py`, freshly initialised; some do without a height and width."""
    model: keras.Model = _module(name).build(height, width, classes)
    return model


def prepare(name: str, network: keras.Model, images: npt.NDArray[np.uint8]) -> None:
    """Set what the network takes from its training pictures, uint8 [N, H, W, 3], before the first step."""
    if hasattr(module := _module(name), "prepare"):
        module.prepare(network, images)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")
