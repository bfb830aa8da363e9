"""`python -m training run` and `photos`: a recipe, or a folder of photos, becomes a published version."""

import argparse
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from models.quiet import without_native_chatter
from models.repository import ModelRepository
from training.terminal import say

if TYPE_CHECKING:
    import keras

    from training.checkpoint import Checkpoint
    from training.commands import Commands
    from training.recipe import AnyRecipe, Transfer

_RUNS = Path("runs")
_FINE_TUNING_EPOCHS = 6
# The values of a recipe that the command line can replace, besides its architecture
_CHANGES = {
    "batch_size": int,
    "epochs": int,
    "small_epochs": int,
    "learning_rate": float,
    "seed": int,
    "views": int,
}


def add_to(commands: "Commands") -> None:
    run = commands.add_parser("run", help="train, calibrate, evaluate and publish a recipe")
    run.add_argument("recipe", help="its name, as `list` shows it")
    run.add_argument("--data", type=Path, help="the data set's file, or the folder that holds it")
    run.add_argument("--architecture", help="another network by the same recipe, published under a name of its own")
    for name, kind in _CHANGES.items():
        run.add_argument(f"--{name.replace('_', '-')}", type=kind, help="instead of the recipe's")
    _add_weights(run)
    _add_running(run)
    run.add_argument(
        "--strategy", choices=["single", "mirrored"], default="single", help="mirrored: all GPUs of this machine"
    )
    run.set_defaults(command=_run)

    photos = commands.add_parser("photos", help="a folder of photos for each class -> a published version")
    photos.add_argument("folder", type=Path, metavar="DIR", help="holds a folder of photos for each class")
    photos.add_argument("--name", required=True, help="name of the model")
    photos.add_argument("--description", help="one line for the manifest")
    photos.add_argument(
        "--exclude", action="append", metavar="CLASS", help="a folder that is no class; repeat it for more"
    )
    photos.add_argument("--backbone", help="efficientnet_lite0 (default), resnet34 or resnet50")
    photos.add_argument(
        "--unfreeze", action="store_true", help="fine-tune the upper half of the backbone after the head"
    )
    photos.add_argument(
        "--epochs", type=int, help=f"of fine-tuning, which this asks for, too (default: {_FINE_TUNING_EPOCHS})"
    )
    photos.add_argument(
        "--small-epochs",
        type=int,
        help="of these, first ones on smaller crops, at half of the cost (default: all but one)",
    )
    photos.add_argument("--batch-size", type=int, help="of fine-tuning")
    photos.add_argument("--learning-rate", type=float, help="of fine-tuning")
    photos.add_argument("--seed", type=int, help="of what is drawn at random")
    _add_weights(photos)
    _add_running(photos)
    photos.set_defaults(command=_photos)


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=Path, help="file of the backbone's ImageNet weights")
    parser.add_argument("--weights-sha256", metavar="HEX", help="the SHA-256 that the weights must have")


def _add_running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resume", action="store_true", help="go on with the newest run after its last whole epoch")
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard's logs beside the report")
    parser.add_argument("--runs", type=Path, default=_RUNS, help="where reports and checkpoints lie (default: runs/)")


def _run(options: argparse.Namespace) -> None:
    from training import recipe

    chosen = recipe.load(options.recipe)
    if options.architecture is not None:
        before, chosen = chosen, recipe.with_architecture(chosen, options.architecture)
        if getattr(chosen, "optimizer", None) != getattr(before, "optimizer", None):
            say(f"Muon's rates are those of airbench networks, so {options.architecture} is trained with Adam")
    chosen = recipe.changed(chosen, _given(options, *_CHANGES))
    if isinstance(chosen, recipe.Transfer):
        from training import data

        if options.strategy != "single":
            raise recipe.RecipeError(f"{options.recipe} trains on one device; leave --strategy out")
        with data.caltech101_folder(options.data) as folder:
            chosen = recipe.changed(chosen, {"exclude": data.caltech101_clutter(folder)})
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
    state, callbacks = _started(options.recipe, chosen, options, strategy.num_replicas_in_sync)
    published = run.run(options.recipe, chosen, dataset, repository, state, strategy, callbacks)
    say(run.summary(*published, options.models))
    say(f"report: {state.folder / REPORT}")


def _photos(options: argparse.Namespace) -> None:
    from training import recipe

    fine_tuning = _given(options, "epochs", "small_epochs", "batch_size", "learning_rate")
    unfreeze = options.unfreeze or bool(options.epochs)
    if not unfreeze and (of_no_use := [name for name in fine_tuning if name != "epochs"]):
        option = of_no_use[0].replace("_", "-")
        raise recipe.RecipeError(f"--{option} is one of fine-tuning: give --unfreeze too, or leave it out")
    epochs = 0
    if unfreeze:
        epochs = _FINE_TUNING_EPOCHS if options.epochs is None else options.epochs
    changes = {
        "model": options.name,
        "exclude": tuple(options.exclude or ()),
        "epochs": epochs,
        "small_epochs": max(0, epochs - 1),
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
    say(run.summary(*published, options.models))
    say(f"report: {state.folder / REPORT}")


def _started(
    name: str, recipe: "AnyRecipe", options: argparse.Namespace, count: int = 1
) -> tuple["Checkpoint", list["keras.callbacks.Callback"]]:
    """A new run on so many devices or the one to go on with, and who listens to it."""
    from training import checkpoint, devices
    from training.recipe import RecipeError

    if options.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise RecipeError("TensorBoard is not installed; install the package tensorboard, or leave --tensorboard out")
    state = (checkpoint.latest if options.resume else checkpoint.new)(options.runs, name, recipe, count)
    if options.resume:
        say(f"going on with the run in {state.folder}")
    return state, [devices.tensorboard(state.folder)] if options.tensorboard else []


def _given(options: argparse.Namespace, *names: str) -> dict[str, object]:
    """The options that were given."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}
