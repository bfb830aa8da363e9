"""A small version to serve, an engine whose answers tell pictures apart, and an application around them."""

import asyncio
import io
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from app import platforms
from app.api.refusal import GATE
from app.inference.engines import EngineFactory
from app.inference.engines.base import Explanation
from app.main import create_app
from app.settings import Settings
from models.manifest import Architecture, Calibration, Decision, InputSpec, Label, Manifest, Provenance
from models.repository import ModelRepository, VersionFolder

LABELS = ("dark", "bright", "never")
GOLDEN_SHADE = 51
BASE_URL = "http://demitasse"


def shades(images: np.ndarray, classes: int = len(LABELS)) -> np.ndarray:
    """What the engine below answers: 'bright' is the first byte of the picture as a fraction, and 'dark' the rest."""
    found = np.zeros((len(images), classes), np.float32)
    found[:, 1] = images[:, 0, 0, 0] / np.float32(255)
    found[:, 0] = 1 - found[:, 1]
    return found


class FakeEngine:
    name, device, precision = "fake", "CPU", "f32"
    lanes: tuple[Any, ...] = ()

    def __init__(self, folder: VersionFolder | None = None, manifest: Manifest | None = None) -> None:
        self.classes = len(manifest.labels if manifest else LABELS)
        self.sizes: list[int] = []

    def infer(self, images: np.ndarray) -> np.ndarray:
        self.sizes.append(len(images))
        return shades(images, self.classes)

    def load_rest(self, check: Callable[[Any], None]) -> None:
        pass

    def load_explanations(self) -> None:
        pass

    def explain(self, images: np.ndarray, class_ids: np.ndarray) -> Explanation:
        found = shades(images, self.classes)
        return Explanation(found, found, None)


class ExplainingEngine(FakeEngine):
    """Its heat maps hold the class's number at the top left, 1 at the bottom right, and evidence against it else."""

    def __init__(self, folder: VersionFolder | None = None, manifest: Manifest | None = None) -> None:
        super().__init__(folder, manifest)
        self.explained = 0

    def explain(self, images: np.ndarray, class_ids: np.ndarray) -> Explanation:
        self.explained += 1
        found = shades(images, self.classes)
        heatmap = np.full((len(images), 2, 2), -1, np.float32)
        heatmap[:, 0, 0], heatmap[:, 1, 1] = class_ids, 1
        return Explanation(found, found[:, 1::-1], heatmap)


class HeldEngine(FakeEngine):
    """Computes a batch for each time that it is let; its self-test, of the golden shade alone, needs no leave."""

    def __init__(self, folder: VersionFolder | None = None, manifest: Manifest | None = None) -> None:
        super().__init__(folder, manifest)
        self._leave = threading.Semaphore(0)

    def infer(self, images: np.ndarray) -> np.ndarray:
        if (images == GOLDEN_SHADE).all():
            return shades(images)
        self.sizes.append(len(images))
        if not self._leave.acquire(timeout=20):
            raise TimeoutError("nobody let the engine compute")
        return shades(images)

    def let(self, batches: int = 1000) -> None:
        self._leave.release(batches)


def manifest(name: str = "cups", **changes: Any) -> Manifest:
    fields = {
        "name": name,
        "version": 1,
        "description": "tells dark from bright",
        "created_at": datetime(2025, 1, 2, tzinfo=UTC),
        "architecture": Architecture(name="fake", parameters=1),
        "input": InputSpec(height=2, width=2, resize="stretch"),
        "labels": [Label(name=label) for label in LABELS],
        "calibration": Calibration(method="none"),
        "decision": Decision(),
        "metrics": [],
        "provenance": Provenance(
            recipe="fake",
            settings={},
            git_commit=None,
            seed=None,
            dataset=None,
            pretrained=None,
            libraries={},
            device="CPU",
            wall_seconds=0.0,
        ),
        "golden_tolerance": {"f32": 0.01, "bf16": 0.1},
        "files": {},
    }
    return Manifest.model_validate(fields | changes)


def publish(root: Path, name: str = "cups", version: int | None = None, **changes: Any) -> VersionFolder:
    """Write a version as training does: its golden file agrees with `FakeEngine`."""
    repository = ModelRepository(root)
    draft = manifest(name, **changes)
    golden = np.full((2, draft.input.height, draft.input.width, 3), GOLDEN_SHADE, np.uint8)
    with repository.staging() as staged:
        (staged / "saved_model.pb").write_bytes(b"graph")
        np.savez(staged / "golden.npz", images=golden, probabilities=shades(golden, len(draft.labels)))
        return repository.publish(staged, draft, version)


def rewrite_manifest(folder: VersionFolder, **changes: Any) -> None:
    """Put other values into a published manifest, as somebody with an editor would."""
    path = folder.path / "manifest.json"
    aside = path.with_suffix(".new")  # a file of its own: the stamp has to change within the clock's tick as well
    aside.write_text(json.dumps(json.loads(path.read_text()) | changes))
    aside.replace(path)


def png(shade: int, size: tuple[int, int] = (2, 2)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(buffer, "PNG")
    return buffer.getvalue()


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop go on until something has come about; tests/conftest.py ends a test that hangs."""
    while not condition():
        await asyncio.sleep(0.001)


@dataclass
class Served:
    app: FastAPI
    http: httpx.AsyncClient
    engine: Any  # of the version that answers by default
    gate: Any  # what the server asks before a request becomes a task

    @property
    def batcher(self) -> Any:
        return self.app.state.registry.get().batcher


@pytest.fixture(autouse=True)
def _clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `.env` and no variable of the machine reaches the tests."""
    for name in (*map(str.upper, Settings.model_fields), *platforms.SIGNS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """What a test sets up for logging would write to its own captured output, which is closed by the next one."""
    loggers = [logging.getLogger(name) for name in (None, "app", "models", "python_multipart")]
    before = [(logger, logger.handlers, logger.level) for logger in loggers]
    yield
    for logger, logger.handlers, level in before:
        logger.setLevel(level)


def client(app: FastAPI) -> httpx.AsyncClient:
    # As uvicorn does it: what nobody caught is answered and not raised
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url=BASE_URL)


@asynccontextmanager
async def serving(root: Path, engine: EngineFactory = FakeEngine, **settings: Any) -> AsyncIterator[Served]:
    """The whole application on the repository `root`, once its models are loaded."""
    loaded = asyncio.Event()
    app = create_app(
        Settings(model_repository=root, decode_threads=1, **settings),
        load_engine=engine,
        on_first_load=lambda _: loaded.set(),
    )
    async with app.router.lifespan_context(app) as shared, client(app) as http:
        await loaded.wait()
        registry = app.state.registry
        yield Served(app, http, registry.get().engine if registry.ready else None, shared[GATE])
