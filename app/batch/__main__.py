"""Classify pictures by the million: `python -m app.batch INPUT --output OUT.parquet`.

Exit code 0 where the output is complete and at least one picture of it could be classified; 1 where the job can't be
done, INPUT without pictures among that; 2 for arguments or settings that can't work; 3 where every picture failed; 130
after Ctrl-C and 143 after SIGTERM, after which the same command goes on.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from types import FrameType

from pydantic import ValidationError

from app.inference.engines.base import EngineError
from app.observability import configure_logging
from app.settings import Settings, problems
from models.repository import RepositoryError
from models.storage import StorageError

_NEEDED = ("pyarrow", "ray", "tqdm")
_MOST_ROWS_PER_FILE = 1_000_000
_GOES_ON = "what is complete stays, and the same command goes on from there"


class _Stopped(BaseException):
    """A signal came, of this number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(arguments: Sequence[str]) -> int:
    parsed = _parser().parse_args(arguments)
    try:
        settings = Settings()
    except ValidationError as error:
        return _failed("\nerror: ".join(problems(error)), 2)
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        return _failed(f"{', '.join(missing)} is not installed; install the extra 'batch': pip install '.[batch]'", 1)
    configure_logging(settings.log_level, settings.log_format)
    return _run(parsed, settings)


def _run(parsed: argparse.Namespace, settings: Settings) -> int:
    from app.batch.cluster import ClusterError
    from app.batch.command import Options, run
    from app.batch.job import JobError

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        summary = run(Options(**vars(parsed)), settings)
    except StorageError as error:
        return _failed(f"{error}; {_GOES_ON}", 1)
    except (JobError, ClusterError, EngineError, RepositoryError, OSError) as error:
        return _failed(str(error), 1)
    except _Stopped as stopped:
        with suppress(OSError):
            sys.stderr.write(f"stopped; {_GOES_ON}\n")
        return 128 + stopped.number
    sys.stdout.write("".join(f"{line}\n" for line in summary.lines()))
    return 3 if summary.errors.total() == summary.pictures else 0


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  the signature is that of a handler
    for again in (signal.SIGINT, signal.SIGTERM):  # a second one would tear what ends Ray
        signal.signal(again, signal.SIG_IGN)
    raise _Stopped(number)


def _failed(message: str, code: int) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app.batch",
        description="Classify pictures by the million, into Parquet. A run that was stopped goes on where it was.",
        epilog="MODEL_REPOSITORY, ENGINE, PRECISION, MAX_IMAGE_PIXELS and other settings are those of the service.",
    )
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="a folder, a pattern such as 'photos/**/*.jpg', or a list of paths: a text file (.txt) with one on each "
        "line, or a Parquet file (.parquet) with a column `path`; local, or an address such as s3://bucket/photos",
    )
    parser.add_argument("--output", required=True, metavar="OUT.parquet", help="folder of Parquet files, or an address")
    parser.add_argument("--model", help="default: that of the service")
    parser.add_argument("--version", type=_at_least_one, help="default: the one labelled stable, or the highest")
    parser.add_argument("--top-k", type=_at_least_one, metavar="K", help="write the top k classes, too")
    parser.add_argument(
        "--rows-per-file",
        type=_rows,
        default=1024,
        metavar="N",
        help="pictures of a file, and what is computed anew at most, by each core, after a stop (1024)",
    )
    parser.add_argument(
        "--batch-size", type=_at_least_one, metavar="N", help="pictures at a time, of each lane (8; on a GPU 64)"
    )
    parser.add_argument(
        "--storage-patience-s",
        type=_seconds,
        default=300.0,
        metavar="S",
        help="how long a storage that does not answer is asked again, before the job stops (300)",
    )
    parser.add_argument(
        "--address", default=os.environ.get("RAY_ADDRESS") or None, help="of a Ray cluster (RAY_ADDRESS; none)"
    )
    return parser


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected 0 or more seconds, got {text}")
    return value


def _rows(text: str) -> int:
    value = _at_least_one(text)
    if value > _MOST_ROWS_PER_FILE:
        raise argparse.ArgumentTypeError(f"expected at most {_MOST_ROWS_PER_FILE:,}, got {value:,}")
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
