"""What the service has, for the files of deploy/ to be held against."""

from functools import cache

import pytest

from app.main import create_app
from app.settings import Settings


@cache
def routes(method: str) -> set[str]:
    """Paths of the service, as OpenAPI lists them."""
    app = create_app(Settings(), load_engine=lambda folder, manifest: pytest.fail("nothing is loaded here"))
    return {path for path, methods in app.openapi()["paths"].items() if method.lower() in methods}


def settings() -> set[str]:
    """Environment variables that the service reads."""
    return {name.upper() for name in Settings.model_fields}
