"""Decode, submit, rank, and what each of them took."""

from typing import Any

import numpy as np
import pytest

from app.errors import UnreadableImage
from app.inference.batcher import Inference
from app.inference.decode import Decoder
from app.inference.pipeline import Pipeline
from tests.app.conftest import manifest, png


class _Batcher:
    """Answers at once, and remembers what it was asked."""

    async def submit(self, image: np.ndarray, deadline: float) -> Inference:
        self.asked = (image.tolist(), deadline)
        return Inference(np.array([0.25, 0.75, 0], np.float32), queue_s=2.0, inference_s=3.0)


def _pipeline(observed: list[tuple[str, float, float]]) -> tuple[Pipeline, Any]:
    def observe(stage: str, seconds: float, ended_s: float = 0.0) -> None:
        observed.append((stage, seconds, ended_s))

    return Pipeline(Decoder(1, 100), observe), _Batcher()


async def test_picture_is_decoded_submitted_and_ranked() -> None:
    observed: list[tuple[str, float, float]] = []
    pipeline, batcher = _pipeline(observed)
    ranking, timing = await pipeline.classify(png(9), manifest(), batcher, 2, 123.0)

    assert batcher.asked == ([[[9, 9, 9], [9, 9, 9]], [[9, 9, 9], [9, 9, 9]]], 123.0)
    assert [(p.label, p.confidence) for p in ranking.predictions] == [("bright", 0.75), ("dark", 0.25)]
    assert (timing.queue_s, timing.inference_s) == (2.0, 3.0)
    decode, queue, inference, ranked = observed
    assert decode == ("decode", timing.decode_s, 0.0)
    assert timing.decode_s > 0
    assert (queue, inference) == (("queue", 2.0, 3.0), ("inference", 3.0, 0.0))  # the queue ended before inference
    assert (ranked[0], ranked[2]) == ("rank", 0.0)


async def test_stage_that_failed_is_not_timed() -> None:
    observed: list[tuple[str, float, float]] = []
    pipeline, batcher = _pipeline(observed)
    with pytest.raises(UnreadableImage):
        await pipeline.classify(b"", manifest(), batcher, 2, 123.0)
    assert observed == []
