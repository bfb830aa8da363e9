"""Pictures in JSON, as clients of TensorFlow Serving and of Vertex AI write them.

An instance is `{"b64": "<base64 of a file>"}` or pixels, nested lists [H][W][3] of 0 to 255 in the model's own size.
Either may stand in an object under one name, whichever the client's model gave to its input.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from app.api import upload
from app.api.work import Picture, Work
from app.errors import DemitasseError, InvalidParameter

BASE64_KEY = "b64"

_EXPECTED = '{"b64": "<base64>"}, or pixels [H][W][3] of 0 to 255, either of them under one name or bare'
_MOST_OTHER_VALUES = 16  # of an instance that is no pixels


async def read(work: Work) -> dict[str, Any]:
    """The body, an object of JSON, with the pixels of one batch at most. Raises `DemitasseError`s.

    Parsing those of eight pictures of 224 x 224 holds up every other request for a third of a second; files cost
    next to nothing.
    """
    settings, registry = work.settings, work.request.app.state.registry
    # The largest of all models: which one is meant may stand in the body
    sizes = [(live.manifest.input.height, live.manifest.input.width) for live in registry.live]
    # Three commas and a bracket a pixel, and a bracket a row
    pixels = max(height * (width * 4 + 1) for height, width in sizes)
    most_values = settings.max_batch_size * pixels + settings.max_files * _MOST_OTHER_VALUES
    parsed = upload.parse_json(await work.body(), most_values)
    if not isinstance(parsed, dict):
        raise InvalidParameter(f"expected a JSON object, got {_shown(parsed)}")
    return parsed


def pictures(instances: Any, key: str) -> list[Picture]:
    """What stands under `key` in a document. Raises `InvalidParameter` or `MalformedBody`, which name the instance."""
    if not isinstance(instances, list) or not instances:
        raise InvalidParameter(f"'{key}': expected a list of instances, got {_shown(instances)}")
    found = []
    for index, instance in enumerate(instances):
        try:
            found.append(_picture(instance))
        except DemitasseError as error:
            error.message = f"{key}[{index}]: {error.message}"
            raise
    return found


def unnamed(instance: Any) -> Any:
    """What an object holds under its one name; anything else as it is."""
    if isinstance(instance, dict) and len(instance) == 1 and BASE64_KEY not in instance:
        return next(iter(instance.values()))
    return instance


def _picture(instance: Any) -> Picture:
    bare = unnamed(instance)
    if isinstance(bare, list):
        return _pixels(bare)
    encoded = bare.get(BASE64_KEY) if isinstance(bare, dict) and len(bare) == 1 else None
    if not isinstance(encoded, str):
        raise InvalidParameter(f"expected {_EXPECTED}; got {_shown(instance)}")
    return upload.decode_base64(encoded, BASE64_KEY)


def _pixels(values: list[Any]) -> npt.NDArray[np.uint8]:
    try:
        found = np.array(values)
    except ValueError as error:
        raise InvalidParameter("expected pixels [H][W][3], got lists of different lengths") from error
    if found.dtype.kind != "i" or found.min() < 0 or found.max() > 255:
        raise InvalidParameter(f"expected {_EXPECTED}; got a list of something else")
    return found.astype(np.uint8)


def _shown(value: Any) -> str:
    """The beginning of a value that was not expected: a picture may be in it."""
    return f"{type(value).__name__} {value!r:.60}" if not isinstance(value, (list, dict)) else _outline(value)


def _outline(value: list[Any] | dict[str, Any]) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"an object with {', '.join(repr(key[:40]) for key in list(value)[:8]) or 'nothing'}"
