"""A minute model: trained, exported, evaluated and served. All agree on its probabilities, on every engine."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from app.inference.engines import factory
from app.main import create_app
from app.settings import Settings
from models.manifest import InputSpec, Label, Manifest
from models.preprocess import load_image
from models.repository import ModelRepository, VersionFolder
from training import evaluate, index
from training.pictures import of_folder
from training.recipe import Recipe
from training.run import run
from training.splits import Dataset, Split

LABELS = ("red", "green", "blue")
RECIPE = Recipe(
    model="colours",
    description="Which colour prevails",
    dataset="cifar10",
    architecture="workflow",
    input=InputSpec(height=16, width=24, crop_fraction=0.9),
    epochs=15,
    batch_size=16,
    learning_rate=1e-3,
    validation_size=10,
    calibration_size=60,
    decision_size=200,
)


def _split(n: int, seed: int) -> Split:
    """Noise in which one channel is brighter, by an amount that leaves some of them in doubt."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, 3, n)
    images = random.integers(0, 150, (n, 16, 24, 3))
    images[np.arange(n), :, :, classes] += random.integers(2, 60, (n, 1, 1))
    return Split(images.astype(np.uint8), classes.astype(np.int64))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelRepository, VersionFolder, Manifest]:
    repository = ModelRepository(tmp_path_factory.mktemp("models"))
    dataset = Dataset("cifar10", "made up", tuple(Label(name=name) for name in LABELS), _split(600, 1), _split(300, 2))
    return repository, *run("colours", RECIPE, dataset, repository)


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """Pictures as callers have them: other sizes, formats and modes than the model's."""
    random = np.random.default_rng(3)
    encoded = []
    for i, (mode, kind) in enumerate(
        [("RGB", "PNG"), ("RGB", "JPEG"), ("L", "PNG"), ("RGBA", "WEBP"), ("P", "GIF")] * 4
    ):
        coarse = random.integers(0, 150, (6, 8, 3))
        coarse[:, :, i % 3] += 10 * (i % 7)
        image = (
            Image.fromarray(coarse.astype(np.uint8))
            .resize((60 + 40 * i, 90 + 10 * i), Image.Resampling.BICUBIC)
            .convert(mode)
        )
        buffer = io.BytesIO()
        image.save(buffer, kind)
        encoded.append(buffer.getvalue())
    return encoded


@asynccontextmanager
async def _client(settings: Settings) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """The application, all versions of it live, and a client in the same process."""
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client,
    ):
        while not app.state.registry.ready:
            assert app.state.registry.refused == {}
            await asyncio.sleep(0.01)
        yield app, client


def _serve(repository: ModelRepository, pictures: list[bytes], **settings: object) -> tuple[str, list[dict]]:
    """All pictures at once through the application. Returns the precision that served, and the answers."""

    async def post_all() -> tuple[str, list[dict]]:
        async with _client(Settings(model_repository=repository.root, **settings)) as (app, client):
            posts = (client.post("/predict?top_k=3", files={"file": picture}) for picture in pictures)
            answers = await asyncio.gather(*posts)
            precision = app.state.registry.get().engine.precision
        assert {answer.status_code for answer in answers} == {200}
        return precision, [answer.json() for answer in answers]

    return asyncio.run(post_all())


def _by_class(answer: dict) -> list[float]:
    return [p["confidence"] for p in sorted(answer["predictions"], key=lambda p: p["class_id"])]


@pytest.mark.parametrize(
    ("engine", "precision"), [("tensorflow", "f32"), ("openvino", "f32"), ("openvino", "auto"), ("tensorflow", "auto")]
)
def test_served_probabilities_are_those_of_evaluate(published, pictures, engine: str, precision: str) -> None:
    repository, folder, manifest = published
    expected = evaluate.predict(folder.path, np.stack([load_image(data, manifest.input) for data in pictures]))
    served_precision, answers = _serve(repository, pictures, engine=engine, precision=precision)
    assert precision in ("auto", served_precision)
    # Confidences are rounded to six decimals
    tolerance = 2e-6 if engine == "tensorflow" else manifest.golden_tolerance[served_precision]
    found = np.array([_by_class(answer) for answer in answers])
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    assert len(np.unique(expected.argmax(axis=1))) > 1
    assert np.ptp(expected, axis=0).max() > 5 * tolerance  # the pictures differ by more than the tolerance hides


