"""Rows in any order to files of whole parts."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.batch.assembly import errors_in, write_parts
from app.batch.job import JobError
from app.batch.output import Output
from tests.app.batch.test_job import JOB


def _rows(part: int, *rows: int) -> pa.Table:
    errors = pa.array([{"code": "not_found"} if row == 1 else None for row in rows], pa.struct([("code", pa.string())]))
    paths = [f"{part}/{row}" for row in rows]
    return pa.table({"part": [part] * len(rows), "row": list(rows), "path": paths, "error": errors})


def test_part_is_written_with_its_last_row_in_the_order_of_the_list(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    tables = [_rows(1, 2, 3), _rows(0, 0, 1), _rows(1, 2, 3), _rows(2, 0, 1), _rows(1, 0, 1)]
    written = [sorted(output.names()) for _ in write_parts(tables, JOB, output)]
    third, second = "part-000002.parquet", "part-000001.parquet"
    assert written == [[], [], [], [third], [second, third]]  # rows that came twice count once
    found = pq.read_table(tmp_path / second)
    assert found.column_names == ["path", "error"]
    assert found["path"].to_pylist() == ["1/0", "1/1", "1/2", "1/3"]
    assert errors_in(output, 1) == {"not_found": 1}
    (tmp_path / second).write_bytes(b"PAR1")
    with pytest.raises(JobError, match="of the output is damaged"):
        errors_in(output, 1)
    output.close()
