"""Pictures like one, from the real process: indexes come and change while it runs."""

import base64
import shutil
from pathlib import Path

import numpy as np

from models.repository import ModelRepository
from tests.e2e.service import ROOT
from tests.indexes import embeddings, publish


def _publish(root: Path, n: int, **changes: object) -> None:
    repository = ModelRepository(root)
    folder = repository.find("caltech101")
    names = {"model": "caltech101", "version": folder.version, "model_sha256": repository.read(folder).fingerprint}
    publish(root, np.abs(embeddings(n, 1280)), **(names | changes))


def test_an_index_is_served_replaced_and_kept_where_the_next_is_broken(start, tmp_path: Path, espresso: bytes) -> None:
    root = tmp_path / "models"
    shutil.copytree(ROOT / "models" / "caltech101" / "1", root / "caltech101" / "1")
    service = start(MODEL_REPOSITORY=str(root), RELOAD_INTERVAL_S="0.1").wait_until_ready()

    def sizes() -> list[int]:
        return [index["size"] for index in service.http.get("/indexes").json()["indexes"]]

    assert service.http.post("/similar", files={"file": espresso}).json()["error"]["code"] == "unknown_index"
    _publish(root, 4)
    service.wait_for(lambda: sizes() == [4], "the index")
    found = service.http.post("/similar?k=3", files={"file": espresso}).json()["neighbours"]
    assert len(found) == 3
    assert all(base64.b64decode(each["thumbnail"]).startswith(b"\xff\xd8\xff") for each in found)
    assert 0 < found[0]["distance"] <= found[1]["distance"] <= found[2]["distance"] < 1

    _publish(root, 6, kind="hnsw")
    service.wait_for(lambda: sizes() == [6], "the next index")
    _publish(root, 7, model_sha256="0" * 64)
    service.wait_for(lambda: "refused index photos of caltech101" in service.messages(), "the refusal")
    assert sizes() == [6]
    assert len(service.http.post("/similar", files={"file": espresso}).json()["neighbours"]) == 6
    assert service.messages().count("refused index") == 1
    assert service.stop() == 0
