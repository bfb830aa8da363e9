"""The knobs: read from the environment, refused where they can't work."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings

KNOBS = """
HOST=0.0.0.0 PORT=80 MODEL_REPOSITORY=/srv/models DEFAULT_MODEL=cups CANARY_SHARE=0.1 MODEL_CACHE=/var/cache/models
AIP_HEALTH_ROUTE=/health AIP_PREDICT_ROUTE=/v1/endpoints/7:predict ENGINE=tensorflow PRECISION=f32
MAX_BATCH_SIZE=3 BATCH_WAIT_MS=1.5 QUEUE_SIZE=4 REQUEST_TIMEOUT_MS=500 ENGINE_TIMEOUT_S=2.5 WORKERS=3 DECODE_THREADS=2
MAX_BODY_BYTES=1000 MAX_BODIES_BYTES=9000 MAX_IMAGE_PIXELS=2000 MAX_FILES=5 RELOAD_INTERVAL_S=0.5 STORAGE_INTERVAL_S=60
DRAIN_DELAY_S=0 DRAIN_TIMEOUT_S=30 API_KEYS=web:12 API_KEYS_FILE=/run/keys REQUIRE_AUTH=1 RATE_LIMIT_PER_MINUTE=60
KEEP_ALIVE_S=75 METRICS_PORT=9100 CORS_ORIGINS=https://example.com,http://localhost:3000 LOG_LEVEL=debug LOG_FORMAT=json
"""
OUT_OF_RANGE = """
PORT=0 PORT=65536 ENGINE=onnx PRECISION=int4 MAX_BATCH_SIZE=0 MAX_BATCH_SIZE=257 MAX_BATCH_SIZE=2.5
BATCH_WAIT_MS=-0.1 BATCH_WAIT_MS=nan BATCH_WAIT_MS=1001 QUEUE_SIZE=0 QUEUE_SIZE=100001
REQUEST_TIMEOUT_MS=0.5 REQUEST_TIMEOUT_MS=inf DECODE_THREADS=0 DECODE_THREADS=257
ENGINE_TIMEOUT_S=0 ENGINE_TIMEOUT_S=nan ENGINE_TIMEOUT_S=3601 WORKERS=0 WORKERS=257
MAX_BODY_BYTES=0 MAX_BODIES_BYTES=0 MAX_IMAGE_PIXELS=0 MAX_IMAGE_PIXELS=268435457 MAX_FILES=0 MAX_FILES=10001
RELOAD_INTERVAL_S=0 RELOAD_INTERVAL_S=nan RELOAD_INTERVAL_S=3601 STORAGE_INTERVAL_S=0 STORAGE_INTERVAL_S=86401
CANARY_SHARE=-0.1 CANARY_SHARE=1.1 AIP_HEALTH_ROUTE=health AIP_PREDICT_ROUTE=/{model}
RATE_LIMIT_PER_MINUTE=-1 RATE_LIMIT_PER_MINUTE=100001 METRICS_PORT=0 METRICS_PORT=8080 METRICS_PORT=65536
CORS_ORIGINS=example.com CORS_ORIGINS=https://example.com/ CORS_ORIGINS=https://a.example,,* REQUIRE_AUTH=maybe
KEEP_ALIVE_S=0 KEEP_ALIVE_S=86401
DRAIN_DELAY_S=-1 DRAIN_DELAY_S=61 DRAIN_TIMEOUT_S=-1 DRAIN_TIMEOUT_S=601 LOG_LEVEL=loud LOG_FORMAT=xml
"""


def test_defaults_listen_on_this_machine_alone_and_never_wait_for_a_batch() -> None:
    settings = Settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert (settings.max_batch_size, settings.batch_wait_ms, settings.queue_size) == (8, 0.0, 128)
    assert settings.request_timeout_ms == 10_000
    assert settings.decode_threads >= 1
    assert (settings.model_repository / "manifest.py").is_file()


def test_environment_in_capitals_sets_every_knob(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = dict(assignment.split("=", 1) for assignment in KNOBS.split())
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    settings = Settings()

    assert {name.upper() for name in Settings.model_fields} == set(wanted)
    for name, value in wanted.items():
        found = getattr(settings, name.lower())
        assert found == type(found)(value), name
    assert settings.model_repository == Path("/srv/models")


@pytest.mark.parametrize("assignment", OUT_OF_RANGE.split())
def test_value_out_of_range_is_refused_by_name(assignment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, bad = assignment.split("=")
    monkeypatch.setenv(name, bad)
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert [(problem["loc"], problem["input"]) for problem in refused.value.errors()] == [((name.lower(),), bad)]


def test_words_are_taken_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "INFO")
    monkeypatch.setenv("ENGINE", "OpenVINO")
    assert (Settings().log_level, Settings().engine) == ("info", "openvino")


def test_every_number_has_a_least_value_and_a_unit_in_its_name() -> None:
    units = ("_ms", "_s", "_bytes", "_pixels", "_size", "_threads", "_files", "_share", "_per_minute")
    for name, field in Settings.model_fields.items():
        assert field.description, name
        if field.annotation in (int, float):
            assert any(hasattr(bound, "ge") for bound in field.metadata), name
            assert name in ("port", "workers", "canary_share") or name.endswith(units), name


def test_unknown_variables_are_ignored(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=81\nSOMEBODY_ELSES=1\n")
    assert Settings().port == 81


def test_variable_set_to_nothing_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFAULT_MODEL", "")
    monkeypatch.setenv("PORT", "")
    assert (Settings().default_model, Settings().port) == (None, 8080)


def test_platforms_port_comes_before_the_images_and_its_models_after_the_operators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PORT", "8080"), ("AIP_HTTP_PORT", "7080"), ("AZUREML_MODEL_DIR", str(tmp_path))):
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.host, settings.port, settings.model_repository) == ("0.0.0.0", 7080, tmp_path)
    monkeypatch.setenv("MODEL_REPOSITORY", "/srv/models")
    (tmp_path / ".env").write_text("HOST=127.0.0.1\n")
    settings = Settings()
    assert (settings.host, settings.port, settings.model_repository) == ("127.0.0.1", 7080, Path("/srv/models"))


def test_drain_ends_before_cloud_run_kills() -> None:
    settings = Settings()
    assert settings.drain_delay_s + settings.drain_timeout_s < 10


def test_settings_stay_as_they_were_read() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1


def test_models_may_lie_in_object_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    for location in ("s3://bucket/models", "gs://bucket", "az://container/models", "file:///srv/models"):
        monkeypatch.setenv("MODEL_REPOSITORY", location)
        assert Settings().model_repository == location


def test_secret_of_the_environment_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "web:0123")
    assert "0123" not in repr(Settings()) + str(Settings().model_dump())


def test_origins_may_be_written_with_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_ORIGINS", "https://a.example , http://localhost:3000")
    assert Settings().cors_origins == "https://a.example,http://localhost:3000"
