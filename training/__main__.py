"""Command line: `python -m training list | run | photos | compare | evaluate | index | import-imagenet | …`."""

import argparse
import importlib.util
import json
import logging
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from models import storage
from models.manifest import Manifest
from models.quiet import without_native_chatter
from models.repository import ModelRepository, RepositoryError
from training import index_command

if TYPE_CHECKING:
    import keras

    from training.checkpoint import Checkpoint
    from training.recipe import AnyRecipe, Transfer
    from training.splits import Split

_REPOSITORY = Path(__file__).parent.parent / "models"
_RUNS = Path("runs")
_FINE_TUNING_EPOCHS = 8
# The values of a recipe that the command line can replace
_CHANGES = {"architecture": str, "batch_size": int, "epochs": int, "learning_rate": float, "seed": int, "views": int}


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 1 with one line on standard error that says what is wrong."""
    options = _parser().parse_args(arguments)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # else its first start tells of its cache of fonts
    from training.data import DataError
    from training.recipe import RecipeError

    try:
        options.command(options)
    except (DataError, RecipeError, RepositoryError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing was published\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train, evaluate and publish models.")
    parser.add_argument(
        "--models",
        type=Path,
        default=Path(os.environ.get("MODEL_REPOSITORY", _REPOSITORY)),
        help="the model repository (default: $MODEL_REPOSITORY, else models/)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="the recipes, and the versions in the repository")
    listing.add_argument("--architectures", action="store_true", help="the networks instead, and what they cost")
    listing.set_defaults(command=_list)

    run = commands.add_parser("run", help="train, calibrate, evaluate and publish a recipe")
    run.add_argument("recipe")
    run.add_argument("--data", type=Path, help="the data set's file, or the folder that holds it")
    for name, kind in _CHANGES.items():
        run.add_argument(f"--{name.replace('_', '-')}", type=kind, help="instead of the recipe's")
    _add_weights(run)
    _add_running(run)
    run.add_argument(
        "--strategy", choices=["single", "mirrored"], default="single", help="mirrored: all GPUs of this machine"
    )
    run.set_defaults(command=_run)

    photos = commands.add_parser("photos", help="a folder of photos for each class -> a published version")
    photos.add_argument("folder", type=Path, metavar="DIR")
    photos.add_argument("--name", required=True, help="of the model")
    photos.add_argument("--description", help="one line for the manifest")
    photos.add_argument("--exclude", action="append", metavar="CLASS", help="a folder that is no class")
    photos.add_argument("--backbone", help="efficientnet_lite0 (default), resnet34 or resnet50")
    photos.add_argument(
        "--unfreeze", action="store_true", help="fine-tune the upper half of the backbone after the head"
    )
    photos.add_argument("--epochs", type=int, help=f"of fine-tuning (default: {_FINE_TUNING_EPOCHS})")
    photos.add_argument("--batch-size", type=int, help="of fine-tuning")
    photos.add_argument("--learning-rate", type=float, help="of fine-tuning")
    photos.add_argument("--seed", type=int)
    _add_weights(photos)
    _add_running(photos)
    photos.set_defaults(command=_photos)

    compare = commands.add_parser("compare", help="learning curves of several runs in one picture")
    compare.add_argument(
        "run", type=Path, nargs="+", help="folder of a run, such as runs/cifar10-simple/20260102T030405"
    )
    compare.add_argument("--output", type=Path, default=Path("comparison.html"))
    compare.set_defaults(command=_compare)

    evaluate = commands.add_parser("evaluate", help="measure a published version")
    evaluate.add_argument("model", help="NAME or NAME/VERSION")
    evaluate.add_argument("--data", type=Path, help="the data set's file, or the folder that holds it")
    evaluate.add_argument("--photos", type=Path, help="instead of the data set: pictures in a folder for each class")
    evaluate.set_defaults(command=_evaluate)

    index_command.add_to(commands)

    pointing = commands.add_parser(
        "pointing", help="do heat maps point at their class, where two photos are side by side"
    )
    pointing.add_argument("model", help="NAME or NAME/VERSION, trained on photos that it sees whole")
    pointing.add_argument("--data", type=Path, help="the file of Caltech-101, or the folder that holds it")
    pointing.add_argument("--photos", type=Path, help="instead: the folder that the model was trained on")
    pointing.add_argument("--engine", choices=["openvino", "tensorflow"], default="openvino")
    pointing.set_defaults(command=_pointing)

    imagenet = commands.add_parser("import-imagenet", help="publish a network with its ImageNet weights")
    imagenet.add_argument("--backbone", default="efficientnet_lite0", help="or resnet34 or resnet50")
    imagenet.add_argument("--weights", type=Path, help=".pth, .npz or .h5 (default: the installed package)")
    imagenet.add_argument("--weights-sha256", metavar="HEX", help="the SHA-256 that the weights must have")
    imagenet.set_defaults(command=_import_imagenet)

    export = commands.add_parser("export", help="publish a version's network again, in files as they are written today")
    export.add_argument("model", help="NAME or NAME/VERSION; the highest version if none is named")
    export.add_argument(
        "--reliability", action="store_true", help="read its reliability diagram on the data set's test pictures"
    )
    export.add_argument("--data", type=Path, help="the data set's file, or the folder that holds it")
    export.set_defaults(command=_export, photos=None)

    publish = commands.add_parser("publish", help="copy a version to object storage: s3://, gs://, az://")
    publish.add_argument("model", help="NAME or NAME/VERSION; the highest version if none is named")
    publish.add_argument("url", help="the repository there, without the model's name")
    publish.set_defaults(command=_publish)

    label = commands.add_parser("label", help="name a version, as stable or canary; without a version, show the labels")
    label.add_argument("model")
    label.add_argument("label", nargs="?")
    label.add_argument("version", nargs="?", type=int, help="the version that gets it")
    label.add_argument("--remove", action="store_true", help="take the label away instead")
    label.set_defaults(command=_label)
    return parser


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=Path, help="file of the backbone's ImageNet weights")
    parser.add_argument("--weights-sha256", metavar="HEX", help="its checksum, to be checked")


def _add_running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resume", action="store_true", help="go on with the newest run from its last whole epoch")
    parser.add_argument("--tensorboard", action="store_true", help="write its logs beside the report")
    parser.add_argument("--runs", type=Path, default=_RUNS, help="where reports and checkpoints lie (default: runs/)")


def _list(options: argparse.Namespace) -> None:
    if options.architectures:
        _list_architectures()
        return
    from training import recipe

    rows = [(name, recipe.card(name).partition("\n")[0]) for name in recipe.names()]
    for folder in ModelRepository(options.models).versions():
        rows.append((f"{folder.name}/{folder.version}", f"published in {folder.path}"))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        _say(f"{name:<{width}}  {text}")


def _export(options: argparse.Namespace) -> None:
    repository = ModelRepository(options.models)
    folder = repository.find_named(options.model)
    test = _test_data(options, repository.read(folder))[0] if options.reliability else None
    with without_native_chatter():
        from training import reexport, run
    published = reexport.reexport(repository, folder, test)
    _say(run.summary(published, repository.read(published), options.models))


def _publish(options: argparse.Namespace) -> None:
    repository = ModelRepository(options.models)
    folder = repository.find_named(options.model)
    _say(f"published {storage.upload(repository, folder, options.url)}")


def _label(options: argparse.Namespace) -> None:
    repository = ModelRepository(options.models)
    if options.label is None:
        repository.find(options.model)
        labels = repository.labels(options.model)
    elif options.remove == (options.version is not None):
        raise RepositoryError("expected a version for the label, or --remove")
    else:
        labels = repository.set_label(options.model, options.label, options.version)
    for name, version in sorted(labels.items()):
        _say(f"{name}  {options.model}/{version}")
    if not labels:
        _say(f"{options.model} has no labels")


def _list_architectures() -> None:
    with without_native_chatter():
        from training import zoo
    rows = [["network", "height", "width", "classes", "parameters", "multiply-adds"]]
    rows += [[name, *(f"{number:,}" for number in numbers)] for name, *numbers in zoo.table()]
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    for name, *numbers in rows:
        _say("  ".join((name.ljust(first), *map(str.rjust, numbers, widths))))


def _run(options: argparse.Namespace) -> None:
    from training import recipe

    chosen = recipe.load(options.recipe)
    chosen = recipe.changed(chosen, _given(options, *_CHANGES))
    if options.architecture is not None:  # what is live under the recipe's own name stays
        chosen = recipe.changed(chosen, {"model": f"{chosen.model}-{options.architecture}".replace("_", "-")})
    if isinstance(chosen, recipe.Transfer):
        from training import data

        if options.strategy != "single":
            raise recipe.RecipeError(f"{options.recipe} trains on one device; leave --strategy out")
        with data.caltech101_folder(options.data) as folder:
            _transfer(options.recipe, chosen, folder, options)
        return
    if options.weights or options.weights_sha256:
        raise recipe.RecipeError(f"{options.recipe} starts from random weights; leave --weights out")
    with without_native_chatter():
        from training import data, devices, run
        from training.checkpoint import REPORT
    repository = ModelRepository(options.models)
    dataset = data.load(chosen.dataset, options.data, chosen.input)
    strategy = devices.strategy(options.strategy)
    state, callbacks = _started(options.recipe, chosen, options)
    published = run.run(options.recipe, chosen, dataset, repository, state, strategy, callbacks)
    _say(run.summary(*published, options.models))
    _say(f"report: {state.folder / REPORT}")


def _photos(options: argparse.Namespace) -> None:
    from training import recipe

    fine_tuning = _given(options, "epochs", "batch_size", "learning_rate")
    if fine_tuning and not options.unfreeze:
        option = next(iter(fine_tuning)).replace("_", "-")
        raise recipe.RecipeError(f"--{option} is one of fine-tuning: give --unfreeze too, or leave it out")
    changes = {
        "model": options.name,
        "exclude": tuple(options.exclude or ()),
        "epochs": _FINE_TUNING_EPOCHS if options.unfreeze else 0,
        **fine_tuning,
        **_given(options, "backbone", "seed"),
    }
    if changes["epochs"] == 0 and options.unfreeze:
        raise recipe.RecipeError("--unfreeze needs --epochs of 1 or more; leave it out to keep the backbone frozen")
    folder = options.folder.resolve().name.encode(errors="replace").decode()  # not every name of a file is text
    start = recipe.Transfer(model="photos", description=options.description or f"Photos of {folder}")
    chosen = recipe.changed(start, changes)
    _transfer(f"photos-{options.name}", chosen, options.folder, options)


def _transfer(name: str, recipe: "Transfer", folder: Path, options: argparse.Namespace) -> None:
    from training import photos

    photos.scan(folder, recipe.exclude)  # a folder that can't be used need not wait for TensorFlow
    with without_native_chatter():
        from training import backbones, run, transfer
        from training.checkpoint import REPORT
    repository = ModelRepository(options.models)
    backbone = backbones.load(recipe.backbone, repository, options.weights, options.weights_sha256)
    state, callbacks = _started(name, recipe, options)
    published = transfer.run(name, recipe, folder, backbone, repository, state, callbacks)
    _say(run.summary(*published, options.models))
    _say(f"report: {state.folder / REPORT}")


def _started(
    name: str, recipe: "AnyRecipe", options: argparse.Namespace
) -> tuple["Checkpoint", list["keras.callbacks.Callback"]]:
    """A new run or the one to go on with, and who listens to it."""
    from training import checkpoint, devices
    from training.recipe import RecipeError

    if options.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise RecipeError("TensorBoard is not installed; install the package tensorboard, or leave --tensorboard out")
    state = (checkpoint.latest if options.resume else checkpoint.new)(options.runs, name, recipe)
    return state, [devices.tensorboard(state.folder)] if options.tensorboard else []


def _given(options: argparse.Namespace, *names: str) -> dict[str, object]:
    """The options that were given."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _compare(options: argparse.Namespace) -> None:
    with without_native_chatter():
        from training import checkpoint, report

    report.compare({str(folder): checkpoint.figures(folder) for folder in options.run}, options.output)
    _say(f"comparison: {options.output}")


