"""A trained network -> a published version: SavedModel, OpenVINO IR, golden.npz, manifest."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.manifest import GOLDEN_FILE, Manifest, Precision
from models.quiet import without_openvino_telemetry
from models.repository import ModelRepository, RepositoryError, VersionFolder
from training.evaluate import Probabilities, predict

without_openvino_telemetry()
import openvino as ov  # noqa: E402

# float32 leaves room for weights rounded to float16 in the IR; bfloat16 for its 8 bits of mantissa in every layer
GOLDEN_TOLERANCE: dict[Precision, float] = {"f32": 0.02, "bf16": 0.15}
_GOLDEN_EXAMPLES = 8

Endpoint = Callable[[tf.Tensor], dict[str, tf.Tensor]]


class ExportError(RepositoryError):
    """What was written does not give back what was trained; nothing was published."""


def save(network: keras.Model, temperature: float, folder: Path) -> None:
    """Write the SavedModel and the IR of `network` with its temperature and softmax into `folder`.

    `serving_default`: images uint8 [N, H, W, 3] -> probabilities float32 [N, C]. `explain`: the same ->
    probabilities, embedding [N, D], features [N, h, w, D'].
    """
    _, height, width, channels = network.input_shape
    signature = [tf.TensorSpec((None, height, width, channels), tf.uint8, name="images")]

    def explain(images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = network(tf.cast(images, tf.float32), training=False)
        return {
            "probabilities": tf.nn.softmax(outputs["logits"] / temperature),
            "embedding": outputs["embedding"],
            "features": outputs["features"],
        }

    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": explain(images)["probabilities"]}

    _write(network, {"serving_default": serve, "explain": explain}, signature, folder)
    # OpenVINO reads one endpoint of a SavedModel, the default: so the IR comes from a second one with all outputs
    with TemporaryDirectory() as all_outputs:
        _write(network, {"serving_default": explain}, signature, Path(all_outputs))
        ov.save_model(ov.convert_model(all_outputs), folder / "openvino" / "model.xml", compress_to_fp16=True)


def _write(network: keras.Model, endpoints: dict[str, Endpoint], signature: list[tf.TensorSpec], folder: Path) -> None:
    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    signatures = {name: tf.function(function, input_signature=signature) for name, function in endpoints.items()}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    # Empty, or changed by every export, and read by nobody
    (folder / "assets").rmdir()
    (folder / "fingerprint.pb").unlink(missing_ok=True)


def golden(saved_model: Path, candidates: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
    """A few inputs and their probabilities: the most confident candidates, of as many classes as can be."""
    probabilities = predict(saved_model, candidates)
    by_confidence = np.argsort(-probabilities.max(axis=1), kind="stable")
    _, first_of_class = np.unique(probabilities[by_confidence].argmax(axis=1), return_index=True)
    order = np.concatenate([np.sort(first_of_class), np.setdiff1d(np.arange(len(candidates)), first_of_class)])
    chosen = by_confidence[order[:_GOLDEN_EXAMPLES]]
    return {"images": candidates[chosen], "probabilities": probabilities[chosen]}


def publish(
    network: keras.Model,
    temperature: float,
    draft: Manifest,
    golden_candidates: npt.NDArray[np.uint8],
    repository: ModelRepository,
) -> VersionFolder:
    """Write everything aside, check it, publish it under the next number. Raises `ExportError`."""
    with repository.staging() as folder:
        try:
            save(network, temperature, folder)
        except (RuntimeError, tf.errors.OpError) as error:  # of OpenVINO and of TensorFlow, where the disk is full
            raise ExportError(f"the version can't be written: {error}") from error
        examples = golden(folder, golden_candidates)
        np.savez_compressed(folder / GOLDEN_FILE, allow_pickle=False, **examples)
        _check(network, temperature, folder, **examples)
        return repository.publish(folder, draft)


def _check(
    network: keras.Model,
    temperature: float,
    folder: Path,
    images: npt.NDArray[np.uint8],
    probabilities: Probabilities,
) -> None:
    logits = network(images.astype("float32"), training=False)["logits"]
    trained = keras.ops.convert_to_numpy(keras.ops.softmax(logits / temperature))
    core = ov.Core()
    ir = core.compile_model(folder / "openvino" / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for name, found in (("SavedModel", probabilities), ("OpenVINO IR", ir(images)["probabilities"])):
        difference = float(np.abs(found - trained).max())
        if not difference <= GOLDEN_TOLERANCE["f32"]:
            raise ExportError(f"the {name} differs from the trained network by {difference:.4f} in a probability")
