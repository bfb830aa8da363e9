"""Pixels -> rows, in Ray's actors: one for each device, with one version on the service's engines."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from app.batch import rows
from app.cores import available_cores
from app.errors import InferenceFailed
from app.inference import engines
from app.inference.engines import EngineFactory, EngineName
from app.inference.engines.base import Engine, Images, Infer, Probabilities, batch_sizes, prove
from app.inference.rank import rank
from models.manifest import Manifest, Precision
from models.repository import VersionFolder

Block = dict[str, Any]

PART, ROW = "part", "row"

_BATCH_SIZES = {"CPU": 8, "GPU": 64}


@dataclass(frozen=True)
class Wanted:
    """What is to be computed, and with what. `top_k` None wants no list of the best."""

    folder: VersionFolder
    manifest: Manifest
    engine: EngineName
    precision: Precision
    top_k: int | None
    batch_size: int | None


class Classify:
    """Rows of the output, after their `part` and `row`, for the blocks that `Decode` makes."""

    def __init__(self, wanted: Wanted, load_engine: EngineFactory | None = None) -> None:
        """Raises `EngineError` where the version does not compute as its manifest says."""
        if load_engine is None:
            load_engine = engines.factory(wanted.engine, wanted.precision, available_cores())
        engine = load_engine(wanted.folder, wanted.manifest)
        size = wanted.batch_size or _BATCH_SIZES[engine.device]
        prove(engine, wanted.folder, wanted.manifest, size * max(1, len(engine.lanes)))
        self._wanted = wanted
        self._sizes = batch_sizes(size)
        self._lanes = _lanes(engine)
        self._threads = ThreadPoolExecutor(len(self._lanes), "lane")
        self._schema = rows.schema(ranked=wanted.top_k is not None)

    def __call__(self, block: Block) -> pa.Table:
        found: list[rows.Row] = [
            rows.of_error(code, message) for code, message in zip(block["code"], block["message"], strict=True)
        ]
        batches = self._batches(np.flatnonzero(block["code"] == ""))
        turn = threading.Lock()

        def compute(infer: Infer) -> None:
            while True:
                with turn:
                    places = next(batches, None)
                if places is None:
                    return
                for place, row in zip(places, self._rows(infer, block["pixels"][places]), strict=True):
                    found[place] = row

        list(self._threads.map(compute, self._lanes))
        about = {"model": self._wanted.manifest.name, "version": self._wanted.manifest.version}
        for row, path in zip(found, block["path"], strict=True):
            row.update(about, path=path)
        table = rows.table(found, self._schema)
        return table.add_column(0, PART, pa.array(block[PART])).add_column(1, ROW, pa.array(block[ROW]))

    def _batches(self, places: np.ndarray) -> Iterator[np.ndarray]:
        """Of the sizes that the engine has been warmed up with, the largest first."""
        while len(places):
            size = max(size for size in self._sizes if size <= len(places))
            yield places[:size]
            places = places[size:]

    def _rows(self, infer: Infer, images: Images) -> list[rows.Row]:
        """A batch that fails is tried again image by image, so that a poisonous one fails alone."""
        try:
            probabilities = infer(images)
            if probabilities.shape[0] != len(images) or not np.isfinite(probabilities).all():
                raise ValueError(
                    f"the engine gave {probabilities.shape} for {len(images)} images, or no finite numbers"
                )
        except Exception as error:
            if len(images) == 1:
                return [rows.of_error(InferenceFailed.code, f"the model failed on this image: {error}")]
            return [row for image in images for row in self._rows(infer, image[None])]
        top_k = self._wanted.top_k or 1
        return [rows.of_ranking(rank(one, self._wanted.manifest, top_k)) for one in probabilities]


def _lanes(engine: Engine) -> list[Infer]:
    """The engine's lanes. One without any computes a batch at a time; meanwhile another thread ranks the last one."""
    if engine.lanes:
        return list(engine.lanes)
    return [_one_at_a_time(engine.infer)] * 2


def _one_at_a_time(infer: Infer) -> Callable[[Images], Probabilities]:
    turn = threading.Lock()

    def wait_and_infer(images: Images) -> Probabilities:
        with turn:
            return infer(images).copy()  # engines may reuse the memory of their outputs for the next batch

    return wait_and_infer
