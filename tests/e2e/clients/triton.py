"""Triton's own client against a service at the URL given, and an espresso's photo. Exits with 0 if all is well."""

import base64
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

Client = InferenceServerClient
ESPRESSO = 967


def pixels(photo: Path) -> np.ndarray:
    """uint8 [1, 224, 224, 3]"""
    with Image.open(photo) as image:
        return np.asarray(image.convert("RGB").resize((224, 224)))[None]


def files(*data: bytes) -> InferInput:
    tensor = InferInput("image", [len(data)], "BYTES")
    tensor.set_data_from_numpy(np.array(data, np.object_))
    return tensor


def images(values: np.ndarray, binary: bool = True) -> InferInput:
    tensor = InferInput("images", list(values.shape), "UINT8")
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


@contextmanager
def refused(status: str, words: str) -> Iterator[None]:
    try:
        yield
    except InferenceServerException as error:
        assert error.status() == status, error
        assert words in error.message(), error
    else:
        raise AssertionError(f"expected {status} with '{words}'")


def health_and_metadata(client: Client, _: Path) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("imagenet")
    assert client.is_model_ready("imagenet", "1")
    assert not client.is_model_ready("nope")
    assert not client.is_model_ready("imagenet", "99")
    assert client.get_server_metadata()["name"] == "demitasse"
    metadata = client.get_model_metadata("imagenet")
    assert metadata == client.get_model_metadata("imagenet", "1")
    assert (metadata["name"], metadata["versions"]) == ("imagenet", ["1"])
    assert metadata["inputs"] == [
        {"name": "image", "datatype": "BYTES", "shape": [-1]},
        {"name": "images", "datatype": "UINT8", "shape": [-1, 224, 224, 3]},
    ]
    assert metadata["outputs"] == [
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 1000]},
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
    ]
    index = client.get_model_repository_index()
    assert {"name": "imagenet", "version": "1", "state": "READY", "reason": ""} in index
    with refused("400", "folders"):
        client.load_model("imagenet")
    with refused("400", "folders"):
        client.unload_model("imagenet")


def file_in_binary(client: Client, photo: Path) -> None:
    result = client.infer("imagenet", [files(photo.read_bytes())], request_id="cup-1")
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("cup-1", "imagenet", "1")
    probabilities = result.as_numpy("probabilities")
    assert (probabilities.shape, probabilities.dtype) == ((1, 1000), np.float32)
    assert probabilities[0].argmax() == ESPRESSO
    assert abs(probabilities.sum() - 1) < 1e-3
    assert result.as_numpy("label").tolist() == [b"espresso"]


def file_compressed(client: Client, photo: Path) -> None:
    for algorithm in ("gzip", "deflate"):
        result = client.infer("imagenet", [files(photo.read_bytes())], request_compression_algorithm=algorithm)
        assert result.as_numpy("label").tolist() == [b"espresso"]


def file_in_json(client: Client, photo: Path) -> None:
    tensor = InferInput("image", [1, 1], "BYTES")
    encoded = base64.b64encode(photo.read_bytes())
    tensor.set_data_from_numpy(np.array([[encoded]], np.object_), binary_data=False)
    wanted = [
        InferRequestedOutput("probabilities", binary_data=False),
        InferRequestedOutput("label", binary_data=False),
    ]
    result = client.infer("imagenet", [tensor], outputs=wanted)
    assert result.get_output("probabilities")["data"]
    assert result.as_numpy("probabilities")[0].argmax() == ESPRESSO
    assert result.as_numpy("label").tolist() == ["espresso"]


def pixels_in_binary_and_json(client: Client, photo: Path) -> None:
    values = pixels(photo)
    found = [
        client.infer("imagenet", [images(values, binary)], model_version="1").as_numpy("probabilities")
        for binary in (True, False)
    ]
    assert found[0][0].argmax() == found[1][0].argmax() == ESPRESSO
    assert np.abs(found[0] - found[1]).max() < 0.01


def several_pictures(client: Client, photo: Path) -> None:
    values = np.concatenate([np.zeros_like(pixels(photo)), pixels(photo), np.zeros_like(pixels(photo))])
    found = client.infer("imagenet", [images(values)]).as_numpy("probabilities")
    assert found.shape == (3, 1000)
    assert (found.argmax(axis=1) == ESPRESSO).tolist() == [False, True, False]
    labels = client.infer("imagenet", [files(*[photo.read_bytes()] * 5)]).as_numpy("label")
    assert labels.tolist() == [b"espresso"] * 5


def classification(client: Client, photo: Path) -> None:
    for binary in (True, False):
        wanted = [InferRequestedOutput("probabilities", binary_data=binary, class_count=3)]
        result = client.infer("imagenet", [files(photo.read_bytes())], outputs=wanted)
        found = result.as_numpy("probabilities")
        assert found.shape == (1, 3)
        texts = [text.decode() if isinstance(text, bytes) else text for text in found[0]]
        values = [float(text.split(":")[0]) for text in texts]
        assert texts[0].split(":")[1:] == [str(ESPRESSO), "espresso"]
        assert values == sorted(values, reverse=True)
        assert result.as_numpy("label") is None


def many_at_a_time(client: Client, photo: Path) -> None:
    pending = [client.async_infer("imagenet", [files(photo.read_bytes())]) for _ in range(16)]
    assert {request.get_result().as_numpy("label")[0] for request in pending} == {b"espresso"}


def wrong_requests(client: Client, photo: Path) -> None:
    values = pixels(photo)
    with refused("404", "no model 'nope'"):
        client.infer("nope", [images(values)])
    with refused("404", "no version 99"):
        client.infer("imagenet", [images(values)], model_version="99")
    with refused("404", "no label 'latest'"):
        client.infer("imagenet", [images(values)], model_version="latest")
    with refused("400", "expected shape [-1, 224, 224, 3], got [1, 223, 224, 3]"):
        client.infer("imagenet", [images(values[:, 1:])])
    with refused("400", "got 'image', 'images'"):
        client.infer("imagenet", [files(photo.read_bytes()), images(values)])
    other = InferInput("input_1", list(values.shape), "UINT8")
    other.set_data_from_numpy(values)
    with refused("400", "expected one input, 'image' or 'images', got 'input_1'"):
        client.infer("imagenet", [other])
    floats = InferInput("images", list(values.shape), "FP32")
    floats.set_data_from_numpy(values.astype(np.float32))
    with refused("400", "expected datatype UINT8, got FP32"):
        client.infer("imagenet", [floats])
    with refused("400", "got 'logits'"):
        client.infer("imagenet", [images(values)], outputs=[InferRequestedOutput("logits")])
    with refused("400", "picture 1: "):
        client.infer("imagenet", [files(photo.read_bytes(), b"I am no picture")])
    with refused("413", "bytes"):
        client.infer("imagenet", [files(bytes(30 * 2**20))])


CASES: tuple[Callable[[Client, Path], None], ...] = (
    health_and_metadata,
    file_in_binary,
    file_compressed,
    file_in_json,
    pixels_in_binary_and_json,
    several_pictures,
    classification,
    many_at_a_time,
    wrong_requests,
)

if __name__ == "__main__":
    address, picture = sys.argv[1:]
    triton = InferenceServerClient(address.removeprefix("http://"), concurrency=4, network_timeout=60)
    for case in CASES:
        case(triton, Path(picture))
        sys.stdout.write(f"{case.__name__}\n")
    triton.close()
