"""Every knob of the service. Each is an environment variable of the field's name in capitals."""

import os
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from app import platforms
from app.cores import available_cores
from models.preprocess import DEFAULT_MAX_PIXELS
from models.storage import is_url

EngineChoice = Literal["auto", "openvino", "tensorflow"]
PrecisionChoice = Literal["auto", "f32", "bf16"]

_ORIGIN = re.compile(r"https?://[^/,\s]+|\*")
_PATH = r"^/[^{}?#\s]*$"


class Settings(BaseSettings):
    # Compose files and cloud consoles hand on an unset variable as an empty one
    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    port: int = Field(default=8080, ge=1, le=65535, description="port to listen on, unless a platform sets its own")
    model_repository: Path | str = Field(
        default=Path(__file__).parent.parent / "models",
        description="folder that holds `<name>/<version>/`, or its address in object storage: `s3://`, `gs://`, `az://`",
    )
    model_cache: Path | None = Field(
        default=None,
        description="folder for copies from object storage, kept for the next start; "
        "unset: a temporary one for each process",
    )
    aip_health_route: str | None = Field(
        default=None, pattern=_PATH, description="path of Vertex AI's health checks; Vertex AI sets this itself"
    )
    aip_predict_route: str | None = Field(
        default=None, pattern=_PATH, description="path to which Vertex AI sends pictures; Vertex AI sets this itself"
    )
    default_model: str | None = Field(
        default=None, description="model of requests that name none; unset: `imagenet` if it is there, else the first"
    )
    canary_share: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="share of the requests without a version that the version labelled `canary` answers",
    )
    engine: EngineChoice = Field(
        default="auto",
        description="`openvino`, `tensorflow`, or `auto`: TensorFlow if it sees a GPU, else OpenVINO if installed",
    )
    precision: PrecisionChoice = Field(
        default="auto",
        description="`f32`, `bf16` (OpenVINO only), or `auto`: bf16 where the processor computes in it natively",
    )
    max_batch_size: int = Field(default=8, ge=1, le=256, description="most images in a batch")
    batch_wait_ms: float = Field(
        default=0.0, ge=0.0, le=1000.0, description="how long a free engine waits for a batch to fill"
    )
    queue_size: int = Field(
        default=128,
        ge=1,
        le=100_000,
        description="most images of a model version under way in a process, from decoding on; more are answered 429",
    )
    request_timeout_ms: float = Field(
        default=10_000.0, ge=1.0, le=600_000.0, description="deadline of a request, from its arrival; then 504"
    )
    engine_timeout_s: float = Field(
        default=30.0,
        ge=0.1,
        le=3600.0,
        description="a batch that computes longer makes `/health/live` fail; a worker process is replaced",
    )
    workers: int = Field(
        default=1, ge=1, le=256, description="processes behind the one port, each with its own copy of the models"
    )
    decode_threads: int = Field(
        default_factory=available_cores,
        ge=1,
        le=256,
        description="threads that decode pictures, all workers together; unset: one for each core",
    )
    max_body_bytes: int = Field(default=20 * 2**20, ge=1, description="largest request body; more is answered 413")
    max_bodies_bytes: int = Field(
        default=512 * 2**20,
        ge=1,
        description="request bodies in memory of a process, half for `/explain` and `/similar`; more is answered 429",
    )
    max_image_pixels: int = Field(
        default=DEFAULT_MAX_PIXELS,
        ge=1,
        le=2**28,
        description="most pixels of a picture, by its header; more is answered 413",
    )
    max_files: int = Field(default=64, ge=1, le=10_000, description="most files in one `/predict/batch`")
    reload_interval_s: float = Field(
        default=2.0, ge=0.1, le=3600.0, description="how often the model repository is looked at"
    )
    storage_interval_s: float = Field(
        default=30.0, ge=0.1, le=86_400.0, description="the same for one in object storage, where looking costs money"
    )
    keep_alive_s: int = Field(
        default=620,
        ge=1,
        le=86_400,
        description="how long an idle connection is kept: longer than a load balancer keeps it, or that answers 502",
    )
    drain_delay_s: float = Field(
        default=1.0,
        ge=0.0,
        le=60.0,
        description="after SIGTERM: how long requests are still taken while readiness already fails",
    )
    drain_timeout_s: int = Field(
        default=8, ge=1, le=600, description="after that: how long accepted requests may take to be answered"
    )
    api_keys: SecretStr | None = Field(
        default=None, description="API keys, `name:hash` separated by commas; with any, every caller needs one"
    )
    api_keys_file: Path | None = Field(
        default=None, description="file of API keys, `name:hash` a line; looked at again every `RELOAD_INTERVAL_S`"
    )
    require_auth: bool = Field(default=False, description="refuse to start without API keys")
    rate_limit_per_minute: int = Field(
        default=0,
        ge=0,
        le=100_000,  # each of them is remembered for a minute
        description="requests a minute of each API key, counted by each process; more are answered 429; 0: no limit",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="second port, for `/metrics` alone, without a key; unset: `/metrics` is on `PORT`",
    )
    cors_origins: str | None = Field(
        default=None, description="origins whose pages may call, separated by commas, or `*`; unset: none"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="lowest severity that is logged; of other libraries, `warning` at least"
    )
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto", description="`json`, `text`, or `auto`: text if a terminal reads it"
    )

    @field_validator("model_repository", mode="before")
    @classmethod
    def _folder_or_url(cls, value: object) -> object:
        return Path(value) if isinstance(value, str) and not is_url(value) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  the signature is pydantic's
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment, between what a platform insists on and what it leaves to us."""
        imposed = InitSettingsSource(settings_cls, platforms.imposed(os.environ))
        defaults = InitSettingsSource(settings_cls, platforms.defaults(os.environ))
        return init_settings, imposed, env_settings, dotenv_settings, defaults

    @field_validator("metrics_port")
    @classmethod
    def _other_than_port(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value == info.data.get("port"):
            raise ValueError("Input should be another port than PORT")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: str | None) -> str | None:
        """Without spaces. A browser sends no path: an origin with a slash at its end would never match."""
        if value is None:
            return None
        origins = [origin.strip() for origin in value.split(",")]
        if not all(map(_ORIGIN.fullmatch, origins)):
            raise ValueError("Input should be origins such as https://example.com, separated by commas, or '*'")
        return ",".join(origins)

    @field_validator("engine", "precision", "log_level", "log_format", mode="before")
    @classmethod
    def _in_any_case(cls, value: object) -> object:
        """LOG_LEVEL=INFO is what most other programs want."""
        return value.lower() if isinstance(value, str) else value


def problems(error: ValidationError) -> list[str]:
    """What is wrong with which variable, a sentence for each."""
    return [
        f"{platforms.variable_of('_'.join(map(str, problem['loc'])), os.environ)}: {problem['msg']}, "
        f"got {problem['input']!r}"
        for problem in error.errors()
    ]
