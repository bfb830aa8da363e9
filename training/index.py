"""A version and pictures -> a published index: embeddings, their index, figures on queries, and thumbnails."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from models import nearest
from models.index_manifest import CLASSES_FILE, INDEX_FILE, IndexManifest, Kind
from models.indexes import IndexFolder, IndexStore, ThumbnailWriter
from models.manifest import Manifest
from models.repository import ModelRepository, VersionFolder
from training import embed, photos, provenance, retrieval
from training.embed import Embed, Embedded
from training.pictures import Collection
from training.splits import DataError
from training.terminal import say


@dataclass(frozen=True)
class Plan:
    """What is to be built. `parameters` are those of the kind that differ from their defaults."""

    name: str
    kind: Kind = "exact"
    parameters: dict[str, int] = field(default_factory=dict)
    thumbnails: bool = True
    evaluate: bool = False


def run(
    plan: Plan, collection: Collection, repository: ModelRepository, folder: VersionFolder, manifest: Manifest
) -> tuple[IndexFolder, IndexManifest]:
    """Embed, build, measure and publish. Raises `DataError` for pictures, `RepositoryError` for the rest."""
    parameters = nearest.resolved(plan.kind, plan.parameters)
    compute = embed.load(folder.path)
    with repository.staging() as staged:
        indexed = _indexed(collection, manifest, compute, staged, thumbnails=plan.thumbnails)
        index = nearest.build(indexed.embeddings, plan.kind, parameters)
        if plan.kind == "hnsw" and "ef_search" not in plan.parameters:
            index = retrieval.with_recall(index, indexed.embeddings)
        index.write(staged / INDEX_FILE)
        indexed.classes.astype("<i4").tofile(staged / CLASSES_FILE)
        draft = IndexManifest.model_construct(
            name=plan.name,
            model=folder.name,
            version=folder.version,
            model_sha256=manifest.fingerprint,
            kind=plan.kind,
            parameters=index.parameters,
            size=len(indexed.classes),
            dimension=indexed.embeddings.shape[1],
            labels=collection.labels,
            created_at=datetime.now(UTC).replace(microsecond=0),
            dataset=collection.source,
            libraries=provenance.libraries() | {"faiss-cpu": nearest.library().__version__},
        )
        if plan.evaluate:
            queries = _readable(embed.extract(collection.queries, manifest.input, compute, description="queries"))
            source = f"{len(queries.classes):,} queries beside {collection.source}"
            draft = draft.model_copy(
                update={
                    "metrics": retrieval.figures(index, indexed, queries, source),
                    "speed": retrieval.speed(index, indexed, queries),
                }
            )
        store = IndexStore(repository)
        published = store.publish(staged, draft)
    return published, store.read(published)


def summary(folder: IndexFolder, manifest: IndexManifest) -> str:
    """One line: what was published, and what it reached."""
    parameters = "".join(f", {name} {value}" for name, value in manifest.parameters.items())
    line = (
        f"published index {folder.name} of {folder.model} version {manifest.version} in {folder.path}: "
        f"{manifest.kind}{parameters}, {manifest.size:,} pictures"
    )
    for metric in manifest.metrics:
        line += f"; {metric.name} {metric.value:.2%} ({metric.low:.2%} to {metric.high:.2%}), n = {metric.n:,}"
    if manifest.speed is not None:
        line += f"; {manifest.speed.queries_per_second:,.0f} queries/s, {manifest.speed.times_exact:.1f} times exact"
    return line


def _indexed(collection: Collection, manifest: Manifest, compute: Embed, staged: Path, *, thumbnails: bool) -> Embedded:
    writer = ThumbnailWriter(staged) if thumbnails else None
    try:
        take = None if writer is None else writer.add
        return _readable(embed.extract(collection.indexed, manifest.input, compute, take))
    finally:
        if writer is not None:
            writer.close()


def _readable(found: Embedded) -> Embedded:
    """Pictures that can't be read are named, and too many of them refused, as where a model is trained."""
    total = len(found.classes) + len(found.unreadable)
    photos.refuse_if_too_many([(Path(name), reason) for name, reason in found.unreadable], total)
    for name, reason in found.unreadable:
        say(f"skipped {name}: {reason}")
    if not len(found.classes):
        raise DataError("there are no pictures that can be read")
    return found
