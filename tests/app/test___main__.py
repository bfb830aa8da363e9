"""`python -m app`: its exit codes and its greeting."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app import __main__ as entry
from app import server
from app.inference.engines import Chosen, EngineFactory
from app.inference.engines.base import EngineError
from app.settings import Settings
from models.repository import ModelRepository
from tests.app.conftest import FakeEngine


def test_settings_that_cannot_work_end_with_2_and_say_which(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "99999")
    monkeypatch.setenv("ENGINE", "onnx")
    assert entry.main() == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: PORT: Input should be less than or equal to 65535, got '99999'",
        "error: ENGINE: Input should be 'auto', 'openvino' or 'tensorflow', got 'onnx'",
    ]


def _raises(*_: object, **__: object) -> Any:
    raise EngineError("no engine is installed")


def _ran(monkeypatch: pytest.MonkeyPatch, exit_code: int = 0) -> list[tuple[str, Settings]]:
    """What `main` runs instead of servers, each of which ends with the exit code; and no version is loaded."""
    ran: list[tuple[str, Settings]] = []

    def serve(settings: Settings, engine: Chosen, greet: object) -> int:
        ran.append(("serve", settings))
        return exit_code

    def supervise(settings: Settings) -> int:
        ran.append(("supervise", settings))
        return exit_code

    monkeypatch.setattr(server, "serve", serve)
    monkeypatch.setattr(server, "supervise", supervise)
    monkeypatch.setattr(entry, "Ahead", lambda load_engine, repository: SimpleNamespace(close=lambda: None))
    return ran


def test_engine_that_cannot_be_had_ends_with_1_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = _ran(monkeypatch)
    monkeypatch.setattr(entry.engines, "choose", _raises)
    assert entry.main() == 1
    assert ran == []
    assert capsys.readouterr().err == "error: no engine is installed\n"


def test_engine_that_is_not_installed_is_said_once_for_all_workers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = _ran(monkeypatch)
    monkeypatch.setattr(entry.engines, "choose", _raises)
    monkeypatch.setenv("WORKERS", "2")
    assert entry.main() == 1
    assert ran == []
    assert capsys.readouterr().err == "error: no engine is installed\n"


@pytest.mark.parametrize(("location", "begun"), [("/srv/models", ["/srv/models"]), ("s3://bucket/models", [])])
def test_the_versions_of_a_folder_are_begun_before_the_server_is_imported(
    location: str, begun: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _ran(monkeypatch)
    roots: list[str] = []
    closed: list[str] = []
    served: list[Chosen] = []

    class Ahead:
        def __init__(self, load_engine: EngineFactory, repository: ModelRepository) -> None:
            self.root = str(repository.root)
            roots.append(self.root)

        def close(self) -> None:
            closed.append(self.root)

    def serve(settings: Settings, engine: Chosen, greet: object) -> int:
        assert closed == []
        served.append(engine)
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "Ahead", Ahead)
    monkeypatch.setattr(server, "serve", serve)
    monkeypatch.setattr(entry.engines, "chosen", lambda settings: Chosen(FakeEngine, lanes=3))
    monkeypatch.setenv("MODEL_REPOSITORY", location)
    with pytest.raises(KeyboardInterrupt):
        entry.main()
    assert (roots, closed, served[0].lanes) == (begun, begun, 3)
    assert isinstance(served[0].load_engine, Ahead) == bool(begun)


@pytest.mark.parametrize(("workers", "chosen"), [("1", "serve"), ("2", "supervise"), ("256", "supervise")])
@pytest.mark.parametrize("exit_code", [0, 1])
def test_one_worker_is_served_and_several_are_supervised(
    workers: str, chosen: str, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = _ran(monkeypatch, exit_code)
    monkeypatch.setenv("WORKERS", workers)
    assert entry.main() == exit_code
    assert [(name, settings.workers) for name, settings in ran] == [(chosen, int(workers))]


def test_start_of_several_workers_says_where_they_listen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _ran(monkeypatch)
    for name, value in (("WORKERS", "3"), ("HOST", "0.0.0.0"), ("LOG_FORMAT", "text")):
        monkeypatch.setenv(name, value)
    entry.main()
    assert capsys.readouterr().out.endswith("Demitasse is starting 3 workers on http://127.0.0.1:8080\n")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::", "http://127.0.0.1:8080"),
        ("::1", "http://[::1]:8080"),
    ],
)
def test_greeting_gives_an_address_that_can_be_pasted(
    host: str, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    live = SimpleNamespace(folder=SimpleNamespace(name="cups", version=2))
    entry._greet(Settings(host=host), SimpleNamespace(live=[live]))  # type: ignore[arg-type]
    assert caplog.messages == [
        f"Demitasse is serving on {address}, interface at {address}/docs",
        "live models: cups/2",
        f"try: curl -F file=@tests/pictures/espresso_cup.jpg {address}/predict",
    ]


def test_greeting_says_that_a_key_is_wanted_and_where_metrics_are(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    settings = Settings(api_keys=KEY_LINE, metrics_port=9100)
    entry._greet(settings, SimpleNamespace(live=[]))  # type: ignore[arg-type]
    assert caplog.messages[2:] == [
        "metrics on http://127.0.0.1:9100/metrics",
        "try: curl -H 'X-API-Key: …' -F file=@tests/pictures/espresso_cup.jpg http://127.0.0.1:8080/predict",
    ]


def test_bad_port_is_named_after_the_variable_that_it_came_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "8080")
    monkeypatch.setenv("AIP_HTTP_PORT", "abc")
    assert entry.main() == 2
    assert capsys.readouterr().err.startswith("error: AIP_HTTP_PORT: Input should be a valid integer")


KEY_LINE = f"web:{'0' * 64}"


@pytest.mark.parametrize(
    ("variables", "warned"),
    [
        ({}, False),
        ({"HOST": "localhost"}, False),
        ({"HOST": "::1"}, False),
        ({"HOST": "127.0.0.2"}, False),
        ({"HOST": "0.0.0.0"}, True),
        ({"HOST": "::"}, True),
        ({"HOST": "10.0.0.1"}, True),
        ({"HOST": "cups.example"}, True),
        ({"HOST": "0.0.0.0", "API_KEYS": KEY_LINE}, False),
    ],
)
def test_start_where_others_may_call_without_keys_is_warned_of(
    variables: dict[str, str], warned: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _ran(monkeypatch)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert entry.main() == 0
    message = "may call: neither API_KEYS nor API_KEYS_FILE is set"
    assert (message in capsys.readouterr().out) is warned


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"REQUIRE_AUTH": "true"}, "REQUIRE_AUTH is set, and there is no key; "),
        ({"API_KEYS": "web:dmt_misplaced"}, "API_KEYS, line 1: expected NAME:HASH"),
        ({"API_KEYS": KEY_LINE, "API_KEYS_FILE": "none"}, "none can't be read: No such file or directory"),
    ],
)
def test_keys_that_cannot_be_read_end_with_2_and_are_not_shown(
    variables: dict[str, str], why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = _ran(monkeypatch)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert entry.main() == 2
    told = capsys.readouterr()
    assert (ran, told.err.startswith(f"error: {why}")) == ([], True)
    assert "misplaced" not in told.err + told.out


def test_keys_are_changed_beside_the_service_in_the_file_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ran = _ran(monkeypatch)
    monkeypatch.setenv("API_KEYS_FILE", str(tmp_path / "keys"))
    assert entry.main(["keys", "new", "web"]) == 0
    assert capsys.readouterr().out.startswith("dmt_")
    assert (tmp_path / "keys").read_text().splitlines()[1].startswith("web:")
    assert ran == []


@pytest.mark.parametrize("arguments", [[], ["serve"]])
def test_any_other_word_serves(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ran = _ran(monkeypatch)
    assert entry.main(arguments) == 0
    assert [name for name, _ in ran] == ["serve"]


def test_greeting_names_a_picture_that_exists() -> None:
    assert (Path(__file__).parents[2] / entry._SAMPLE).is_file()
