"""A running service follows its repository: new versions, bad versions, versions taken away."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.files import file_sha256
from models.manifest import GOLDEN_FILE, MANIFEST_FILE, Manifest
from models.repository import ModelRepository
from tests.e2e.service import ROOT, Service

SHIPPED = ROOT / "models"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the smallest shipped model, in which each test has a model of its own."""
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(SHIPPED / "mnist" / "1", root / "mnist" / "1")
    return root


@pytest.fixture(scope="module")
def service(repository: Path) -> Iterator[Service]:
    started = Service(repository / ".log", MODEL_REPOSITORY=str(repository), RELOAD_INTERVAL_S="0.1", DRAIN_DELAY_S="0")
    yield started.wait_until_ready()
    started.stop()


def _as_it_is(folder: Path, document: dict) -> None:
    """No change."""


def _add(repository: Path, name: str, version: int, change: Callable[[Path, dict], None] = _as_it_is) -> None:
    """Copy the shipped model aside, change it, and move it into place as a version of another one."""
    aside = repository / ".staging-by-hand"
    shutil.copytree(repository / "mnist" / "1", aside)
    document = json.loads((aside / MANIFEST_FILE).read_bytes())
    document |= {"name": name, "version": version}
    change(aside, document)
    (aside / MANIFEST_FILE).write_text(json.dumps(document))
    (repository / name).mkdir(exist_ok=True)
    aside.rename(repository / name / str(version))


def _wait_for(service: Service, name: str, *versions: int) -> None:
    service.wait_for(lambda: service.live().get(name) == list(versions), f"{name} to have {versions}")


def _answering(service: Service, query: str) -> int:
    """The version."""
    version: int = service.http.post(f"/predict?{query}", files={"file": _white_png()}).json()["version"]
    return version


def test_published_version_is_served_without_a_restart_and_the_old_one_on_request(
    service: Service, repository: Path
) -> None:
    _add(repository, "published", 1)
    published = ModelRepository(repository)
    folder = published.find("published", 1)
    with published.staging() as staged:
        shutil.copytree(folder.path, staged, dirs_exist_ok=True)
        (staged / MANIFEST_FILE).unlink()
        assert published.publish(staged, published.read(folder)).version == 2
    _wait_for(service, "published", 1, 2)
    assert _answering(service, "model=published") == 2
    assert _answering(service, "model=published&version=1") == 1


def test_version_taken_away_stops_and_the_one_before_it_answers(service: Service, repository: Path) -> None:
    for version in (1, 2):
        _add(repository, "taken", version)
    _wait_for(service, "taken", 1, 2)
    shutil.rmtree(repository / "taken" / "2")
    _wait_for(service, "taken", 1)
    assert _answering(service, "model=taken") == 1
    gone = service.http.post("/predict?model=taken&version=2", files={"file": _white_png()})
    assert gone.status_code == 404


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
    service: Service, repository: Path, change: Callable[[Path, dict], None], reason: str
) -> None:
    name = change.__name__.strip("_")
    refused = f"refused {name} version 2"
    for version, made in ((1, _as_it_is), (2, change)):
        _add(repository, name, version, made)
    service.wait_for(lambda: refused in service.messages(), "the refusal")
    line = next(line for line in service.log() if line["message"].startswith(refused))
    assert line["level"] == "error"
    assert reason in line["message"]
    _wait_for(service, name, 1)
    assert service.http.get("/health/ready").status_code == 200
    assert _answering(service, f"model={name}") == 1
    assert service.messages().count(refused) == 1


def test_mended_version_is_taken_after_all(service: Service, repository: Path) -> None:
    _add(repository, "mended", 1, _newer_schema)
    service.wait_for(lambda: "refused mended version 1" in service.messages(), "the refusal")
    shutil.rmtree(repository / "mended" / "1")
    _add(repository, "mended", 1)
    _wait_for(service, "mended", 1)


def test_version_copied_in_by_hand_is_taken_once_it_is_complete(service: Service, repository: Path) -> None:
    _add(repository, "copied", 1, _missing_file)
    service.wait_for(lambda: "refused copied version 1" in service.messages(), "the refusal")
    weights = Path("openvino") / "model.bin"
    shutil.copy(repository / "mnist" / "1" / weights, repository / "copied" / "1" / weights)
    _wait_for(service, "copied", 1)


def test_shipped_manifests_are_whole(tmp_path: Path) -> None:
    repository = ModelRepository(SHIPPED)
    folders = repository.versions()
    names = [(folder.name, folder.version) for folder in folders]
    assert names == [("caltech101", 1), ("cifar10", 4), ("imagenet", 1), ("mnist", 1)]
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
