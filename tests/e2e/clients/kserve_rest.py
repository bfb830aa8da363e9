"""KServe's own REST client against a service at the URL given, and an espresso's photo. Exits with 0 if all is well."""

import asyncio
import base64
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import InferResponse, RequestedOutput
from PIL import Image

ESPRESSO = 967
BINARY = {"binary_data_output": True}


class Client:
    def __init__(self, url: str) -> None:
        self.url = url
        self.rest = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))

    async def infer(self, tensor: InferInput, model: str = "imagenet", **more: object) -> InferResponse:
        return await self.rest.infer(self.url, InferRequest(model, [tensor], **more), model_name=model)


def pixels(photo: Path) -> np.ndarray:
    """uint8 [1, 224, 224, 3]"""
    with Image.open(photo) as image:
        return np.asarray(image.convert("RGB").resize((224, 224)))[None]


def tensor(name: str, datatype: str, values: np.ndarray, *, binary: bool = True) -> InferInput:
    made = InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def outputs(response: InferResponse) -> dict[str, np.ndarray]:
    return {output.name: output.as_numpy() for output in response.outputs}


@asynccontextmanager
async def refused(status: int, words: str) -> AsyncIterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        assert error.response.status_code == status, error
        assert words in str(error), error
    else:
        raise AssertionError(f"expected {status} with '{words}'")


async def health(client: Client, _: Path) -> None:
    assert await client.rest.is_server_live(client.url) is True
    assert await client.rest.is_server_ready(client.url) is True
    assert await client.rest.is_model_ready(client.url, "imagenet") is True
    assert await client.rest.is_model_ready(client.url, "nope") is False


async def file_in_binary(client: Client, photo: Path) -> None:
    values = np.array([photo.read_bytes()], np.object_)
    for parameters in (None, BINARY):
        response = await client.infer(tensor("image", "BYTES", values), request_id="cup-1", parameters=parameters)
        assert (response.id, response.model_name) == ("cup-1", "imagenet")
        found = outputs(response)
        assert found["probabilities"].shape == (1, 1000)
        assert found["probabilities"][0].argmax() == ESPRESSO
        assert found["label"].tolist() == ["espresso"]


async def file_in_json(client: Client, photo: Path) -> None:
    values = np.array([base64.b64encode(photo.read_bytes())], np.object_)
    found = outputs(await client.infer(tensor("image", "BYTES", values, binary=False)))
    assert found["probabilities"][0].argmax() == ESPRESSO


async def pixels_in_binary_and_json(client: Client, photo: Path) -> None:
    found = [
        outputs(await client.infer(tensor("images", "UINT8", pixels(photo), binary=binary)))["probabilities"]
        for binary in (True, False)
    ]
    assert found[0][0].argmax() == found[1][0].argmax() == ESPRESSO
    assert np.abs(found[0] - found[1]).max() < 0.01


async def requested_outputs(client: Client, photo: Path) -> None:
    top = RequestedOutput("probabilities", {"classification": 2, "binary_data": True})
    response = await client.infer(tensor("images", "UINT8", pixels(photo)), request_outputs=[top])
    found = outputs(response)
    assert list(found) == ["probabilities"]
    assert found["probabilities"].shape == (1, 2)
    assert found["probabilities"][0, 0].split(":")[1:] == [str(ESPRESSO), "espresso"]


async def wrong_requests(client: Client, photo: Path) -> None:
    values = pixels(photo)
    async with refused(404, "no model 'nope'"):
        await client.infer(tensor("images", "UINT8", values), "nope")
    async with refused(400, "got 'input-0'"):
        await client.infer(tensor("input-0", "UINT8", values))
    async with refused(400, "expected datatype UINT8, got FP32"):
        await client.infer(tensor("images", "FP32", values.astype(np.float32)))
    for binary in (True, False):
        async with refused(400, "expected shape [-1, 224, 224, 3], got [1, 224, 223, 3]"):
            await client.infer(tensor("images", "UINT8", values[:, :, 1:], binary=binary))


CASES: tuple[Callable[[Client, Path], Awaitable[None]], ...] = (
    health,
    file_in_binary,
    file_in_json,
    pixels_in_binary_and_json,
    requested_outputs,
    wrong_requests,
)


async def main(url: str, photo: Path) -> None:
    client = Client(url)
    for case in CASES:
        await case(client, photo)
        sys.stdout.write(f"{case.__name__}\n")
    await client.rest.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
