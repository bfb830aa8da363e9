"""`python -m training index`: from pictures to a published index, whose figures are those of what it finds."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from models import nearest
from models.index_manifest import IndexManifest
from models.indexes import IndexStore, Pictures
from models.nearest import Nearest
from training import embed, index, pictures, retrieval
from training.__main__ import main
from training.embed import Embedded
from training.splits import Split


def _write(folder: Path, split: Split, names: tuple[str, ...]) -> Path:
    """The pictures as PNG files, in a folder for each class."""
    for number, (image, class_id) in enumerate(zip(split.images, split.classes, strict=True)):
        path = folder / names[class_id] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


@pytest.fixture(scope="module")
def quarters(minute: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    test = minute.dataset.test
    return _write(tmp_path_factory.mktemp("quarters"), test, ("first", "second", "third", "fourth"))


def _run(minute: SimpleNamespace, *arguments: str | Path) -> int:
    return main(["--models", str(minute.repository.root), "index", *map(str, arguments)])


def _published(minute: SimpleNamespace, name: str) -> tuple[IndexManifest, Nearest, Pictures]:
    store = IndexStore(minute.repository)
    (folder,) = (folder for folder in store.folders() if folder.name == name)
    manifest = store.read(folder)
    store.verify(folder, manifest)
    return manifest, nearest.read(store.index_path(folder, manifest), manifest), store.pictures(folder, manifest)


def test_a_folder_becomes_an_index_that_finds_each_of_its_pictures(
    minute: SimpleNamespace, quarters: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(minute, "minute", quarters, "--name", "all") == 0

    manifest, found, kept = _published(minute, "all")
    assert (manifest.model, manifest.version, manifest.kind, manifest.size) == ("minute", 1, "exact", 150)
    assert manifest.model_sha256 == minute.manifest.fingerprint
    assert manifest.labels == ("first", "fourth", "second", "third")
    assert (manifest.metrics, manifest.speed) == ((), None)
    compute = embed.load(minute.folder.path)
    paths = sorted(quarters.glob("*/*.png"))
    for number in (0, 60, 149):
        (embedding,) = compute(np.asarray(Image.open(paths[number]))[None])
        assert found.search(embedding, 1)[0] == [number]
        assert kept.label(number) == paths[number].parent.name
        assert kept.thumbnails is not None
        assert kept.thumbnails[number].startswith(b"\xff\xd8\xff")
    said = capsys.readouterr().out
    assert said.startswith("published index all of minute version 1 in ")
    assert said.endswith(": exact, 150 pictures\n")


@pytest.mark.parametrize("kind", ["exact", "hnsw", "lsh"])
def test_figures_are_those_of_the_pictures_that_were_held_out(
    minute: SimpleNamespace, quarters: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    options = ["--evaluate", "--no-thumbnails", *(["--bits", "256"] if kind == "lsh" else [])]
    assert _run(minute, "minute/1", quarters, "--name", kind, "--kind", kind, *options) == 0

    manifest, found, kept = _published(minute, kind)
    collection = pictures.of_folder(quarters, hold_out=True)
    compute = embed.load(minute.folder.path)
    queries = embed.extract(collection.queries, minute.manifest.input, compute)
    assert manifest.size == 150 - len(queries.classes)
    assert kept.thumbnails is None
    precision, recall = manifest.metrics
    shares = [(kept.classes[found.search(q, 10)[0]] == c).mean() for q, c in zip(*_of(queries), strict=True)]
    assert (precision.name, precision.n) == ("precision_at_10", len(shares))
    assert precision.value == pytest.approx(np.mean(shares), abs=1e-6)
    assert precision.low <= precision.value <= precision.high
    assert recall.value == 1 if kind == "exact" else recall.value > 0.5
    assert manifest.speed is not None
    assert f"precision_at_10 {precision.value:.2%}" in capsys.readouterr().out


def _of(found: Embedded) -> tuple[np.ndarray, np.ndarray]:
    return found.embeddings, found.classes


def test_unreadable_pictures_are_named_and_skipped_and_too_many_refused(
    minute: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(20):
        Image.new("RGB", (300, 150), (number, 0, 0)).save(tmp_path / f"{number:02}.jpg", comment=b"secret")
    (tmp_path / "05a.png").write_bytes(b"no picture")
    assert _run(minute, "minute", tmp_path, "--name", "flat") == 0
    manifest, _, kept = _published(minute, "flat")
    assert (manifest.size, manifest.labels) == (20, ())
    assert kept.label(6) is None
    assert kept.thumbnails is not None
    assert b"secret" not in kept.thumbnails[6]
    assert f"skipped {tmp_path / '05a.png'}: expected one of" in capsys.readouterr().out

    (tmp_path / "05b.png").write_bytes(b"nor this")
    assert _run(minute, "minute", tmp_path, "--name", "flat") == 1
    assert "2 of 22 photos can't be read" in capsys.readouterr().err
    assert _published(minute, "flat")[0] == manifest


def test_a_data_set_in_memory_is_indexed_by_its_training_part(minute: SimpleNamespace) -> None:
    train, test = minute.dataset.train, minute.dataset.test
    collection = pictures.Collection("made up", ("a", "b", "c", "d"), pictures.Arrays(train), pictures.Arrays(test))
    plan = index.Plan("arrays", evaluate=True)
    folder, manifest = index.run(plan, collection, minute.repository, minute.folder, minute.manifest)
    assert (manifest.size, manifest.metrics[0].n) == (1300, 150)
    _, _, kept = _published(minute, "arrays")
    np.testing.assert_array_equal(kept.classes, train.classes)
    assert index.summary(folder, manifest).endswith(" times exact")


def test_a_graph_is_searched_as_far_as_its_own_pictures_need() -> None:
    vectors = np.random.default_rng(0).normal(size=(3000, 64)).astype(np.float32)
    graph = nearest.build(vectors, "hnsw", {"links": 8, "ef_construction": 40, "ef_search": 1})
    tuned = retrieval.with_recall(graph, vectors)
    assert 16 < tuned.parameters["ef_search"] < 2048
    queries = Embedded(np.random.default_rng(1).normal(size=(100, 64)).astype(np.float32), np.zeros(100, np.int32), ())
    _, recall = retrieval.figures(tuned, Embedded(vectors, np.zeros(3000, np.int32), ()), queries, "noise")
    assert recall.value >= 0.95


def test_json_of_an_index_tells_what_it_was_made_of(minute: SimpleNamespace, quarters: Path) -> None:
    assert _run(minute, "minute", quarters, "--name", "told", "--kind", "hnsw", "--ef-search", "77") == 0
    (folder,) = (folder for folder in IndexStore(minute.repository).folders() if folder.name == "told")
    told = json.loads((folder.path / "index.json").read_text())
    assert told["parameters"] == {"links": 32, "ef_construction": 200, "ef_search": 77}
    assert told["dataset"] == f"photos of {quarters.name}"
    assert {"numpy", "faiss-cpu", "python"} <= told["libraries"].keys()
