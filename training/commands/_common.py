"""What several commands share."""

import argparse
import sys
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:  # what `add_subparsers` returns has no public name, and no type parameters at run time
    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]


def say(line: str) -> None:
    """Write a line to standard output now, also where that is a file or a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
