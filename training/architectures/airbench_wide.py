"""`airbench` with wider groups, 128/384/384, for longer training (the variant of arXiv:2404.00498 for 95 %)."""

import keras

from training.architectures import airbench

NATIVE = airbench.NATIVE
prepare = airbench.prepare

_WIDTHS = (128, 384, 384)


def build(height: int | None, width: int | None, classes: int) -> keras.Model:
    return airbench.build_with("airbench_wide", height, width, classes, _WIDTHS)
