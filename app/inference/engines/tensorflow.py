"""TensorFlow on a GPU or a CPU: the SavedModel itself, the reference for every other engine."""

import logging
import os
from collections.abc import Callable
from typing import Any

from app.inference.engines.base import EngineError, Images, Infer, Probabilities
from app.settings import PrecisionChoice
from models.manifest import Manifest, Precision
from models.quiet import without_native_chatter
from models.repository import VersionFolder

# By itself, TensorFlow uses oneDNN on some processors only; without it, a network takes up to twice the time
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

with without_native_chatter():
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    _GPUS = tf.config.list_physical_devices("GPU")
    for _gpu in _GPUS:
        # Otherwise the first model would take all of the GPU's memory
        tf.config.experimental.set_memory_growth(_gpu, enable=True)

logger = logging.getLogger(__name__)

_SIGNATURE = "serving_default"
_OUTPUT = "probabilities"


class TensorFlowEngine:
    name = "tensorflow"
    device = "GPU" if _GPUS else "CPU"
    lanes: tuple[Infer, ...] = ()

    def __init__(
        self,
        folder: VersionFolder,
        manifest: Manifest,  # noqa: ARG002  every engine is given it
        precision: Precision,
    ) -> None:
        self.precision = precision
        try:
            self._serve = _frozen(tf.saved_model.load(str(folder.path)))
        except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
            raise EngineError(f"{folder.path}: TensorFlow can't load {_SIGNATURE}: {error}") from error

    def infer(self, images: Images) -> Probabilities:
        found: Probabilities = self._serve(tf.constant(images)).numpy()
        return found


def _frozen(model: Any) -> Callable[[tf.Tensor], tf.Tensor]:
    """The signature's probabilities, with constants for variables: folded into what follows, and never looked up."""
    signature = model.signatures[_SIGNATURE]
    constant = convert_variables_to_constants_v2(signature)
    place = sorted(signature.structured_outputs).index(_OUTPUT)  # the order in which TensorFlow flattens them
    # Called directly, the converted function takes TensorFlow's slow way from Python
    function = tf.function(
        lambda images: constant(images)[place], input_signature=list(signature.structured_input_signature[1].values())
    )
    frozen: Callable[[tf.Tensor], tf.Tensor] = function.get_concrete_function()
    return frozen


def resolve_precision(precision: PrecisionChoice) -> Precision:
    """f32, in which the SavedModel was written. Raises `EngineError` for anything else."""
    if precision == "bf16":
        raise EngineError("PRECISION=bf16 needs the OpenVINO engine; TensorFlow computes in f32")
    return "f32"


def set_threads(threads: int) -> None:
    """What a batch may compute in, on a CPU. Comes too late, and changes nothing, once a model has run."""
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError:
        logger.warning("TensorFlow has begun to compute already; its number of threads stays as it is")


def sees_gpu() -> bool:
    return bool(_GPUS)
