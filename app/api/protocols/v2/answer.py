"""Probabilities -> the body that goes out, with what is wanted in binary behind its JSON."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from fastapi import Response

from app.api.protocols.v2 import signature, tensors
from app.api.protocols.v2.bodies import DataParameters, InferResponse, OutputTensor
from app.api.protocols.v2.request import HEADER_LENGTH, Asked, Wanted
from app.inference.rank import Prediction, rank
from app.registry import LiveVersion
from models.manifest import Manifest


def answer(asked: Asked, probabilities: Sequence[npt.NDArray[np.float32]], live: LiveVersion) -> Response:
    """`probabilities` is float32 [C] for each picture."""
    outputs, parts = [], []
    for wanted in asked.outputs:
        tensor, part = _output(wanted, probabilities, live.manifest)
        outputs.append(tensor)
        parts.append(part)
    body = InferResponse(
        model_name=live.folder.name, model_version=str(live.folder.version), id=asked.id, outputs=outputs
    )
    header = body.model_dump_json(exclude_none=True).encode()
    if not any(wanted.binary for wanted in asked.outputs):
        return Response(header, media_type="application/json")
    headers = {HEADER_LENGTH: str(len(header))}
    return Response(b"".join((header, *parts)), headers=headers, media_type="application/octet-stream")


def _output(
    wanted: Wanted, probabilities: Sequence[npt.NDArray[np.float32]], manifest: Manifest
) -> tuple[OutputTensor, bytes]:
    """The tensor as it stands in the JSON, and what of it comes behind that."""
    count, classes = len(probabilities), len(manifest.labels)
    if wanted.name == signature.PROBABILITIES and wanted.classes is None:
        values = np.stack(probabilities)
        return _tensor(wanted, "FP32", [count, classes], values.ravel().tolist(), values.astype("<f4").tobytes())
    if wanted.classes is None:
        labels = [rank(one, manifest, 1).predictions[0].label for one in probabilities]
        return _tensor(wanted, "BYTES", [count], labels, tensors.to_bytes(labels))
    top = min(wanted.classes, classes)
    found = [
        _classification(prediction) for one in probabilities for prediction in rank(one, manifest, top).predictions
    ]
    return _tensor(wanted, "BYTES", [count, top], found, tensors.to_bytes(found))


def _classification(prediction: Prediction) -> str:
    return f"{prediction.confidence:f}:{prediction.class_id}:{prediction.label}"


def _tensor(
    wanted: Wanted, datatype: str, shape: list[int], values: list[float] | list[str], binary: bytes
) -> tuple[OutputTensor, bytes]:
    if wanted.binary:
        parameters = DataParameters(binary_data_size=len(binary))
        return OutputTensor(name=wanted.name, datatype=datatype, shape=shape, parameters=parameters), binary
    return OutputTensor(name=wanted.name, datatype=datatype, shape=shape, data=values), b""
