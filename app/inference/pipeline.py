"""The path of one image, as three calls: decode, submit, rank."""

import time
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from app.inference.batcher import Batcher
from app.inference.decode import Decoder
from app.inference.engines.base import Images
from app.inference.explain import Explained, Explainer, Heatmap
from app.inference.rank import Ranking, rank
from models.manifest import Manifest
from models.preprocess import Box


class Timing(NamedTuple):
    """Seconds that each stage took."""

    decode_s: float
    queue_s: float
    inference_s: float


class StageObserver(Protocol):
    """Told how long a stage took for one image, and how long ago it ended, in seconds."""

    def __call__(self, stage: str, seconds: float, ended_s: float = 0.0) -> None: ...


class Pipeline:
    def __init__(self, decoder: Decoder, observe: StageObserver) -> None:
        self._decoder = decoder
        self._observe = observe

    async def classify(
        self, data: bytes, manifest: Manifest, batcher: Batcher, top_k: int, deadline: float
    ) -> tuple[Ranking, Timing]:
        """Classify one picture on one version. `deadline` is a time of `time.monotonic`."""
        probabilities, timing = await self.infer(data, manifest, batcher, deadline)
        return self.rank(probabilities, manifest, top_k), timing

    def rank(self, probabilities: npt.NDArray[np.float32], manifest: Manifest, top_k: int) -> Ranking:
        """The ranking of probabilities float32 [C]."""
        with self.stage("rank"):
            return rank(probabilities, manifest, top_k)

    async def infer(
        self, picture: bytes | Images, manifest: Manifest, batcher: Batcher, deadline: float
    ) -> tuple[npt.NDArray[np.float32], Timing]:
        """Probabilities float32 [C] of a file's bytes, or of pixels uint8 [H, W, 3] as the manifest wants them."""
        with self.stage("decode") as decoding:
            image = (
                await self._decoder.decode(picture, manifest.input, manifest.name)
                if isinstance(picture, bytes)
                else picture
            )
        inference = await batcher.submit(image, deadline)
        self._observe("queue", inference.queue_s, inference.inference_s)
        self._observe("inference", inference.inference_s)
        return inference.probabilities, Timing(decoding.seconds, inference.queue_s, inference.inference_s)

    async def explain(
        self, data: bytes, manifest: Manifest, explainer: Explainer, class_id: int, deadline: float
    ) -> tuple[Explained, Box, Timing]:
        """Explain one picture for a class, or for `TOP_CLASS`, and say which part of it the model saw."""
        with self.stage("decode") as decoding:
            image, region = await self._decoder.look(data, manifest.input, manifest.name)
        explained = await explainer.explain(image, class_id, deadline)
        self._observe("queue", explained.queue_s, explained.inference_s)
        self._observe("inference", explained.inference_s)
        return explained, region, Timing(decoding.seconds, explained.queue_s, explained.inference_s)

    async def overlay(self, data: bytes, heat: Heatmap, region: Box, manifest: Manifest) -> bytes:
        """PNG of the picture with heat float32 [h, w], from 0 to 1, laid over what the model saw."""
        return await self._decoder.overlay(data, heat, region, manifest.name)

    def stage(self, name: str) -> "Stage":
        """Tells the observer how long the block took, unless it failed; so does what it yields."""
        return Stage(name, self._observe)


class Stage:
    def __init__(self, name: str, observe: StageObserver) -> None:
        self._name, self._observe = name, observe
        self.seconds = 0.0

    def __enter__(self) -> "Stage":
        self._started = time.perf_counter()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self.seconds = time.perf_counter() - self._started
            self._observe(self._name, self.seconds)
