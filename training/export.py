"""A trained network -> a published version: SavedModel, OpenVINO IR, golden.npz, manifest."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.manifest import GOLDEN_FILE, Architecture, InputSpec, Label, Manifest, Precision, Provenance
from models.quiet import without_openvino_telemetry
from models.repository import ModelRepository, RepositoryError, VersionFolder
from training.calibrate import scale
from training.conclude import Conclusion
from training.evaluate import Probabilities, predict
from training.heatmap import OPENVINO_RULES, grad_cam

without_openvino_telemetry()
import openvino as ov  # noqa: E402
from openvino.tools.ovc import convert_model  # noqa: E402

# float32 leaves room for weights rounded to float16 in the IR; bfloat16 for its 8 bits of mantissa in every layer
GOLDEN_TOLERANCE: dict[Precision, float] = {"f32": 0.02, "bf16": 0.15}
_GOLDEN_EXAMPLES = 8


class ExportError(RepositoryError):
    """What was written does not give back what was trained; nothing was published."""


def save(network: keras.Model, temperature: float, folder: Path) -> None:
    """Write the SavedModel and the IR of `network` with its temperature, softmax and mean of views into `folder`.

    `serving_default`: images uint8 [N, H, W, 3] -> probabilities float32 [N, C]. `explain`: the same and class_ids
    int32 [N] -> probabilities, embedding [N, D], features [N, h, w, D'], heatmap [N, h, w]: `grad_cam` of the logit,
    over the temperature, of that class, or of the top one where its id is negative.
    """
    _, height, width, channels = network.input_shape
    pixels = tf.TensorSpec((None, height, width, channels), tf.uint8, name="images")
    chosen = tf.TensorSpec((None,), tf.int32, name="class_ids")

    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = network(tf.cast(images, tf.float32), training=False)["logits"]
        return {"probabilities": _mean_of_views(tf.nn.softmax(logits / temperature))}

    def explain(images: tf.Tensor, class_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = network(tf.cast(images, tf.float32), training=False)
        own_logits = outputs.get("own_logits", outputs["logits"]) / temperature
        probabilities = _mean_of_views(tf.nn.softmax(outputs["logits"] / temperature))
        top = tf.argmax(probabilities, axis=1, output_type=tf.int32)
        return {
            "probabilities": probabilities,
            "embedding": outputs["embedding"],
            "features": outputs["features"],
            "heatmap": grad_cam(own_logits, outputs["features"], tf.where(class_ids < 0, top, class_ids)),
        }

    serving = tf.function(serve, input_signature=[pixels])
    explaining = tf.function(explain, input_signature=[pixels, chosen])
    _write(network, {"serving_default": serving, "explain": explaining}, folder)
    # OpenVINO reads one endpoint of a SavedModel, the default: so the IR comes from a second one with all outputs
    with TemporaryDirectory() as all_outputs:
        _write(network, {"serving_default": explaining}, Path(all_outputs))
        model = convert_model(all_outputs, extension=OPENVINO_RULES)
        ov.save_model(model, folder / "openvino" / "model.xml", compress_to_fp16=True)


def _mean_of_views(probabilities: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(probabilities, axis=1) if probabilities.shape.rank == 3 else probabilities


def probabilities_of(network: keras.Model, temperature: float, images: npt.NDArray[np.uint8]) -> Probabilities:
    """What a version of the network answers [N, C] for images [N, H, W, 3], without its graph."""
    logits = keras.ops.convert_to_numpy(network(images.astype("float32"), training=False)["logits"])
    return scale(logits, temperature).astype(np.float32)


def _write(network: keras.Model, endpoints: dict[str, Any], folder: Path) -> None:
    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    tf.saved_model.save(module, str(folder), signatures=endpoints)
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


def draft(
    *,
    name: str,
    description: str,
    architecture: str,
    network: keras.Model,
    spec: InputSpec,
    labels: tuple[Label, ...],
    conclusion: Conclusion,
    provenance: Provenance,
) -> Manifest:
    """The manifest of a version that is yet to be published: `publish` fills in its number and its files."""
    return Manifest(
        name=name,
        version=1,
        description=description,
        created_at=datetime.now(UTC).replace(microsecond=0),
        architecture=Architecture(name=architecture, parameters=network.count_params()),
        input=spec,
        labels=labels,
        calibration=conclusion.calibration,
        decision=conclusion.decision,
        metrics=conclusion.metrics,
        provenance=provenance,
        golden_tolerance=GOLDEN_TOLERANCE,
        files={},
    )


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
    trained = probabilities_of(network, temperature, images)
    core = ov.Core()
    ir = core.compile_model(folder / "openvino" / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    explained = ir({"images": images, "class_ids": np.full(len(images), -1, np.int32)})
    for name, found in (("SavedModel", probabilities), ("OpenVINO IR", explained["probabilities"])):
        difference = float(np.abs(found - trained).max())
        if not difference <= GOLDEN_TOLERANCE["f32"]:
            raise ExportError(f"the {name} differs from the trained network by {difference:.4f} in a probability")
