"""Photos in a folder for each class -> a published version that knows these classes.

    scan        which photos there are, which of them test
    features    embeddings of all photos by the frozen backbone, each photo once
    head        logistic regression on them
    fine-tune   with epochs: the upper half of the backbone, too
    conclude    temperature, threshold, quantile; figures on test
    publish     as every other version

Where the backbone stays frozen, confidences are calibrated on cross-fitted logits, and no photo is held out: photos
are few where people take them themselves. With fine-tuning that would take a training for each fold, so a part is
held out. Figures of a frozen backbone are those of the precision in which it is served on the processor that fits
its head, and say so; all others are those of float32.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from models.manifest import DatasetRecord, Decision, Manifest, SplitRecord
from models.repository import ModelRepository, VersionFolder
from training import architectures, data, duplicates, evaluate, export, features, head, photos, provenance, report
from training.backbones import MODELS, Backbone
from training.checkpoint import REPORT, Checkpoint
from training.conclude import TARGET_RISK, Outputs, conclude
from training.features import Features, Rows
from training.fine_tune import classifier_of, fine_tune, with_head
from training.fit import Trained
from training.head import Head
from training.photos import Listing
from training.recipe import Transfer
from training.splits import DataError, Split
from training.terminal import say

_PHOTOS = "photos.json"
_SCRATCH = "pixels-"
_SHOWN = 10
_FEW = 50
_GOLDEN_CANDIDATES = 64


class _Phase(NamedTuple):
    """A network, how it came about, and what it says of examples that did not train it."""

    trained: Trained
    calibration: Outputs
    decision: Outputs
    test: Outputs
    parts: dict[str, Rows]


def run(
    name: str,
    recipe: Transfer,
    folder: Path,
    backbone: Backbone,
    repository: ModelRepository,
    checkpoint: Checkpoint,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[VersionFolder, Manifest]:
    """Fit, calibrate, evaluate and publish. `name` is the recipe's, for the manifest.

    Raises `DataError` for photos that can't be used, and for a name that backbones go by.
    """
    started = time.monotonic()
    if recipe.model in MODELS.values():  # else it would be the backbone of the next network
        raise DataError(f"{recipe.model} is the name of a backbone; choose another --name")
    keras.utils.set_random_seed(recipe.seed)
    listing = photos.scan(folder, recipe.exclude)
    labels, source = listing.labels, _source(recipe, folder)
    say(f"{len(listing.train):,} photos to train on, {len(listing.test):,} to test on, {len(labels)} classes")
    for line in (photos.imbalance(listing), *photos.untested(listing), *photos.left_over(listing)):
        say(line)
    body = resized(backbone.network, recipe.input.height, recipe.input.width)
    for left in checkpoint.folder.glob(f"{_SCRATCH}*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=_SCRATCH, dir=checkpoint.folder, ignore_cleanup_errors=True) as scratch:
        found = features.extract((*listing.train, *listing.test), recipe.input, body, Path(scratch))
        _report_unreadable(found)
        train, test = _parts(found, listing)
        _report_duplicates(found, train, test)
        if recipe.epochs:
            phase = _fine_tuned(body, found, len(labels), train, test, recipe, source, checkpoint, callbacks)
        else:
            phase = _frozen(body, found, len(labels), train, test, recipe, source)
        conclusion = conclude(phase.calibration, phase.decision, phase.test)
        _report_doubts(conclusion.decision, phase)
        network = phase.trained.network
        per_class = evaluate.mean_per_class(phase.test.logits.argmax(axis=1), phase.test.classes, phase.test.source)
        draft = export.draft(
            name=recipe.model,
            description=recipe.description,
            architecture=network.name,
            network=network,
            spec=recipe.input,
            labels=labels,
            conclusion=conclusion._replace(metrics=(*conclusion.metrics, per_class)),
            provenance=provenance.record(
                name,
                settings=recipe.model_dump(mode="json"),
                seed=recipe.seed,
                dataset=_record(name if recipe.dataset == "photos" else recipe.dataset, source, found, phase.parts),
                pretrained=backbone.pretrained,
                wall_seconds=phase.trained.seconds_before + time.monotonic() - started,
            ),
        )
        candidates = np.asarray(found.pixels[train[:: max(1, len(train) // _GOLDEN_CANDIDATES)]])
        published = export.publish(network, conclusion.temperature, draft, candidates, repository)
        manifest = repository.read(published)
        with report.after(published):
            # Pixels stay in their file: the report looks at few of them
            findings = report.Findings(
                manifest,
                phase.trained.history,
                Split(found.pixels[test[0] :], found.classes[test]),
                phase.test.logits,
                network,
            )
            report.write(findings, checkpoint.folder / REPORT)
    return published, manifest


def resized(network: keras.Model, height: int, width: int) -> keras.Model:
    """The same weights for pictures of another size."""
    if network.input_shape[1:3] == (height, width):
        return network
    other = architectures.build(network.name, height, width, network.output["logits"].shape[-1])
    other.set_weights(network.get_weights())
    return other


def _frozen(
    body: keras.Model, found: Features, count: int, train: Rows, test: Rows, recipe: Transfer, source: str
) -> _Phase:
    embeddings, classes = found.embeddings[train], found.classes[train]
    fitted = head.fit(embeddings, classes, count)
    logits = head.cross_fitted_logits(embeddings, classes, count, recipe.seed)
    halves = head.halves(classes, recipe.seed)
    read = ", in bfloat16" if features.precision() == "bf16" else ""
    described = [
        f"{source}, half of the training photos, cross-fitted in {head.FOLDS} folds, {half}{read}"
        for half in ("a", "b")
    ]
    calibration, decision = (
        Outputs(logits[mask], classes[mask], text) for mask, text in zip(halves, described, strict=True)
    )
    judged = Outputs(fitted(found.embeddings[test]), found.classes[test], f"{source}, test{read}")
    return _Phase(Trained(with_head(body, fitted), ()), calibration, decision, judged, {"train": train, "test": test})


def _fine_tuned(
    body: keras.Model,
    found: Features,
    count: int,
    train: Rows,
    test: Rows,
    recipe: Transfer,
    source: str,
    checkpoint: Checkpoint,
    callbacks: Sequence[keras.callbacks.Callback],
) -> _Phase:
    kept, calibration, decision = _held_out(found.classes[train], recipe)
    parts = {"train": train[kept], "calibration": train[calibration], "decision": train[decision], "test": test}
    if min(map(len, parts.values())) == 0:
        raise DataError(f"{len(train)} photos are too few to hold some out; leave --unfreeze out")
    _refuse_other_photos(found, parts, checkpoint)
    fitted: Head = head.fit(found.embeddings[parts["train"]], found.classes[parts["train"]], count)
    trained = fine_tune(
        with_head(body, fitted),
        found.pixels,
        found.classes,
        parts["train"],
        parts["calibration"],
        recipe,
        checkpoint,
        callbacks,
    )

    judged = ("calibration", "decision", "test")
    read = features.reader(trained.network, "embedding")
    embedded = read(found.pixels, np.concatenate([parts[part] for part in judged]))
    logits = Head(*classifier_of(trained.network).get_weights())(embedded)
    ends = np.cumsum([len(parts[part]) for part in judged])

    def outputs(part: str, text: str) -> Outputs:
        rows, end = parts[part], ends[judged.index(part)]
        return Outputs(logits[end - len(rows) : end], found.classes[rows], text)

    return _Phase(
        trained,
        outputs("calibration", f"{source}, held out for calibration"),
        outputs("decision", f"{source}, held out for decisions"),
        outputs("test", f"{source}, test"),
        parts,
    )


def _refuse_other_photos(found: Features, parts: dict[str, Rows], checkpoint: Checkpoint) -> None:
    """Where photos came or went, some that have trained might test once the run goes on."""
    digests = {
        part: hashlib.sha256(found.hashes[rows].tobytes() + found.classes[rows].tobytes()).hexdigest()
        for part, rows in parts.items()
    }
    path = checkpoint.folder / _PHOTOS
    if not path.exists():
        aside = path.with_suffix(".part")
        aside.write_text(json.dumps(digests, indent=2) + "\n", encoding="utf-8")
        aside.replace(path)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}; start without --resume") from error
    if before != digests:
        raise DataError(f"{checkpoint.folder} began with other photos than there are now; start without --resume")


def _held_out(classes: npt.NDArray[np.int64], recipe: Transfer) -> tuple[Rows, Rows, Rows]:
    """Rows to train on, to calibrate with (a third of what is held out) and to decide by; classes spread evenly."""
    random = np.random.default_rng(recipe.seed)
    order = np.concatenate([random.permutation(np.flatnonzero(classes == c)) for c in np.unique(classes)])
    # Every so many-th photo of the row of classes: a class of few photos may have none among them
    marks = np.floor(np.arange(1, len(order) + 1) * recipe.held_out) > np.floor(np.arange(len(order)) * recipe.held_out)
    held_out = order[marks]
    calibrates = np.arange(len(held_out)) % 3 == 0
    return np.sort(order[~marks]), np.sort(held_out[calibrates]), np.sort(held_out[~calibrates])


def _parts(found: Features, listing: Listing) -> tuple[Rows, Rows]:
    """Rows that train and rows that test, among the readable photos."""
    names = [label.name for label in listing.labels]
    counts = np.bincount(found.classes, minlength=len(names))
    if few := [f"'{names[i]}' ({counts[i]})" for i in np.flatnonzero(counts < photos.MINIMUM_PER_CLASS)]:
        expected = f"expected at least {photos.MINIMUM_PER_CLASS} photos that can be read in each class"
        raise DataError(f"{expected}, got fewer in {', '.join(few)}; repair or add photos")
    testing = set(listing.test)
    is_test = np.array([photo in testing for photo in found.photos])
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    if not len(test):
        raise DataError("none of the photos to test on can be read")
    if empty := [name for i, name in enumerate(names) if not (found.classes[train] == i).any()]:
        raise DataError(f"no readable photo is left to train on in {', '.join(empty)}")
    return train, test


def _source(recipe: Transfer, folder: Path) -> str:
    if recipe.dataset == "caltech101":
        return data.caltech101_source(folder)
    return f"photos in {folder.resolve().name}".encode(errors="replace").decode()  # of names that are no text, too


def _record(name: str, source: str, found: Features, parts: dict[str, Rows]) -> DatasetRecord:
    return DatasetRecord(name=name, source=source, splits={part: _hashed(found, rows) for part, rows in parts.items()})


def _hashed(found: Features, rows: Rows) -> SplitRecord:
    """As `Split.record`, but without all the pixels in memory at a time."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(np.ascontiguousarray(found.pixels[row]).data)
    digest.update(np.ascontiguousarray(found.classes[rows]).data)
    return SplitRecord(n=len(rows), sha256=digest.hexdigest())


def _report_unreadable(found: Features) -> None:
    for path, reason in found.unreadable:
        say(f"skipped {path}: {reason}")


def _report_duplicates(found: Features, train: Rows, test: Rows) -> None:
    pairs = duplicates.near_duplicates(found.hashes[train], found.hashes[test])
    if not pairs:
        return
    twice = len({b for _, b in pairs})
    say(f"photos to test on that look like one to train on, so that test figures may flatter: {twice:,}")
    for a, b in pairs[:_SHOWN]:
        say(f"  {found.photos[test[b]].path} ~ {found.photos[train[a]].path}")
    if len(pairs) > _SHOWN:
        say(f"  and {len(pairs) - _SHOWN:,} more pairs")


def _report_doubts(decision: Decision, phase: _Phase) -> None:
    if (n := len(phase.calibration.classes)) < _FEW:
        say(f"confidences are calibrated on {n} photos only: take them with care, or add photos")
    if decision.abstention is None:
        n = len(phase.decision.classes)
        say(f"'reliable' will be null: {n:,} photos don't show where errors fall to {TARGET_RISK:.0%}")
