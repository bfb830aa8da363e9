"""The commands of `python -m training`: each module adds its own to the parser.

    train.py      run, photos: a recipe or a folder of photos -> a published version
    versions.py   list, import-imagenet, export, publish, label: what the repository holds
    measure.py    evaluate, pointing, compare: figures of versions and runs
    index.py      index: pictures that are found by other pictures

TensorFlow takes seconds to import, so a command imports it only after it has looked at its options.
"""

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import argparse

    # What `add_subparsers` returns has no public name, and no type parameters at run time
    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]
