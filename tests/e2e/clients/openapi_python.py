"""Calls by a client that openapi-python-client has made of the service's OpenAPI document. mypy reads this, too."""

import base64
import importlib
import io
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any

import demitasse_client
from demitasse_client.api.models import list_models
from demitasse_client.api.open_inference_protocol import v2_infer
from demitasse_client.api.predict import predict, predict_batch
from demitasse_client.api.tensor_flow_serving import tfs_infer
from demitasse_client.models import (
    ErrorBody,
    InferRequest,
    InferResponse,
    InputTensor,
    ModelsBody,
    PictureForm,
    PictureJson,
    PicturesForm,
    PredictBatchBody,
    PredictBody,
    ServingAnswer,
    ServingRequest,
    TfsInferMethod,
)
from demitasse_client.types import File


def main(url: str, picture: bytes) -> dict[str, Any]:
    """What each kind of call found. Every module is imported: one that can't be is found by nobody else."""
    for module in pkgutil.walk_packages(demitasse_client.__path__, "demitasse_client."):
        importlib.import_module(module.name)
    encoded = base64.b64encode(picture).decode()
    client = demitasse_client.Client(base_url=url, raise_on_unexpected_status=True)

    def file() -> File:
        return File(io.BytesIO(picture), "picture.jpg", "image/jpeg")

    live = list_models.sync(client=client)
    assert isinstance(live, ModelsBody)

    labels = []
    for body in (PictureForm(file=file()), file(), PictureJson(image=encoded)):
        found = predict.sync(client=client, body=body, top_k=2)
        assert isinstance(found, PredictBody)
        labels.append(found.predictions[0].label)

    batch = predict_batch.sync(client=client, body=PicturesForm(files=[file(), file()]))
    assert isinstance(batch, PredictBatchBody)

    refused = predict.sync_detailed(client=client, body=PictureForm(file=file()), model="tea")
    assert isinstance(refused.parsed, ErrorBody)

    tensor = InputTensor(name="image", shape=[1], datatype="BYTES", data=[encoded])
    inferred = v2_infer.sync("imagenet", client=client, body=InferRequest(inputs=[tensor]))
    assert isinstance(inferred, InferResponse)

    examples = ServingRequest(examples=[{"b64": encoded}])
    classified = tfs_infer.sync("imagenet", TfsInferMethod.CLASSIFY, client=client, body=examples)
    assert isinstance(classified, ServingAnswer)
    assert classified.results

    return {
        "models": [model.name for model in live.models],
        "predict": labels,
        "predict_batch": len(batch.results),
        "error": [refused.status_code.value, refused.parsed.error.code],
        "v2_infer": [output.name for output in inferred.outputs],
        "tfs_infer": classified.results[0][0][0],
    }


if __name__ == "__main__":
    json.dump(main(sys.argv[1], Path(sys.argv[2]).read_bytes()), sys.stdout)
