"""FastAPI and TensorFlow as most tutorials write it: `UploadFile`, Pillow, one image a call of the model."""

import io
import json
import os
from pathlib import Path

import numpy as np
import tensorflow as tf
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image

FOLDER = Path(os.environ["MODEL_FOLDER"])
MANIFEST = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
LABELS = [label["name"] for label in MANIFEST["labels"]]

app = FastAPI()
model = tf.saved_model.load(str(FOLDER))
infer = model.signatures["serving_default"]


def preprocess(image: Image.Image) -> np.ndarray:
    spec = MANIFEST["input"]
    image = image.convert("RGB")
    if spec["resize"] == "crop":
        side = min(image.size) * spec["crop_fraction"]
        left, top = (image.width - side) / 2, (image.height - side) / 2
        image = image.crop((round(left), round(top), round(left + side), round(top + side)))
    return np.asarray(image.resize((spec["width"], spec["height"]), Image.Resampling.BICUBIC))


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
def predict(file: UploadFile) -> dict[str, object]:
    pixels = preprocess(Image.open(io.BytesIO(file.file.read())))
    probabilities = infer(images=tf.constant(pixels[None]))["probabilities"].numpy()[0]
    top = np.argsort(-probabilities)[:5]
    return {"predictions": [{"label": LABELS[i], "confidence": float(probabilities[i])} for i in top]}


if __name__ == "__main__":
    infer(images=tf.zeros((1, MANIFEST["input"]["height"], MANIFEST["input"]["width"], 3), tf.uint8))
    uvicorn.run(app, port=int(os.environ["PORT"]), log_level="warning")
