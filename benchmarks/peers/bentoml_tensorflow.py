"""BentoML: one service with adaptive batching, on TensorFlow.

Decoding is part of the batch. As a service of its own before the model's, which BentoML's documentation shows as well,
a third of the answers to 64 clients were 500: the connections between the two services broke.
"""

import json
import os
from pathlib import Path

import bentoml
import numpy as np
from PIL.Image import Image, Resampling

FOLDER = Path(os.environ["MODEL_FOLDER"])
MANIFEST = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))


@bentoml.service(
    workers=1,
    traffic={"timeout": 60, "max_concurrency": 128},
    logging={"access": {"enabled": False}},
)
class Classifier:
    def __init__(self) -> None:
        import tensorflow as tf

        self.tf = tf
        self.model = tf.saved_model.load(str(FOLDER))
        self.infer = self.model.signatures["serving_default"]
        self.labels = [label["name"] for label in MANIFEST["labels"]]
        spec = MANIFEST["input"]
        for size in range(1, 9):  # traced and warmed before the first request
            self.infer(images=tf.zeros((size, spec["height"], spec["width"], 3), tf.uint8))

    @bentoml.api(route="/predict", batchable=True, max_batch_size=8, max_latency_ms=60_000)
    def predict(self, file: list[Image]) -> list[dict[str, object]]:
        images = np.stack([self.pixels(image) for image in file])
        answers = self.infer(images=self.tf.constant(images))["probabilities"].numpy()
        return [self.ranked(probabilities) for probabilities in answers]

    def pixels(self, image: Image) -> np.ndarray:
        spec = MANIFEST["input"]
        image = image.convert("RGB")
        if spec["resize"] == "crop":
            side = min(image.size) * spec["crop_fraction"]
            left, top = (image.width - side) / 2, (image.height - side) / 2
            image = image.crop((round(left), round(top), round(left + side), round(top + side)))
        return np.asarray(image.resize((spec["width"], spec["height"]), Resampling.BICUBIC))

    def ranked(self, probabilities: np.ndarray) -> dict[str, object]:
        top = np.argsort(-probabilities)[:5]
        return {"predictions": [{"label": self.labels[i], "confidence": float(probabilities[i])} for i in top]}
