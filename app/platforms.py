"""What a cloud platform says in the environment of a container, as settings of ours: one image runs on all of them.

    Vertex AI              AIP_HTTP_PORT, AIP_HEALTH_ROUTE, AIP_PREDICT_ROUTE, AIP_STORAGE_URI
    SageMaker              SAGEMAKER_BIND_TO_PORT; the model lies in /opt/ml/model
    Azure ML               AZUREML_MODEL_DIR
    Cloud Run, Knative     PORT, K_SERVICE
    Container Apps         CONTAINER_APP_NAME

The two routes of Vertex AI and PORT are settings as they are; the rest becomes settings here.
"""

from collections.abc import Mapping
from pathlib import Path

from models.repository import ModelRepository

SAGEMAKER_MODELS = Path("/opt/ml/model")

_PORTS = ("AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT")
SIGNS = (*_PORTS, "AZUREML_MODEL_DIR", "K_SERVICE", "CONTAINER_APP_NAME")


def imposed(environment: Mapping[str, str]) -> dict[str, object]:
    """What comes before our own variables: the image sets PORT, and the platform does not know."""
    name = variable_of("port", environment)
    return {"port": environment[name]} if name in _PORTS else {}


def variable_of(setting: str, environment: Mapping[str, str]) -> str:
    """The variable that a setting comes from, for those who have to mend it."""
    platforms_own = _PORTS if setting == "port" else ()
    return next((name for name in platforms_own if environment.get(name)), setting.upper())


def defaults(environment: Mapping[str, str], sagemaker_models: Path = SAGEMAKER_MODELS) -> dict[str, object]:
    """What comes after our own variables: where to listen, and where the platform has put the models."""
    found: dict[str, object] = {}
    if any(environment.get(name) for name in SIGNS):
        found["host"] = "0.0.0.0"  # noqa: S104  the platform asks from outside the container
    if environment.get("AZUREML_MODEL_DIR"):
        found["model_repository"] = _registered(Path(environment["AZUREML_MODEL_DIR"]))
    elif environment.get("AIP_STORAGE_URI"):
        found["model_repository"] = environment["AIP_STORAGE_URI"]
    elif _holds_anything(sagemaker_models):  # but no versions, it has to be said: other models would answer
        found["model_repository"] = sagemaker_models
    return found


def _holds_anything(folder: Path) -> bool:
    try:
        return any(path.name != "lost+found" and not path.name.startswith(".") for path in folder.iterdir())
    except OSError:  # it is not there, or can't be read
        return False


def _registered(folder: Path) -> Path:
    """Azure ML keeps the name of a folder that was registered: the versions may lie one level further down."""
    inner = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return next(filter(_holds_versions, (folder, *inner)), folder)


def _holds_versions(folder: Path) -> bool:
    try:
        return bool(ModelRepository(folder).versions())
    except OSError:  # it is there, and can't be read
        return False
