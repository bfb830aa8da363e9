"""LitServe with its batching, and TensorFlow: `decode_request`, `batch`, `predict`, `unbatch`, `encode_response`."""

import io
import json
import os
from pathlib import Path

import litserve as ls
import numpy as np
from PIL import Image

FOLDER = Path(os.environ["MODEL_FOLDER"])


class ClassifierAPI(ls.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002  the signature is LitServe's
        import tensorflow as tf

        self.tf = tf
        manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
        self.spec = manifest["input"]
        self.labels = [label["name"] for label in manifest["labels"]]
        self.model = tf.saved_model.load(str(FOLDER))
        self.infer = self.model.signatures["serving_default"]
        for size in range(1, self.max_batch_size + 1):  # traced and warmed before the first request
            self.infer(images=tf.zeros((size, self.spec["height"], self.spec["width"], 3), tf.uint8))

    def decode_request(self, request) -> np.ndarray:
        image = Image.open(io.BytesIO(request["file"].file.read())).convert("RGB")
        if self.spec["resize"] == "crop":
            side = min(image.size) * self.spec["crop_fraction"]
            left, top = (image.width - side) / 2, (image.height - side) / 2
            image = image.crop((round(left), round(top), round(left + side), round(top + side)))
        return np.asarray(image.resize((self.spec["width"], self.spec["height"]), Image.Resampling.BICUBIC))

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def predict(self, images: np.ndarray) -> np.ndarray:
        if images.ndim == 3:
            images = images[None]
        return self.infer(images=self.tf.constant(images))["probabilities"].numpy()

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        return list(output)

    def encode_response(self, probabilities: np.ndarray) -> dict[str, object]:
        probabilities = probabilities.reshape(-1)
        top = np.argsort(-probabilities)[:5]
        return {"predictions": [{"label": self.labels[i], "confidence": float(probabilities[i])} for i in top]}


if __name__ == "__main__":
    api = ClassifierAPI(max_batch_size=8, batch_timeout=0.005)
    server = ls.LitServer(
        api, accelerator="cpu", devices=1, workers_per_device=int(os.environ.get("WORKERS", "1")), timeout=60
    )
    server.run(port=int(os.environ["PORT"]), generate_client_file=False, log_level="warning")
