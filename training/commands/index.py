"""`python -m training index`: pictures that are to be found by other pictures."""

import argparse
import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from models import nearest
from models.index_manifest import Kind
from models.manifest import MODEL_NAME
from models.quiet import without_native_chatter
from models.repository import ModelRepository, RepositoryError
from training.terminal import say

if TYPE_CHECKING:
    from training.commands import Commands
    from training.pictures import Collection

_PARAMETERS = {
    "links": "hnsw: neighbours that each picture is linked to",
    "ef_construction": "hnsw: candidates while the graph is built",
    "ef_search": "hnsw: candidates while it is searched (default: as many as find 98 %% of the true neighbours)",
    "bits": "lsh: of each picture",
}


def add_to(commands: "Commands") -> None:
    parser = commands.add_parser("index", help="build an index in which the service finds similar pictures")
    parser.add_argument("model", help="NAME or NAME/VERSION; the highest version if none is named")
    parser.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="pictures, in folders of classes or not")
    parser.add_argument("--version", type=int, help="of the model, instead of NAME/VERSION")
    parser.add_argument("--dataset", help="instead of DIR: the training pictures of a data set, such as caltech101")
    parser.add_argument("--data", type=Path, help="the data set's file, or the folder that holds it")
    parser.add_argument("--name", required=True, help="of the index; one of that name is replaced")
    parser.add_argument("--kind", choices=get_args(Kind), default="exact", help="(default: exact)")
    for name, what in _PARAMETERS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=what)
    parser.add_argument(
        "--thumbnails",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep a small copy of each picture, which the service gives to its callers (default: yes)",
    )
    parser.add_argument(
        "--evaluate", action="store_true", help="keep a part of DIR, or the test pictures, as queries to measure with"
    )
    parser.set_defaults(command=_index)


def _index(options: argparse.Namespace) -> None:
    if not re.fullmatch(MODEL_NAME, options.name):
        raise RepositoryError(f"'{options.name}' can't be the name of an index: expected {MODEL_NAME}")
    given = {name: value for name in _PARAMETERS if (value := getattr(options, name)) is not None}
    nearest.resolved(options.kind, given)
    nearest.library()
    repository = ModelRepository(options.models)
    folder = repository.find_named(options.model, options.version)
    manifest = repository.read(folder)
    repository.verify(folder, manifest)
    with _collection(options) as collection:
        with without_native_chatter():  # a mistaken name need not wait for TensorFlow
            from training import index
        plan = index.Plan(options.name, options.kind, given, options.thumbnails, options.evaluate)
        published = index.run(plan, collection, repository, folder, manifest)
    say(index.summary(*published))


def _collection(options: argparse.Namespace) -> "AbstractContextManager[Collection]":
    from training import pictures
    from training.splits import DataError

    if (options.folder is None) == (options.dataset is None):
        raise DataError("expected a folder of pictures or --dataset, and one of them")
    if options.dataset is not None:
        return pictures.of_data_set(options.dataset, options.data)
    if options.data is not None:
        raise DataError("--data says where a data set is: give --dataset too, or leave it out")
    return nullcontext(pictures.of_folder(options.folder, hold_out=options.evaluate))
