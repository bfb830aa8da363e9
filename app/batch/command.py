"""The job is begun, or taken up where it was left; what is missing is computed; what came of it is told."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextlib import closing as closed_later
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from app.batch.assembly import errors_in, errors_of, write_parts
from app.batch.cluster import classified, cluster
from app.batch.decoding import Decode
from app.batch.inference import Wanted
from app.batch.job import (
    JOB_FILE,
    Arguments,
    Job,
    JobError,
    is_pictures_file,
    new_pictures_file,
    parse,
    write_pictures,
)
from app.batch.listing import Listing, listing
from app.batch.output import Output
from app.inference import engines
from app.registry import PREFERRED_DEFAULT, STABLE
from app.repository import open_repository
from app.settings import Settings
from models.files import file_sha256
from models.manifest import MANIFEST_FILE
from models.repository import ModelRepository, RepositoryError, VersionFolder
from models.storage import is_url

logger = logging.getLogger(__name__)

_READ_AT_A_TIME = 16
_TELL_EVERY_S = 30.0  # where no terminal shows a bar


@dataclass(frozen=True)
class Options:
    """The command's arguments. What is None is left open."""

    input: str
    output: str
    model: str | None = None
    version: int | None = None
    top_k: int | None = None
    rows_per_file: int = 1024
    batch_size: int | None = None
    storage_patience_s: float = 300.0
    address: str | None = None


@dataclass(frozen=True)
class Summary:
    """Of the whole output; `computed` of its rows by this run, in so many seconds from Ray's start to the last row."""

    pictures: int
    errors: Counter[str]
    computed: int
    seconds: float

    def lines(self) -> Iterator[str]:
        rate = f" in {self.seconds:.1f} s, {self.computed / self.seconds:.1f} a second" if self.computed else ""
        yield f"{self.pictures:,} pictures, {self.computed:,} of them in this run{rate}"
        yield f"{self.errors.total():,} error{'s' * (self.errors.total() != 1)}"
        yield from (f"  {code}: {count:,}" for code, count in sorted(self.errors.items()))


def run(options: Options, settings: Settings) -> Summary:
    """Do what is left of a job.

    Raises `JobError`, `ClusterError`, `EngineError`, `RepositoryError` or `OSError`; what is written by then stays.
    """
    with ExitStack() as closing:
        output = Output(_absolute(options.output), options.storage_patience_s)
        closing.callback(output.close)
        before = _job_of(output)
        repository, fetch, _ = open_repository(settings, closing)
        if fetch is not None:
            fetch()
        wanted = _wanted(options, settings, repository, before)
        arguments = _arguments(options, settings, wanted)
        if before is None:
            job = _begin(output, listing(options.input), arguments, wanted.folder)
        else:
            job = before
            job.check(arguments, _sha256(wanted.folder))
        missing = job.missing(output.names())
        errors = _errors_so_far(output, job, missing)
        computed = sum(map(job.size, missing))
        if not missing:
            return Summary(job.pictures, errors, computed, 0.0)
        decode = Decode(
            f"{output.address}/{job.pictures_file}",
            job.root,
            wanted.manifest.input,
            settings.max_image_pixels,
            settings.max_body_bytes,
            options.storage_patience_s,
            tuple(missing),
        )
        ray = closing.enter_context(cluster(options.address, settings.decode_threads))
        began = time.perf_counter()
        tables = closing.enter_context(closed_later(classified(ray, decode, wanted)))  # before Ray is
        for table in _shown(write_parts(tables, job, output), job.pictures - computed, job.pictures):
            errors.update(errors_of(table))
        if left := job.missing(output.names()):
            raise JobError(f"Ray has ended without {len(left)} of {job.parts} parts; run the command again")
        return Summary(job.pictures, errors, computed, time.perf_counter() - began)


def _absolute(place: str) -> str:
    return place.rstrip("/") if is_url(place) else str(Path(place).absolute())


