"""The figures of each epoch, and the CSV file that keeps them beside a run."""

import csv
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

FILE = "history.csv"


class HistoryError(Exception):
    """A file that holds no history; the message names the line."""


@dataclass(frozen=True)
class Epoch:
    """`epoch` counts from 1, `loss` is the mean over the epoch's batches, `learning_rate` the one at its end."""

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float


_COLUMNS = [field.name for field in fields(Epoch)]


def write(history: Iterable[Epoch], path: Path) -> None:
    """A line for the names of the columns, then one an epoch; numbers come back from it as they were."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(astuple(epoch) for epoch in history)


def read(path: Path) -> tuple[Epoch, ...]:
    """All epochs of a file from `write`. Raises `HistoryError`."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    if header != _COLUMNS:
        raise HistoryError(f"{path}, line 1: expected {','.join(_COLUMNS)}, got '{','.join(header)}'")
    return tuple(_epoch(row, f"{path}, line {number}") for number, row in enumerate(rows, start=2))


def _epoch(row: list[str], where: str) -> Epoch:
    try:
        number, loss, accuracy, validation_loss, validation_accuracy, learning_rate, seconds = row
        return Epoch(
            epoch=int(number),
            loss=float(loss),
            accuracy=float(accuracy),
            validation_loss=float(validation_loss),
            validation_accuracy=float(validation_accuracy),
            learning_rate=float(learning_rate),
            seconds=float(seconds),
        )
    except ValueError as error:
        raise HistoryError(f"{where}: expected {len(_COLUMNS)} numbers, got '{','.join(row)}'") from error
