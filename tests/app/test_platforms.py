"""One image on every platform: where to listen, and where the models lie."""

from pathlib import Path

import pytest

from app.platforms import SAGEMAKER_MODELS, defaults, imposed
from tests.app.conftest import publish

NOWHERE = Path("/nonexistent")


@pytest.mark.parametrize(
    ("environment", "port"),
    [
        ({}, None),
        ({"PORT": "9"}, None),  # a setting as it is
        ({"SAGEMAKER_BIND_TO_PORT": "2", "PORT": "9"}, "2"),
        ({"AIP_HTTP_PORT": "1", "SAGEMAKER_BIND_TO_PORT": "2", "PORT": "9"}, "1"),
        ({"AIP_HTTP_PORT": "", "SAGEMAKER_BIND_TO_PORT": "2"}, "2"),
    ],
)
def test_port_of_the_platform_is_the_first_that_is_set(environment: dict[str, str], port: str | None) -> None:
    assert imposed(environment).get("port") == port


@pytest.mark.parametrize(
    ("environment", "host"),
    [
        ({}, None),
        ({"PORT": "9"}, None),  # which a developer may set, too
        ({"K_SERVICE": ""}, None),
        ({"AIP_HTTP_PORT": "8080"}, "0.0.0.0"),
        ({"SAGEMAKER_BIND_TO_PORT": "8080"}, "0.0.0.0"),
        ({"AZUREML_MODEL_DIR": "/models"}, "0.0.0.0"),
        ({"K_SERVICE": "demitasse", "PORT": "9"}, "0.0.0.0"),
        ({"CONTAINER_APP_NAME": "demitasse"}, "0.0.0.0"),
    ],
)
def test_every_address_is_listened_on_where_a_platform_asks_from_outside(
    environment: dict[str, str], host: str | None
) -> None:
    assert defaults(environment, NOWHERE).get("host") == host


def test_models_of_sagemaker_serve_where_there_is_anything(tmp_path: Path) -> None:
    """A model of another layout must not be answered for by those of the image."""
    (tmp_path / "lost+found").mkdir()
    assert defaults({}, tmp_path) == {}
    assert defaults({}, NOWHERE) == {}
    (tmp_path / "saved_model.pb").touch()
    assert defaults({}, tmp_path) == {"model_repository": tmp_path}
    assert Path("/opt/ml/model") == SAGEMAKER_MODELS


def test_models_of_azure_ml_serve_from_the_folder_or_one_level_below(tmp_path: Path) -> None:
    environment = {"AZUREML_MODEL_DIR": str(tmp_path)}
    assert defaults(environment, NOWHERE)["model_repository"] == tmp_path  # they may come yet
    (tmp_path / "aaa").mkdir()
    publish(tmp_path / "registered")
    assert defaults(environment, NOWHERE)["model_repository"] == tmp_path / "registered"
    publish(tmp_path)
    assert defaults(environment, NOWHERE)["model_repository"] == tmp_path
    assert defaults({"AZUREML_MODEL_DIR": "/nonexistent"}, NOWHERE)["model_repository"] == NOWHERE


def test_models_of_vertex_ai_serve_from_its_storage(tmp_path: Path) -> None:
    environment = {"AIP_STORAGE_URI": "gs://bucket/model-1"}
    assert defaults(environment, NOWHERE)["model_repository"] == "gs://bucket/model-1"
