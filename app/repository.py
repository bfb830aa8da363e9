"""Where the versions lie: a folder, or a copy of what lies in object storage."""

import hashlib
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

from app.settings import Settings
from models.repository import ModelRepository
from models.storage import Mirror


def open_repository(
    settings: Settings, closing: ExitStack | AsyncExitStack
) -> tuple[ModelRepository, Callable[[], None] | None, float]:
    """The folder that is served, what brings it up to date, and how often that is done, in seconds."""
    location = settings.model_repository
    if isinstance(location, Path):
        return ModelRepository(location), None, settings.reload_interval_s
    caches = settings.model_cache
    if caches is None:
        # Of a name that nobody can guess and with access for nobody else: what lies there is run
        made = tempfile.TemporaryDirectory(prefix="demitasse-models-", ignore_cleanup_errors=True)
        caches = Path(closing.enter_context(made))
    cache = caches / hashlib.sha256(location.encode()).hexdigest()[:16]  # one for each address
    return ModelRepository(cache), Mirror(location, cache).refresh, settings.storage_interval_s
