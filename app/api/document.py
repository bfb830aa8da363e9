"""The OpenAPI document, beyond what FastAPI makes of the routes: bodies with names, and answers as examples.

`examples.json` holds answers of the application itself, by operation (`*` for any), status and code; a test makes each
of them again.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from app.api.schemas import ErrorBody

_EXAMPLES = Path(__file__).with_name("examples.json")
_NAMED = "#/components/schemas/{model}"
_BINARY = {"type": "string", "format": "binary"}

# A picture of one pixel, so that the examples can be sent as they are
SMALL_PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP49OkTAAWwAtccUw7xAAAAAElFTkSuQmCC"


def form(title: str, field: str, *, several: bool = False) -> dict[str, Any]:
    """The content of a multipart body with one picture under that name, or several."""
    schema = {"type": "array", "minItems": 1, "items": _BINARY} if several else _BINARY
    return {
        "multipart/form-data": {
            "schema": {"title": title, "type": "object", "required": [field], "properties": {field: schema}}
        }
    }


def binary(*media_types: str) -> dict[str, Any]:
    """The content of a body that is nothing but a file."""
    return {media_type: {"schema": _BINARY} for media_type in media_types}


def json_of(model: type[BaseModel], example: Any) -> dict[str, Any]:
    """The content of a body in JSON."""
    return {"application/json": {"schema": _schema(model), "example": example}}


def taking(*contents: dict[str, Any], required: bool = True) -> dict[str, Any]:
    """FastAPI's `openapi_extra` for a route that takes any of these contents."""
    content = {media_type: media for each in contents for media_type, media in each.items()}
    return {"requestBody": {"required": required, "content": content}}


def complete(document: dict[str, Any]) -> None:
    """Add to a document what is ours. Routes that it does not have keep their examples to themselves."""
    schemas = document["components"]["schemas"]
    _named(_schema(ErrorBody), schemas)
    examples = json.loads(_EXAMPLES.read_bytes())
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
            for media in operation.get("requestBody", {}).get("content", {}).values():
                media["schema"] = _named(media["schema"], schemas)
            for status, bodies in (examples["*"] | examples.get(operation["operationId"], {})).items():
                if status in operation["responses"]:  # 401 only where a key is needed
                    content = operation["responses"][status]["content"]["application/json"]
                    content["examples"] = {name: {"value": body} for name, body in bodies.items()}


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema(ref_template=_NAMED)


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter may be left out; what is null in Python has no way to be sent."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {**kinds[0], **{key: value for key, value in schema.items() if key != "anyOf"}}


def _named(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """A reference to the schema among those with names: generators call a type after its name there."""
    if "title" not in schema:
        return schema
    schemas.update(schema.pop("$defs", {}))
    schemas[schema["title"]] = schema
    return {"$ref": _NAMED.format(model=schema["title"])}