def _job_of(output: Output) -> Job | None:
    """The job that the output has been begun with. Raises `JobError` where the folder has something else in it."""
    names = output.names()
    if JOB_FILE in names:
        with output.reading(JOB_FILE) as path:
            return parse(path.read_bytes())
    others = {name for name in names if not is_pictures_file(name)}  # which runs leave that did not come to write rows
    if others:
        raise JobError(f"{output.address} is no output of a job, but holds {min(others)}; expected a new folder")
    return None


def _wanted(options: Options, settings: Settings, repository: ModelRepository, before: Job | None) -> Wanted:
    """A job that left model or version open goes on with those that it began with."""
    name = options.model or (before.model if before else _default_model(settings, repository))
    version = options.version or (before.version if before else repository.labels(name).get(STABLE))
    folder = repository.find(name, version)
    manifest = repository.read(folder)
    repository.verify(folder, manifest)
    if options.top_k is not None and options.top_k > len(manifest.labels):
        raise JobError(f"--top-k: {name} has {len(manifest.labels)} classes, got {options.top_k}")
    engine = engines.choose(settings.engine)
    precision = engines.resolve_precision(engine, settings.precision)
    return Wanted(folder, manifest, engine, precision, options.top_k, options.batch_size)


def _default_model(settings: Settings, repository: ModelRepository) -> str:
    names = sorted({folder.name for folder in repository.versions()})
    if not names:
        raise RepositoryError(f"no models in {repository.root}")
    return settings.default_model or (PREFERRED_DEFAULT if PREFERRED_DEFAULT in names else names[0])


def _arguments(options: Options, settings: Settings, wanted: Wanted) -> Arguments:
    return Arguments(
        input=_absolute(options.input),
        model=options.model,
        version=options.version,
        top_k=options.top_k,
        rows_per_file=options.rows_per_file,
        engine=wanted.engine,
        precision=wanted.precision,
        max_image_pixels=settings.max_image_pixels,
        max_body_bytes=settings.max_body_bytes,
    )


def _begin(output: Output, found: Listing, arguments: Arguments, folder: VersionFolder) -> Job:
    """List the pictures, then write the job. Raises `JobError` where there are none, or another run was quicker."""
    pictures_file = new_pictures_file()
    with output.writing(pictures_file) as path:
        pictures = write_pictures(path, found.paths, arguments.rows_per_file)
        if not pictures:
            raise JobError(f"{arguments.input} holds no pictures")
    job = Job(
        arguments=arguments,
        root=found.root,
        pictures_file=pictures_file,
        pictures=pictures,
        model=folder.name,
        version=folder.version,
        manifest_sha256=_sha256(folder),
    )
    try:
        output.create(JOB_FILE, f"{job.model_dump_json(indent=2)}\n".encode())
    except FileExistsError:
        output.remove(pictures_file)
        raise JobError(f"another run has begun to write to {output.address}; expected a new output") from None
    return job


def _sha256(folder: VersionFolder) -> str:
    return file_sha256(folder.path / MANIFEST_FILE)


def _errors_so_far(output: Output, job: Job, missing: Sequence[int]) -> Counter[str]:
    complete = sorted(set(range(job.parts)) - set(missing))
    with ThreadPoolExecutor(_READ_AT_A_TIME) as pool:
        return sum(pool.map(partial(errors_in, output), complete), Counter())


def _shown(tables: Iterable[pa.Table], done: int, pictures: int) -> Iterator[pa.Table]:
    """A bar where a terminal shows it, else a line in the log now and then."""
    told = time.monotonic()
    with tqdm(total=pictures, initial=done, unit=" pictures", disable=not sys.stderr.isatty()) as bar:
        for table in tables:
            done += table.num_rows
            bar.update(table.num_rows)
            if bar.disable and time.monotonic() - told >= _TELL_EVERY_S:
                told = time.monotonic()
                logger.info("%s of %s pictures", f"{done:,}", f"{pictures:,}")
            yield table
