"""The manifest of an index says all or is refused."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from models.index_manifest import IndexManifest

SHA = "0123456789abcdef" * 4
FILES = {
    "index.faiss": {"size_bytes": 999, "sha256": SHA},
    "classes.i32": {"size_bytes": 12, "sha256": SHA},
    "thumbnails.bin": {"size_bytes": 777, "sha256": SHA},
    "thumbnails.u64": {"size_bytes": 32, "sha256": SHA},
}


def document(**changes: Any) -> dict[str, Any]:
    """The manifest of an index of three pictures with every part filled in, as `json.loads` gives it."""
    metric = {"name": "recall@10", "value": 0.9, "low": 0.8, "high": 0.95, "interval": "bootstrap", "n": 9}
    return {
        "schema_version": 1,
        "name": "photos",
        "model": "cups",
        "version": 3,
        "model_sha256": SHA,
        "kind": "hnsw",
        "parameters": {"links": 32, "ef_construction": 200, "ef_search": 64},
        "size": 3,
        "dimension": 1280,
        "distance": "cosine",
        "labels": ["cup", "saucer"],
        "created_at": "2026-03-01T12:00:00Z",
        "dataset": "a cupboard",
        "metrics": [{**metric, "dataset": "a cupboard"}],
        "speed": {"queries_per_second": 900.0, "times_exact": 2.5, "n": 9},
        "libraries": {"faiss": "1.12.0"},
        "generation": "0123456789abcdef",
        "files": FILES,
        **changes,
    }


def test_a_manifest_survives_the_way_through_json() -> None:
    manifest = IndexManifest.model_validate(document())
    text = manifest.model_dump_json(indent=2)
    assert json.loads(text) == document()
    assert IndexManifest.model_validate_json(text) == manifest


def test_thumbnails_may_be_left_out() -> None:
    files = {name: FILES[name] for name in ("index.faiss", "classes.i32")}
    assert IndexManifest.model_validate(document(files=files)).files.keys() == files.keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"more": 1}, "Extra inputs"),
        ({"generation": "../../../mugs/1/"}, "String should match"),
        ({"size": 4}, "classes.i32 of 4 pictures has 16 bytes"),
        ({"files": FILES | {"thumbnails.u64": FILES["classes.i32"]}}, "thumbnails.u64 of 3 pictures has 32 bytes"),
        ({"size": 2**40}, "Input should be less"),
        ({"size": 0}, "Input should be greater"),
        ({"schema_version": 2}, "Input should be 1"),
        ({"kind": "pickle"}, "Input should be"),
        ({"files": FILES | {"../1/manifest.json": FILES["index.faiss"]}}, "an index has the files"),
        ({"files": {"index.faiss": FILES["index.faiss"]}}, "an index has the files"),
    ],
)
def test_what_it_can_t_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        IndexManifest.model_validate(document(**changes))
