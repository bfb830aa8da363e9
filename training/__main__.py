"""Command line: `python -m training run | photos | list | evaluate | index | …`."""

import argparse
import logging
import os
import sys
from pathlib import Path

from models.repository import RepositoryError
from training.commands import index, measure, train, versions

_REPOSITORY = Path(__file__).parent.parent / "models"


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 1 with one line on standard error that says what is wrong."""
    options = _parser().parse_args(arguments)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # else its first start tells of its cache of fonts
    from training.recipe import RecipeError
    from training.splits import DataError

    try:
        options.command(options)
    except (DataError, RecipeError, RepositoryError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt as stop:
        sys.stderr.write(f"interrupted; {stop.args[0] if stop.args else 'nothing was published'}\n")
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
    for module in (train, versions, measure, index):
        module.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
