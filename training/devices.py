"""On what a run trains, and what it tells TensorBoard."""

from pathlib import Path
from typing import Literal

import keras
import tensorflow as tf


def strategy(name: Literal["single", "mirrored"]) -> tf.distribute.Strategy:
    """`single` is the first device; `mirrored` all GPUs of this machine, or its logical CPUs where there is none."""
    if name == "single":
        return tf.distribute.get_strategy()
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    return tf.distribute.MirroredStrategy([device.name for device in tf.config.list_logical_devices(kind)])


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16. Others emulate it, which is slower than float32."""
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def tensorboard(folder: Path) -> keras.callbacks.Callback:
    """Writes its logs to `folder / "tensorboard"`."""
    return keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False)
