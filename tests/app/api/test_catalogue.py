"""What is live, and what it is."""

import json
import threading
from pathlib import Path

from app.main import create_app
from app.settings import Settings
from models.manifest import Manifest
from models.repository import VersionFolder
from tests.app.conftest import FakeEngine, client, publish, rewrite_manifest, serving, until


def _version(number: int) -> dict[str, object]:
    return {
        "version": number,
        "engine": "fake",
        "device": "CPU",
        "precision": "f32",
        "description": "tells dark from bright",
        "classes": 3,
    }


async def test_models_lists_what_is_live_by_name_and_version(tmp_path: Path) -> None:
    for name, version in (("mugs", 1), ("cups", 10), ("cups", 9)):
        publish(tmp_path, name, version)
    rewrite_manifest(publish(tmp_path, "cups", 11), schema_version=2)
    async with serving(tmp_path) as served:
        response = await served.http.get("/models")
        cups = await served.http.get("/models/cups")
    assert response.status_code == 200
    assert cups.json() == {"name": "cups", "default_version": 10, "labels": {}, "versions": [_version(9), _version(10)]}
    assert response.json() == {
        "default_model": "cups",
        "models": [cups.json(), {"name": "mugs", "default_version": 1, "labels": {}, "versions": [_version(1)]}],
    }


async def test_version_tells_its_manifest_and_what_it_runs_on(tmp_path: Path) -> None:
    folder = publish(tmp_path)
    async with serving(tmp_path) as served:
        body = (await served.http.get("/models/cups/versions/1")).json()
    assert body["serving"] == _version(1)
    assert body["manifest"] == json.loads((folder.path / "manifest.json").read_text())


async def test_unknown_model_and_version_answer_404(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        errors = [
            (await served.http.get(path)).json()["error"]
            for path in (
                "/models/jugs",
                "/models/jugs/versions/1",
                "/models/cups/versions/2",
                "/models/cups/versions/-1",
            )
        ]
    assert [(error["code"], error["message"]) for error in errors] == [
        ("unknown_model", "no model 'jugs'; live are: cups"),
        ("unknown_model", "no model 'jugs'; live are: cups"),
        ("unknown_version", "no version 2 of 'cups'; live are: 1"),
        ("invalid_parameter", "version: Input should be greater than or equal to 1, got '-1'"),
    ]


async def test_without_a_default_model_the_list_is_still_told(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, default_model="mugs") as served:
        body = (await served.http.get("/models")).json()
    assert body["default_model"] is None
    assert [model["name"] for model in body["models"]] == ["cups"]


async def test_while_models_load_the_list_holds_those_that_are_there(tmp_path: Path) -> None:
    leave = threading.Event()

    def load(folder: VersionFolder, manifest: Manifest) -> FakeEngine:
        assert folder.name == "cups" or leave.wait(20)
        return FakeEngine()

    publish(tmp_path, "cups")
    publish(tmp_path, "mugs")
    app = create_app(Settings(model_repository=tmp_path), load_engine=load)
    async with app.router.lifespan_context(app):
        await until(lambda: app.state.registry.live)
        async with client(app) as http:
            body = (await http.get("/models")).json()
            version = await http.get("/models/cups/versions/1")
            ready = await http.get("/health/ready")
        leave.set()
    assert (body["default_model"], [model["name"] for model in body["models"]]) == (None, ["cups"])
    assert (version.status_code, ready.status_code) == (503, 503)