def _evaluate(options: argparse.Namespace) -> None:
    repository = ModelRepository(options.models)
    folder = repository.find_named(options.model)
    manifest = repository.read(folder)
    repository.verify(folder, manifest)
    test, source = _test_data(options, manifest)
    from training import evaluate

    probabilities = evaluate.predict(folder.path, test.images)
    metrics = (
        *evaluate.figures(probabilities, test.classes, source),
        *evaluate.decision_figures(probabilities, test.classes, manifest.decision, source),
    )
    for metric in metrics:
        _say(json.dumps(metric.model_dump()))


def _test_data(options: argparse.Namespace, manifest: Manifest) -> "tuple[Split, str]":
    """What a version is measured on, and its name."""
    from training.recipe import DatasetName
    from training.splits import DataError

    record = manifest.provenance.dataset
    known = "" if record is None else record.name
    if options.photos is None and known not in get_args(DatasetName):
        what = "without a data set" if record is None else f"with {record.source}, which is no data set known here"
        raise DataError(f"{manifest.name} was published {what}; give pictures to measure it on with --photos FOLDER")
    with without_native_chatter():  # a mistaken name need not wait for TensorFlow
        from training import data, evaluate
    if options.photos is not None:
        return evaluate.load_folder(options.photos, manifest), str(options.photos)
    dataset = data.load(known, options.data, manifest.input)
    return dataset.test, f"{dataset.source}, test"


