"""What is written beside the rows, so that a run can go on where another one was stopped.

`_pictures-<id>.parquet` is the list of all pictures, a row group for each part. `_job.json`, which comes after it, says
which list that is, and what the rows are made of. It is written once and never over another one, so that of two runs
that begin at the same time one is refused, and whoever writes part i, which is `part-<i>.parquet`, writes the same.
"""

import re
import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from models.manifest import Precision

JOB_FILE = "_job.json"

_PICTURES_NAME = re.compile(r"_pictures-[0-9a-f]{32}\.parquet")
_PART = re.compile(r"part-(\d{6,})\.parquet")
_PICTURES = pa.schema([("path", pa.binary())])


class JobError(Exception):
    """A job that can't be begun or gone on with; the message says what was expected and what came."""


class Arguments(BaseModel):
    """What has to be the same in each run of a job. What was left open is None."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: str
    model: str | None
    version: int | None
    top_k: int | None
    rows_per_file: int
    engine: str
    precision: Precision
    max_image_pixels: int
    max_body_bytes: int


class Job(BaseModel):
    """What the rows are made of. `root` is what the paths of the pictures in `pictures_file` are relative to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arguments: Arguments
    root: str
    pictures_file: str
    pictures: int
    model: str
    version: int
    manifest_sha256: str

    @property
    def parts(self) -> int:
        return -(-self.pictures // self.arguments.rows_per_file)

    def size(self, part: int) -> int:
        """Pictures of a part: the last one may have fewer."""
        rows = self.arguments.rows_per_file
        return min(rows, self.pictures - part * rows)

    def check(self, arguments: Arguments, manifest_sha256: str) -> None:
        """Raises `JobError` where these are not what it was begun with."""
        before, now = self.arguments.model_dump(), arguments.model_dump()
        changed = [f"{name} was {before[name]} and is {now[name]}" for name in before if before[name] != now[name]]
        if manifest_sha256 != self.manifest_sha256:
            changed.append(f"{self.model} version {self.version} was another one")
        if changed:
            raise JobError(f"the output was begun otherwise: {'; '.join(changed)}; expected the same or a new output")

    def missing(self, names: Iterable[str]) -> list[int]:
        """The parts that are not among the names of files."""
        complete = {int(match[1]) for name in names if (match := _PART.fullmatch(name))}
        return [part for part in range(self.parts) if part not in complete]


def parse(text: bytes) -> Job:
    """Raises `JobError` for what this release does not write."""
    try:
        return Job.model_validate_json(text)
    except ValidationError as error:
        raise JobError(f"{JOB_FILE} of the output is not one that this release can go on with: {error}") from error


def new_pictures_file() -> str:
    return f"_pictures-{uuid.uuid4().hex}.parquet"


def is_pictures_file(name: str) -> bool:
    return _PICTURES_NAME.fullmatch(name) is not None


def part_name(part: int) -> str:
    return f"part-{part:06}.parquet"


def write_pictures(path: Path, pictures: Iterator[bytes], rows_per_part: int) -> int:
    """The list of all pictures, in memory a part at a time; returns how many there are."""
    count = 0
    with pq.ParquetWriter(path, _PICTURES) as writer:
        while part := list(islice(pictures, rows_per_part)):
            writer.write_table(pa.table([part], _PICTURES), row_group_size=rows_per_part)
            count += len(part)
    return count


def read_pictures(path: Path, part: int) -> list[bytes]:
    """The paths of one part."""
    with pq.ParquetFile(path) as file:
        paths: list[bytes] = file.read_row_group(part).column(0).to_pylist()
    return paths
