"""TensorFlow on a GPU or a CPU: the SavedModel itself, the reference for every other engine."""

import logging
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from app.inference.engines.base import (
    CLASS_IDS,
    EMBEDDING,
    HEATMAP,
    IMAGES,
    PROBABILITIES,
    ClassIds,
    EngineError,
    Explanation,
    Images,
    Infer,
    Probabilities,
    Unexplained,
)
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

_SIGNATURE, _EXPLAIN = "serving_default", "explain"

_Compute = Callable[..., list[Any]]


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
        self._path = str(folder.path)
        self._serve, _ = self._load(_SIGNATURE, PROBABILITIES)

    def infer(self, images: Images) -> Probabilities:
        (found,) = self._serve(tf.constant(images))
        probabilities: Probabilities = found.numpy()
        return probabilities

    def load_rest(self, check: Callable[[Infer], None]) -> None:
        """There is none."""

    def load_explanations(self) -> None:
        _ = self._explaining

    def explain(self, images: Images, class_ids: ClassIds) -> Explanation:
        compute, inputs = self._explaining
        given = {CLASS_IDS: class_ids, IMAGES: images}
        probabilities, embedding, heatmap = compute(*(tf.constant(given[name]) for name in inputs))
        return Explanation(probabilities.numpy(), embedding.numpy(), None if heatmap is None else heatmap.numpy())

    @cached_property
    def _explaining(self) -> tuple[_Compute, list[str]]:
        """The model is loaded again: `infer` keeps only what it needs itself."""
        return self._load(_EXPLAIN, PROBABILITIES, EMBEDDING, HEATMAP)

    def _load(self, signature: str, *outputs: str) -> tuple[_Compute, list[str]]:
        try:
            model = tf.saved_model.load(self._path)
            if signature == _EXPLAIN and signature not in model.signatures:
                raise Unexplained
            return _frozen(model, signature, outputs)
        except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
            raise EngineError(f"{self._path}: TensorFlow can't load {signature}: {error}") from error


def _frozen(model: Any, name: str, outputs: Sequence[str]) -> tuple[_Compute, list[str]]:
    """The signature's outputs, None for one that it lacks, by its inputs, whose names come with it.

    It has constants for variables: folded into what follows, and never looked up.
    """
    signature = model.signatures[name]
    constant = convert_variables_to_constants_v2(signature)
    specs = dict(sorted(signature.structured_input_signature[1].items()))  # as TensorFlow flattens inputs and outputs
    places = {output: place for place, output in enumerate(sorted(signature.structured_outputs))}

    def compute(*inputs: tf.Tensor) -> list[tf.Tensor | None]:
        found = constant(*inputs)
        return [found[places[output]] if output in places else None for output in outputs]

    # Called directly, the converted function takes TensorFlow's slow way from Python
    frozen: _Compute = tf.function(compute, input_signature=list(specs.values())).get_concrete_function()
    return frozen, list(specs)


def set_threads(threads: int) -> None:
    """How many threads a batch may compute in, on a CPU. Once a model has run, it is too late to change."""
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError:
        logger.warning("TensorFlow has begun to compute already; its number of threads stays as it is")


def sees_gpu() -> bool:
    return bool(_GPUS)
