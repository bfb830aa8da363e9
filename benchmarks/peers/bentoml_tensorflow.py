"""BentoML: an API service that decodes, and a model service with adaptive batching behind it, on TensorFlow."""

import json
import os
from pathlib import Path

import bentoml
import numpy as np
from PIL.Image import Image, Resampling

FOLDER = Path(os.environ["MODEL_FOLDER"])
MANIFEST = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))


@bentoml.service(workers=1, traffic={"timeout": 60})
class Model:
    def __init__(self) -> None:
        import tensorflow as tf

        self.tf = tf
        self.model = tf.saved_model.load(str(FOLDER))
        self.infer = self.model.signatures["serving_default"]
        spec = MANIFEST["input"]
        for size in range(1, 9):  # traced and warmed before the first request
            self.infer(images=tf.zeros((size, spec["height"], spec["width"], 3), tf.uint8))

    @bentoml.api(batchable=True, max_batch_size=8, max_latency_ms=60_000)
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        return self.infer(images=self.tf.constant(images))["probabilities"].numpy()


@bentoml.service(workers=1, traffic={"timeout": 60, "concurrency": 128})
class Classifier:
    model = bentoml.depends(Model)

    def __init__(self) -> None:
        self.labels = [label["name"] for label in MANIFEST["labels"]]

    @bentoml.api(route="/predict")
    async def predict(self, file: Image) -> dict[str, object]:
        spec = MANIFEST["input"]
        image = file.convert("RGB")
        if spec["resize"] == "crop":
            side = min(image.size) * spec["crop_fraction"]
            left, top = (image.width - side) / 2, (image.height - side) / 2
            image = image.crop((round(left), round(top), round(left + side), round(top + side)))
        pixels = np.asarray(image.resize((spec["width"], spec["height"]), Resampling.BICUBIC))
        probabilities = (await self.model.to_async.probabilities(pixels[None]))[0]
        top = np.argsort(-probabilities)[:5]
        return {"predictions": [{"label": self.labels[i], "confidence": float(probabilities[i])} for i in top]}
