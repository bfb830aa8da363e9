"""Rows, as they come in no order -> files of whole parts, in the order of the list."""

from collections import Counter
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.batch.inference import PART, ROW
from app.batch.job import Job, JobError, part_name
from app.batch.output import Output


def write_parts(tables: Iterable[pa.Table], job: Job, output: Output) -> Iterator[pa.Table]:
    """Write each part once its last row has come; yields the tables as they come.

    As many parts are in memory as tasks decode at a time. Raises `StorageError` or `OSError`.
    """
    waiting: dict[int, dict[int, pa.Table]] = {}
    for table in tables:
        for part in pc.unique(table[PART]).to_pylist():
            rows = table.filter(pc.equal(table[PART], part))
            pieces = waiting.setdefault(part, {})
            pieces[rows[ROW][0].as_py()] = rows  # by its first row: what Ray computes anew comes again
            if sum(piece.num_rows for piece in pieces.values()) == job.size(part):
                whole = pa.concat_tables(waiting.pop(part).values()).sort_by(ROW).drop_columns([PART, ROW])
                with output.writing(part_name(part)) as path:
                    pq.write_table(whole, path)
        yield table


def errors_of(table: pa.Table) -> Counter[str]:
    """How many rows have each code."""
    codes = pc.struct_field(table["error"], "code").drop_null()
    return Counter({count["values"]: count["counts"] for count in pc.value_counts(codes).to_pylist()})


def errors_in(output: Output, part: int) -> Counter[str]:
    """The same of a part that is written. Raises `JobError` where it is damaged, `StorageError` or `OSError`."""
    with output.reading(part_name(part)) as path:
        try:
            return errors_of(pq.read_table(path, columns=["error"]))
        except pa.ArrowException as error:
            raise JobError(
                f"{part_name(part)} of the output is damaged: {error}; remove it, and it is made anew"
            ) from error
