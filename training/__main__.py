"""Command line: `python -m training list | run | evaluate | import-imagenet`."""

import argparse
import json
import os
import sys
from pathlib import Path

from models.quiet import without_native_chatter
from models.repository import ModelRepository, RepositoryError

_REPOSITORY = Path(__file__).parent.parent / "models"


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 1 with one line on standard error that says what is wrong."""
    options = _parser().parse_args(arguments)
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
    listing.set_defaults(command=_list)

    run = commands.add_parser("run", help="train, calibrate, evaluate and publish a recipe")
    run.add_argument("recipe")
    run.add_argument("--data", type=Path, help="the data set's file, or the folder that holds it")
    run.add_argument("--epochs", type=int, help="instead of the recipe's number")
    run.add_argument("--seed", type=int, help="instead of the recipe's")
    run.set_defaults(command=_run)

    evaluate = commands.add_parser("evaluate", help="measure a published version")
    evaluate.add_argument("model", help="NAME or NAME/VERSION")
    evaluate.add_argument("--data", type=Path, help="the data set's file, or the folder that holds it")
    evaluate.add_argument("--photos", type=Path, help="instead of the data set: pictures in a folder for each class")
    evaluate.set_defaults(command=_evaluate)

    imagenet = commands.add_parser("import-imagenet", help="publish EfficientNet-Lite0 with its ImageNet weights")
    imagenet.add_argument("--weights", type=Path, help=".pth or .npz (default: the installed package)")
    imagenet.set_defaults(command=_import_imagenet)
    return parser


def _list(options: argparse.Namespace) -> None:
    from training import recipe

    for name in recipe.names():
        title, _, _ = recipe.card(name).partition("\n")
        _say(f"{name:<16} {title}")
    for folder in ModelRepository(options.models).versions():
        _say(f"{f'{folder.name}/{folder.version}':<16} published in {folder.path}")


def _run(options: argparse.Namespace) -> None:
    from training import data, recipe

    chosen = recipe.load(options.recipe)
    changes = {key: value for key in ("epochs", "seed") if (value := getattr(options, key)) is not None}
    chosen = recipe.changed(chosen, changes)
    repository = ModelRepository(options.models)
    with without_native_chatter():
        from training import run
    dataset = data.load(chosen.dataset, options.data)
    folder, manifest = run.run(options.recipe, chosen, dataset, repository)
    _say(run.summary(folder, manifest, options.models))


def _evaluate(options: argparse.Namespace) -> None:
    name, _, version = options.model.partition("/")
    if version and not version.isdecimal():
        raise RepositoryError(f"expected NAME or NAME/VERSION with a whole number, got '{options.model}'")
    repository = ModelRepository(options.models)
    folder = repository.find(name, int(version) if version else None)
    manifest = repository.read(folder)
    repository.verify(folder, manifest)
    with without_native_chatter():  # a mistaken name need not wait for TensorFlow
        from training import data, evaluate
    if options.photos is not None:
        test, source = evaluate.load_folder(options.photos, manifest), str(options.photos)
    elif manifest.provenance.dataset is not None:
        dataset = data.load(manifest.provenance.dataset.name, options.data)
        test, source = dataset.test, f"{dataset.source}, test"
    else:
        raise data.DataError(f"{name} was published without a data set; give pictures with --photos FOLDER")
    probabilities = evaluate.predict(folder.path, test.images)
    metrics = (
        *evaluate.figures(probabilities, test.classes, source),
        *evaluate.decision_figures(probabilities, test.classes, manifest.decision, source),
    )
    for metric in metrics:
        _say(json.dumps(metric.model_dump()))


def _import_imagenet(options: argparse.Namespace) -> None:
    with without_native_chatter():
        from training import imagenet, run
    repository = ModelRepository(options.models)
    folder = imagenet.import_imagenet(options.weights, repository)
    _say(run.summary(folder, repository.read(folder), options.models))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
