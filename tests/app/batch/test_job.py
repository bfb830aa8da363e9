"""What a restart goes by."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from app.batch.job import Arguments, Job, JobError, parse, part_name, read_pictures, write_pictures

ARGUMENTS = Arguments(
    input="/photos",
    model=None,
    version=None,
    top_k=None,
    rows_per_file=4,
    engine="openvino",
    precision="f32",
    max_image_pixels=100,
    max_body_bytes=100,
)
JOB = Job(
    arguments=ARGUMENTS,
    root="/photos",
    pictures_file="_pictures-1.parquet",
    pictures=10,
    model="cups",
    version=1,
    manifest_sha256="a" * 64,
)


def test_list_is_read_back_part_by_part(tmp_path: Path) -> None:
    paths = [b"%d.jpg" % number for number in range(9)] + [b"caf\xe9.jpg"]
    assert write_pictures(tmp_path / "list", iter(paths), 4) == 10
    assert [read_pictures(tmp_path / "list", part) for part in range(3)] == [paths[:4], paths[4:8], paths[8:]]
    assert pq.read_metadata(tmp_path / "list").num_row_groups == JOB.parts
    assert [JOB.size(part) for part in range(3)] == [4, 4, 2]


def test_parts_without_a_file_of_their_name_are_missing() -> None:
    names = [part_name(1), "part-000007.parquet", "part-0.parquet", ".aside-part-000000.parquet", "_job.json"]
    assert JOB.missing(names) == [0, 2]
    assert JOB.missing(map(part_name, range(3))) == []


def test_same_arguments_are_taken_and_others_named() -> None:
    JOB.check(ARGUMENTS, "a" * 64)
    with pytest.raises(JobError, match="top_k was None and is 3; precision was f32 and is bf16"):
        JOB.check(ARGUMENTS.model_copy(update={"top_k": 3, "precision": "bf16"}), "a" * 64)
    with pytest.raises(JobError, match="cups version 1 was another one"):
        JOB.check(ARGUMENTS, "b" * 64)


def test_job_is_read_back_and_anything_else_refused() -> None:
    assert parse(JOB.model_dump_json().encode()) == JOB
    for text in (b"", b"{}", b'{"later": 1}'):
        with pytest.raises(JobError, match="not one that this release can go on with"):
            parse(text)
