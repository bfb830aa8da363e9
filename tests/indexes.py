"""Small indexes for the tests of all parts, as training publishes them."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models import nearest
from models.index_manifest import CLASSES_FILE, INDEX_FILE, IndexManifest, Kind
from models.indexes import IndexFolder, IndexStore, ThumbnailWriter
from models.repository import ModelRepository

DIMENSION = 4


def embeddings(n: int, dimension: int = DIMENSION, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dimension)).astype(np.float32)


def jpeg(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), (shade, shade, shade)).save(buffer, "JPEG")
    return buffer.getvalue()


def publish(
    root: Path,
    vectors: np.ndarray,
    name: str = "photos",
    kind: Kind = "exact",
    thumbnails: bool = True,
    **changes: Any,
) -> IndexFolder:
    """An index of these embeddings, of which every other one is a 'cup' and the rest have no label."""
    repository = ModelRepository(root)
    given = {"bits": 64} if kind == "lsh" else {}
    built = nearest.build(vectors, kind, nearest.resolved(kind, given))
    with repository.staging() as staged:
        built.write(staged / INDEX_FILE)
        np.array([0, -1] * len(vectors), "<i4")[: len(vectors)].tofile(staged / CLASSES_FILE)
        if thumbnails:
            writer = ThumbnailWriter(staged)
            for number in range(len(vectors)):
                writer.add(jpeg(number))
            writer.close()
        fields = {
            "name": name,
            "model": "cups",
            "version": 1,
            "model_sha256": "0" * 64,
            "kind": kind,
            "parameters": built.parameters,
            "size": len(vectors),
            "dimension": vectors.shape[1],
            "labels": ("cup",),
            "created_at": datetime(2025, 1, 2, tzinfo=UTC),
            "dataset": "made up",
        }
        return IndexStore(repository).publish(staged, IndexManifest.model_construct(**(fields | changes)))
