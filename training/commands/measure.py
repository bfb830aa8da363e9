"""`python -m training evaluate`, `pointing` and `compare`: figures of versions and runs."""

import argparse
import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from models.manifest import Manifest
from models.quiet import without_native_chatter
from models.repository import ModelRepository
from training.terminal import say

if TYPE_CHECKING:
    from training.commands import Commands
    from training.splits import Dataset


def add_to(commands: "Commands") -> None:
    evaluate = commands.add_parser("evaluate", help="measure a published version")
    evaluate.add_argument("model", help="NAME or NAME/VERSION")
    evaluate.add_argument("--data", type=Path, help="the data set's file, or the folder that holds it")
    evaluate.add_argument("--photos", type=Path, help="instead of the data set: pictures in a folder for each class")
    evaluate.set_defaults(command=_evaluate)

    pointing = commands.add_parser(
        "pointing", help="measure whether heat maps point at their class, where two photos are side by side"
    )
    pointing.add_argument("model", help="NAME or NAME/VERSION, trained on photos that it sees whole")
    pointing.add_argument("--data", type=Path, help="the file of Caltech-101, or the folder that holds it")
    pointing.add_argument("--photos", type=Path, help="instead: the folder that the model was trained on")
    pointing.add_argument("--engine", choices=["openvino", "tensorflow"], default="openvino")
    pointing.set_defaults(command=_pointing)

    compare = commands.add_parser("compare", help="learning curves of several runs in one picture")
    compare.add_argument(
        "run", type=Path, nargs="+", help="folder of a run, such as runs/cifar10-simple/20260102T030405"
    )
    compare.add_argument("--output", type=Path, default=Path("comparison.html"))
    compare.set_defaults(command=_compare)


def _evaluate(options: argparse.Namespace) -> None:
    repository = ModelRepository(options.models)
    folder = repository.find_named(options.model)
    manifest = repository.read(folder)
    repository.verify(folder, manifest)
    if options.photos is None:
        dataset = known_dataset(manifest, options.data, "give pictures to measure it on with --photos FOLDER")
        test, source = dataset.test, f"{dataset.source}, test"
    with without_native_chatter():
        from training import evaluate
    if options.photos is not None:
        test, source = evaluate.load_folder(options.photos, manifest), str(options.photos)
    probabilities = evaluate.predict(folder.path, test.images)
    metrics = (
        *evaluate.figures(probabilities, test.classes, source),
        *evaluate.decision_figures(probabilities, test.classes, manifest.decision, source),
    )
    for metric in metrics:
        say(json.dumps(metric.model_dump()))


def known_dataset(
    manifest: Manifest, data_path: Path | None, otherwise: str = "its pictures can't be had"
) -> "Dataset":
    """The data set that a version was trained on. Raises `DataError` where it is none that recipes know.

    `otherwise` says in the error what there is to do about that.
    """
    from training.recipe import DatasetName
    from training.splits import DataError

    record = manifest.provenance.dataset
    known = "" if record is None else record.name
    if known not in get_args(DatasetName):
        what = "without a data set" if record is None else f"with {record.source}, which is no data set known here"
        raise DataError(f"{manifest.name} was published {what}; {otherwise}")
    with without_native_chatter():  # a mistaken name need not wait for TensorFlow
        from training import data
    return data.load(known, data_path, manifest.input)


def _pointing(options: argparse.Namespace) -> None:
    repository = ModelRepository(options.models)
    folder = repository.find_named(options.model)
    manifest = repository.read(folder)
    repository.verify(folder, manifest)
    with without_native_chatter():
        from training import data, photos, pointing
    from training.splits import DataError

    excluded = manifest.provenance.settings.get("exclude")
    place = data.caltech101_folder(options.data) if options.photos is None else nullcontext(options.photos)
    with place as root:
        listing = photos.scan(root, excluded if isinstance(excluded, list) else ())
        if [label.name for label in listing.labels] != [label.name for label in manifest.labels]:
            raise DataError(f"{root} holds other classes than {options.model} knows; give its own with --photos")
        explain = (pointing.by_ir if options.engine == "openvino" else pointing.by_saved_model)(folder.path)
        pairs = list(pointing.compose(listing.test, manifest.input))
    for metric in pointing.play(explain, pairs, f"{root.name}, test photos in {len(pairs):,} pairs"):
        say(json.dumps(metric.model_dump()))


def _compare(options: argparse.Namespace) -> None:
    with without_native_chatter():
        from training import checkpoint, report

    report.compare({str(folder): checkpoint.figures(folder) for folder in options.run}, options.output)
    say(f"comparison: {options.output}")
