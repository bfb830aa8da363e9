"""A running service follows its repository: new versions, bad versions, versions taken away."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.files import file_sha256
from models.manifest import GOLDEN_FILE, MANIFEST_FILE, Manifest
from models.repository import ModelRepository
from tests.e2e.service import ROOT, Service

SHIPPED = ROOT / "models"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository that holds the smallest shipped model."""
    shutil.copytree(SHIPPED / "mnist" / "1", tmp_path / "models" / "mnist" / "1")
    return tmp_path / "models"


def _add(repository: Path, version: int, change: Callable[[Path, dict], None]) -> None:
    """Copy version 1 aside, change it, and move it into place as another version."""
    aside = repository / ".staging-by-hand"
    shutil.copytree(repository / "mnist" / "1", aside)
    document = json.loads((aside / MANIFEST_FILE).read_bytes())
    document["version"] = version
    change(aside, document)
    (aside / MANIFEST_FILE).write_text(json.dumps(document))
    aside.rename(repository / "mnist" / str(version))


def _start(start: Callable[..., Service], repository: Path) -> Service:
    return start(MODEL_REPOSITORY=str(repository), RELOAD_INTERVAL_S="0.1").wait_until_ready()


def test_published_version_is_served_without_a_restart_and_the_old_one_on_request(start, repository: Path) -> None:
    service = _start(start, repository)
    published = ModelRepository(repository)
    folder = published.find("mnist", 1)
    with published.staging() as staged:
        shutil.copytree(folder.path, staged, dirs_exist_ok=True)
        (staged / MANIFEST_FILE).unlink()
        assert published.publish(staged, published.read(folder)).version == 2
    service.wait_for(lambda: service.live() == {"mnist": [1, 2]}, "version 2")
    white = {"file": _white_png()}
    assert service.http.post("/predict", files=white).json()["version"] == 2
    assert service.http.post("/predict?version=1", files=white).json()["version"] == 1


def test_version_taken_away_stops_and_the_one_before_it_answers(start, repository: Path) -> None:
    _add(repository, 2, lambda folder, document: None)
    service = _start(start, repository)
    assert service.live() == {"mnist": [1, 2]}
    shutil.rmtree(repository / "mnist" / "2")
    service.wait_for(lambda: service.live() == {"mnist": [1]}, "version 2 to go")
    assert service.http.post("/predict", files={"file": _white_png()}).json()["version"] == 1
    assert service.http.post("/predict?version=2", files={"file": _white_png()}).status_code == 404


def _missing_file(folder: Path, document: dict) -> None:
    (folder / "openvino" / "model.bin").unlink()


def _wrong_checksum(folder: Path, document: dict) -> None:
    weights = folder / "openvino" / "model.bin"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)


def _newer_schema(folder: Path, document: dict) -> None:
    document["schema_version"] = 2


def _too_few_labels(folder: Path, document: dict) -> None:
    document["labels"] = document["labels"][:9]


def _another_name(folder: Path, document: dict) -> None:
    document["name"] = "somebody-else"


def _golden_of_another_model(folder: Path, document: dict) -> None:
    with np.load(folder / GOLDEN_FILE) as file:
        images, probabilities = file["images"], file["probabilities"]
    np.savez_compressed(folder / GOLDEN_FILE, images=images, probabilities=np.roll(probabilities, 1, axis=1))
    document["files"][GOLDEN_FILE] = file_sha256(folder / GOLDEN_FILE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_missing_file, "openvino/model.bin is missing"),
        (_wrong_checksum, "openvino/model.bin has sha256"),
        (_newer_schema, "has schema_version 2, this release reads 1"),
        (_too_few_labels, "the manifest has 9 labels"),
        (_another_name, "is that of somebody-else/2"),
        (_golden_of_another_model, "a probability of golden.npz is off by"),
    ],
)
def test_bad_version_is_refused_with_its_reason_and_the_rest_stays_up(
    start, repository: Path, change: Callable[[Path, dict], None], reason: str
) -> None:
    service = _start(start, repository)
    _add(repository, 2, change)
    service.wait_for(lambda: "refused mnist version 2" in service.messages(), "the refusal")
    line = next(line for line in service.log() if line["message"].startswith("refused"))
    assert line["level"] == "error"
    assert reason in line["message"]
    assert service.live() == {"mnist": [1]}
    assert service.http.get("/health/ready").status_code == 200
    assert service.http.post("/predict", files={"file": _white_png()}).status_code == 200
    assert service.messages().count("refused mnist") == 1


def test_mended_version_is_taken_after_all(start, repository: Path) -> None:
    service = _start(start, repository)
    _add(repository, 2, _newer_schema)
    service.wait_for(lambda: "refused mnist version 2" in service.messages(), "the refusal")
    shutil.rmtree(repository / "mnist" / "2")
    _add(repository, 2, lambda folder, document: None)
    service.wait_for(lambda: service.live() == {"mnist": [1, 2]}, "version 2")


def test_version_copied_in_by_hand_is_taken_once_it_is_complete(start, repository: Path) -> None:
    service = _start(start, repository)
    _add(repository, 2, _missing_file)
    service.wait_for(lambda: "refused mnist version 2" in service.messages(), "the refusal")
    weights = Path("openvino") / "model.bin"
    shutil.copy(repository / "mnist" / "1" / weights, repository / "mnist" / "2" / weights)
    service.wait_for(lambda: service.live() == {"mnist": [1, 2]}, "version 2")


def test_shipped_manifests_are_whole(tmp_path: Path) -> None:
    repository = ModelRepository(SHIPPED)
    folders = repository.versions()
    names = [(folder.name, folder.version) for folder in folders]
    assert names == [("caltech101", 1), ("cifar10", 2), ("imagenet", 1), ("mnist", 1)]
    for folder in folders:
        manifest = repository.read(folder)
        repository.verify(folder, manifest)
        on_disk = {path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*") if path.is_file()}
        assert on_disk == {*manifest.files, MANIFEST_FILE}
        assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    size = sum(path.stat().st_size for folder in folders for path in folder.path.rglob("*") if path.is_file())
    assert size < 80_000_000


def _white_png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (28, 28), "white").save(buffer, "PNG")
    return buffer.getvalue()