def test_reliable_and_prediction_set_follow_the_manifest(published, pictures) -> None:
    repository, _, manifest = published
    _, answers = _serve(repository, pictures, engine="tensorflow")
    abstention, conformal = manifest.decision.abstention, manifest.decision.conformal
    assert conformal is not None
    for answer in answers:
        probabilities = _by_class(answer)
        if abstention is None:
            assert answer["reliable"] is None
        else:
            assert answer["reliable"] == (max(probabilities) >= abstention.threshold)
        inside = [i for i in np.argsort(probabilities)[::-1] if 1 - probabilities[i] <= conformal.quantile]
        assert answer["prediction_set"] == [LABELS[i] for i in inside]


def test_explanations_are_the_same_on_every_engine_and_belong_to_what_is_served(published, pictures) -> None:
    _, folder, manifest = published
    images = np.stack([load_image(data, manifest.input) for data in pictures])
    class_ids = np.arange(len(images), dtype=np.int32) % 4 - 1  # the top class, too
    loaded = [factory(name, "f32", 2)(folder, manifest) for name in ("tensorflow", "openvino")]

    reference, other = (engine.explain(images, class_ids) for engine in loaded)

    np.testing.assert_allclose(reference.probabilities, loaded[0].infer(images), atol=1e-5)
    assert reference.heatmap is not None
    assert len(np.unique(reference.heatmap[0])) > 1
    np.testing.assert_allclose(other.probabilities, reference.probabilities, atol=0.02)
    for found, expected in ((other.embedding, reference.embedding), (other.heatmap, reference.heatmap)):
        np.testing.assert_allclose(found, expected, atol=0.01 * abs(expected).max())


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
def test_each_picture_of_an_index_is_the_nearest_to_itself_on_every_engine(
    published, pictures, tmp_path, engine: str
) -> None:
    repository, folder, manifest = published
    names = [tmp_path / f"{number:02}.picture.{'png' if number % 2 else 'jpg'}" for number in range(len(pictures))]
    for path, data in zip(names, pictures, strict=True):  # of whatever format: names are not believed
        path.write_bytes(data)
    index.run(index.Plan("pictures"), of_folder(tmp_path, hold_out=False), repository, folder, manifest)

    async def post_all() -> list[dict]:
        settings = Settings(model_repository=repository.root, engine=engine, reload_interval_s=0.1)
        async with _client(settings) as (app, client):
            while not app.state.indexes.live:
                await asyncio.sleep(0.01)
            posts = (client.post("/similar?index=pictures&k=3", files={"file": picture}) for picture in pictures)
            return [answer.json() for answer in await asyncio.gather(*posts)]

    answers = asyncio.run(post_all())
    nearest = [answer["neighbours"][0] for answer in answers]
    assert [found["id"] for found in nearest] == list(range(len(pictures)))
    assert max(found["distance"] for found in nearest) < 1e-3


def test_shipped_models_agree_with_evaluate_on_a_photo() -> None:
    root = Path(__file__).parents[2]
    photo = (root / "tests" / "pictures" / "cat.jpg").read_bytes()
    repository = ModelRepository(root / "models")
    folders = repository.versions()
    served = {engine: _top(repository, photo, folders, engine) for engine in ("openvino", "tensorflow")}
    for folder in folders:
        manifest = repository.read(folder)
        expected = evaluate.predict(folder.path, load_image(photo, manifest.input)[None])[0]
        for answers in served.values():
            found = answers[folder]
            np.testing.assert_allclose(
                [p["confidence"] for p in found],
                expected[[p["class_id"] for p in found]],
                rtol=0,
                atol=manifest.golden_tolerance["f32"],
            )


def _top(
    repository: ModelRepository, photo: bytes, folders: list[VersionFolder], engine: str
) -> dict[VersionFolder, list[dict]]:
    """What each version says, all of them live at once."""

    async def post(client: httpx.AsyncClient, folder: VersionFolder) -> list[dict]:
        address = f"/predict?top_k=10&model={folder.name}&version={folder.version}"
        predictions: list[dict] = (await client.post(address, files={"file": photo})).json()["predictions"]
        return predictions

    async def post_all() -> dict[VersionFolder, list[dict]]:
        settings = Settings(model_repository=repository.root, engine=engine, precision="f32", max_batch_size=1)
        async with _client(settings) as (_, client):  # of one, so that no other size is warmed up
            return {folder: await post(client, folder) for folder in folders}

    return asyncio.run(post_all())
