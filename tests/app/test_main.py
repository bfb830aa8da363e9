"""The application's assembly."""

import threading
from pathlib import Path

import pytest

from app.inference import engines
from app.inference.engines.base import EngineError
from app.main import create_app
from app.settings import Settings
from tests.app.conftest import FakeEngine, publish


def test_building_the_application_reads_no_model_and_starts_no_thread(tmp_path: Path) -> None:
    def load(*_: object) -> FakeEngine:
        raise AssertionError("loaded too early")

    publish(tmp_path)
    before = threading.enumerate()
    app = create_app(Settings(model_repository=tmp_path), load_engine=load)
    assert threading.enumerate() == before
    assert (app.state.draining, hasattr(app.state, "registry")) == (False, False)


def test_application_without_its_engine_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match="no engine is installed"):
        create_app(Settings())
