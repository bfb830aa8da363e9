"""TensorFlow on a GPU or a CPU: the SavedModel itself, the reference for every other engine."""

from app.inference.engines.base import EngineError, Images, Probabilities
from app.settings import PrecisionChoice
from models.manifest import Manifest, Precision
from models.quiet import without_native_chatter
from models.repository import VersionFolder

with without_native_chatter():
    import tensorflow as tf

    _GPUS = tf.config.list_physical_devices("GPU")
    for _gpu in _GPUS:
        # Otherwise the first model would take all of the GPU's memory
        tf.config.experimental.set_memory_growth(_gpu, enable=True)

_SIGNATURE = "serving_default"
_OUTPUT = "probabilities"


class TensorFlowEngine:
    name = "tensorflow"
    device = "GPU" if _GPUS else "CPU"

    def __init__(
        self,
        folder: VersionFolder,
        manifest: Manifest,  # noqa: ARG002  every engine is given it
        precision: Precision,
    ) -> None:
        self.precision = precision
        try:
            # The signature's weights live as long as the object they were loaded with
            self._model = tf.saved_model.load(str(folder.path))
            self._serve = self._model.signatures[_SIGNATURE]
        except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
            raise EngineError(f"{folder.path}: TensorFlow can't load {_SIGNATURE}: {error}") from error

    def infer(self, images: Images) -> Probabilities:
        found: Probabilities = self._serve(images=tf.constant(images))[_OUTPUT].numpy()
        return found


def resolve_precision(precision: PrecisionChoice) -> Precision:
    """f32, in which the SavedModel was written. Raises `EngineError` for anything else."""
    if precision == "bf16":
        raise EngineError("PRECISION=bf16 needs the OpenVINO engine; TensorFlow computes in f32")
    return "f32"


def sees_gpu() -> bool:
    return bool(_GPUS)
