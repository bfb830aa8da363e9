"""A version that OpenVINO computes in no time, and an S3 server that can be stopped."""

import logging
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
from moto.server import ThreadedMotoServer

from models.manifest import Abstention, Conformal, Decision, Manifest
from models.repository import ModelRepository, VersionFolder
from tests.app.conftest import GOLDEN_SHADE, manifest, shades

DECISION = Decision(
    abstention=Abstention(threshold=0.6, target_risk=0.1, confidence_level=0.9, coverage=0.8, n=10, dataset="shades"),
    conformal=Conformal(alpha=0.1, quantile=0.7, n=10, dataset="shades"),
)


class S3Server:
    """On loopback. What it holds outlives a stop."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request would hide what failed
        self._port = 0
        self.start()

    def start(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port, verbose=False)
        self._server.start()
        _, self._port = self._server.get_host_and_port()

    def stop(self) -> None:
        self._server.stop()

    @property
    def account(self) -> dict[str, str]:
        """What a process needs in its environment. Nobody tries more often than we do."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def storage(self) -> Any:
        account = self.account
        return fsspec.filesystem(
            "s3",
            key=account["AWS_ACCESS_KEY_ID"],
            secret=account["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=account["AWS_ENDPOINT_URL"],
            use_listings_cache=False,
        )

    def bucket(self, files: Mapping[str, bytes]) -> str:
        """The address of a new one with these files."""
        name = f"bucket-{uuid.uuid4().hex}"
        self.storage().mkdir(name)
        for path, data in files.items():
            self.storage().pipe_file(f"{name}/{path}", data)
        return f"s3://{name}"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


def decided() -> Manifest:
    return manifest(decision=DECISION)


def publish_ir(root: Path) -> VersionFolder:
    """The fake engine's function as OpenVINO IR."""
    images = ops.parameter([-1, 2, 2, 3], np.uint8, name="images")
    bright = ops.reduce_mean(ops.divide(ops.convert(images, "f32"), np.float32(255)), np.array([1, 2, 3]))
    column = ops.unsqueeze(bright, np.array(1))
    found = ops.concat([ops.subtract(np.float32(1), column), column, ops.multiply(column, np.float32(0))], axis=1)
    found.output(0).set_names({"probabilities"})
    golden = np.full((2, 2, 2, 3), GOLDEN_SHADE, np.uint8)
    repository = ModelRepository(root)
    with repository.staging() as staged:
        (staged / "openvino").mkdir()
        ov.save_model(ov.Model([ops.result(found)], [images], "fake"), staged / "openvino" / "model.xml")
        np.savez(staged / "golden.npz", images=golden, probabilities=shades(golden))
        return repository.publish(staged, decided())
