"""`python -m training list`, `import-imagenet`, `export`, `publish` and `label`: what the repository holds."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from models import storage
from models.quiet import without_native_chatter
from models.repository import ModelRepository, RepositoryError
from training.commands.measure import known_dataset
from training.splits import held_out
from training.terminal import say

if TYPE_CHECKING:
    from training.commands import Commands


def add_to(commands: "Commands") -> None:
    listing = commands.add_parser("list", help="the recipes, and the versions in the repository")
    listing.add_argument("--architectures", action="store_true", help="the networks instead, and what they cost")
    listing.set_defaults(command=_list)

    imagenet = commands.add_parser("import-imagenet", help="publish a network with its ImageNet weights")
    imagenet.add_argument("--backbone", default="efficientnet_lite0", help="or resnet34 or resnet50")
    imagenet.add_argument("--weights", type=Path, help=".pth, .npz or .h5 (default: the installed package)")
    imagenet.add_argument("--weights-sha256", metavar="HEX", help="the SHA-256 that the weights must have")
    imagenet.set_defaults(command=_import_imagenet)

    export = commands.add_parser("export", help="publish a version again, as versions are today: with heat maps")
    export.add_argument("model", help="NAME or NAME/VERSION; the highest version if none is named")
    again = export.add_mutually_exclusive_group()
    again.add_argument(
        "--reliability", action="store_true", help="read its reliability diagram on the data set's test pictures"
    )
    again.add_argument(
        "--recalibrate", action="store_true", help="fit temperature and threshold again on what its recipe held out"
    )
    export.add_argument("--data", type=Path, help="the data set's file, or the folder that holds it")
    export.set_defaults(command=_export)

    publish = commands.add_parser("publish", help="copy a version to object storage: s3://, gs://, az://")
    publish.add_argument("model", help="NAME or NAME/VERSION; the highest version if none is named")
    publish.add_argument("url", help="the repository there, without the model's name")
    publish.set_defaults(command=_publish)

    label = commands.add_parser("label", help="name a version, as stable or canary; without a version, show the labels")
    label.add_argument("model", help="NAME")
    label.add_argument("label", nargs="?", help="such as stable or canary")
    label.add_argument("version", nargs="?", type=int, help="the version that gets it")
    label.add_argument("--remove", action="store_true", help="take the label away instead")
    label.set_defaults(command=_label)


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
        say(f"{name:<{width}}  {text}")


def _list_architectures() -> None:
    with without_native_chatter():
        from training import zoo
    rows = [["network", "height", "width", "classes", "parameters", "multiply-adds"]]
    rows += [[name, *(f"{number:,}" for number in numbers)] for name, *numbers in zoo.table()]
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    for name, *numbers in rows:
        say("  ".join((name.ljust(first), *map(str.rjust, numbers, widths))))


def _import_imagenet(options: argparse.Namespace) -> None:
    with without_native_chatter():
        from training import imagenet, run
    repository = ModelRepository(options.models)
    folder = imagenet.import_imagenet(options.weights, repository, options.backbone, options.weights_sha256)
    say(run.summary(folder, repository.read(folder), options.models))


def _export(options: argparse.Namespace) -> None:
    repository = ModelRepository(options.models)
    folder = repository.find_named(options.model)
    dataset = None
    if options.reliability or options.recalibrate:
        manifest = repository.read(folder)
        if options.recalibrate:
            held_out(manifest)  # said before the data are read
        dataset = known_dataset(manifest, options.data)
    with without_native_chatter():
        from training import reexport, run
    if dataset is not None and options.recalibrate:
        published = reexport.recalibrate(repository, folder, dataset)
    else:
        published = reexport.reexport(repository, folder, None if dataset is None else dataset.test)
    say(run.summary(published, repository.read(published), options.models))


def _publish(options: argparse.Namespace) -> None:
    repository = ModelRepository(options.models)
    folder = repository.find_named(options.model)
    say(f"published {storage.upload(repository, folder, options.url)}")


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
        say(f"{name}  {options.model}/{version}")
    if not labels:
        say(f"{options.model} has no labels")
