"""What an index says about itself: `index.json`, as strict as the manifest of a version."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from models.manifest import Metric, ModelName, Part, Sha256

INDEX_MANIFEST_FILE = "index.json"
INDEX_FILE = "index.faiss"
CLASSES_FILE = "classes.i32"
THUMBNAILS_FILE = "thumbnails.bin"
OFFSETS_FILE = "thumbnails.u64"

_REQUIRED = {INDEX_FILE, CLASSES_FILE}
_THUMBNAILS = {THUMBNAILS_FILE, OFFSETS_FILE}

Kind = Literal["exact", "hnsw", "lsh"]


class FileRecord(Part):
    size_bytes: int = Field(ge=0)
    sha256: Sha256


class Speed(Part):
    """Queries one after the other in one thread, as they are served; of use only beside those of the same machine."""

    queries_per_second: float = Field(gt=0.0)
    times_exact: float = Field(gt=0.0, description="the same, divided by that of an exact search in the same vectors")
    n: int = Field(ge=1)


class IndexManifest(Part):
    """A whole `index.json`. `model_sha256` is the `fingerprint` of the version that computed the embeddings."""

    schema_version: Literal[1] = 1
    name: ModelName
    model: ModelName
    version: int = Field(ge=1)
    model_sha256: Sha256
    kind: Kind
    parameters: dict[str, int] = Field(description="of the kind, as they were used")
    size: int = Field(ge=1, le=2**31 - 1, description="pictures")
    dimension: int = Field(ge=1, le=2**16)
    distance: Literal["cosine"] = "cosine"
    labels: tuple[str, ...] = Field(max_length=2**16, description="empty where the pictures have none")
    created_at: datetime
    dataset: str
    metrics: tuple[Metric, ...] = ()
    speed: Speed | None = None
    libraries: dict[str, str] = Field(default_factory=dict)
    generation: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    files: dict[str, FileRecord]

    @model_validator(mode="after")
    def _files_are_those_of_an_index(self) -> Self:
        if self.files.keys() not in (_REQUIRED, _REQUIRED | _THUMBNAILS):
            raise ValueError(f"an index has the files {', '.join(sorted(_REQUIRED))} and maybe thumbnails")
        expected = {CLASSES_FILE: 4 * self.size, OFFSETS_FILE: 8 * (self.size + 1)}
        for name, size_bytes in expected.items():
            if name in self.files and self.files[name].size_bytes != size_bytes:
                raise ValueError(f"{name} of {self.size} pictures has {size_bytes} bytes")
        return self