def _pointing(options: argparse.Namespace) -> None:
    repository = ModelRepository(options.models)
    folder = repository.find_named(options.model)
    manifest = repository.read(folder)
    repository.verify(folder, manifest)
    with without_native_chatter():
        from training import data, photos, pointing
    excluded = manifest.provenance.settings.get("exclude")
    place = data.caltech101_folder(options.data) if options.photos is None else nullcontext(options.photos)
    with place as root:
        listing = photos.scan(root, excluded if isinstance(excluded, list) else ())
        if [label.name for label in listing.labels] != [label.name for label in manifest.labels]:
            raise data.DataError(f"{root} holds other classes than {options.model} knows; give its own with --photos")
        explain = (pointing.by_ir if options.engine == "openvino" else pointing.by_saved_model)(folder.path)
        pairs = list(pointing.compose(listing.test, manifest.input))
    for metric in pointing.play(explain, pairs, f"{root.name}, test photos in {len(pairs):,} pairs"):
        _say(json.dumps(metric.model_dump()))


def _import_imagenet(options: argparse.Namespace) -> None:
    with without_native_chatter():
        from training import imagenet, run
    repository = ModelRepository(options.models)
    folder = imagenet.import_imagenet(options.weights, repository, options.backbone, options.weights_sha256)
    _say(run.summary(folder, repository.read(folder), options.models))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
