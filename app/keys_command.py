"""`python -m app keys`: make, list and remove the keys of a file, beside a service that goes by it."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from app.keys import KeysError, check_name, hashed, line_of, new_key, parse, read_file, read_text

_HEADER = "# API keys, a line each: name:SHA-256 of the key. `python -m app keys` changes them\n"
_FILE_MODE = 0o600


def run(arguments: Sequence[str], default_file: Path | None) -> int:
    """Exit code 0, or 1 where it can't be done. `default_file` is that of the settings."""
    options = _parser(default_file).parse_args(arguments)
    try:
        if options.command == "new":
            _new(check_name(options.name), options.file)
        elif options.command == "list":
            _write(f"{name}\n" for name in read_file(_wanted(options.file)))
        else:
            _remove(options.name, _wanted(options.file))
    except KeysError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _parser(default_file: Path | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app keys", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (("new", "print a new key, once"), ("list", "print the names"), ("remove", "take a key back")):
        command = commands.add_parser(name, help=what, description=what)
        if name != "list":
            command.add_argument("name", metavar="NAME", help="whose key it is, as logs and metrics will say")
        command.add_argument(
            "--file",
            type=Path,
            default=default_file,
            help="where the hashes are kept; default: API_KEYS_FILE"
            + (", else they are printed for API_KEYS" if name == "new" else ""),
        )
    return parser


def _new(name: str, path: Path | None) -> None:
    key = new_key()
    line = line_of(name, hashed(key.encode()))
    if path is None:
        _write((f"{key}\n", f"{line}\n"))
        sys.stderr.write("The first line is the key, which is kept nowhere; the second one is for API_KEYS.\n")
        return
    with _rewriting(path) as lines:
        if name in parse(lines):
            raise KeysError(f"{path} has a key named {name}; remove that, or take another name")
        lines.append(line)
        _write((f"{key}\n",))  # before the file has its hash: a key that nobody saw is not in it
    sys.stderr.write(f"This is the key, which is kept nowhere; its hash is in {path}.\n")


def _remove(name: str, path: Path) -> None:
    with _rewriting(path) as lines:
        kept = [line for line in lines if line.strip().partition(":")[0] != name]
        if len(kept) == len(lines):
            raise KeysError(f"{path} has no key of that name; it has: {', '.join(parse(lines)) or 'none'}")
        lines[:] = kept


def _wanted(path: Path | None) -> Path:
    if path is None:
        raise KeysError("expected --file FILE, or the setting API_KEYS_FILE")
    return path


@contextmanager
def _rewriting(path: Path) -> Iterator[list[str]]:
    """The file's lines, to be changed: written all at once, by one command at a time. Raises `KeysError`."""
    path = path.resolve()  # or a link would be replaced, and not the file
    aside = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    except FileExistsError:
        raise KeysError(f"{aside} is there: another command is writing; if none is, remove it") from None
    except OSError as error:
        raise KeysError(f"{aside} can't be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            lines = _lines(path)
            yield lines
            out.write("".join(f"{line}\n" for line in lines))
            out.flush()
            os.fsync(out.fileno())
        _keep_owner(path, aside)
        aside.replace(path)
    except BaseException as error:
        aside.unlink(missing_ok=True)  # not after it was moved: what is there then is another command's
        if isinstance(error, OSError):
            raise KeysError(f"{path} can't be written: {error.strerror}") from None
        raise


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return [_HEADER.rstrip("\n")]
    read_file(path)  # raises for one that is broken
    return read_text(path).rstrip("\n").split("\n")


def _keep_owner(path: Path, aside: Path) -> None:
    """A service that runs as another user must be able to read the file after the command, too."""
    if not path.exists() or not hasattr(os, "chown"):
        return
    owner = path.stat()
    with suppress(PermissionError):
        os.chown(aside, owner.st_uid, owner.st_gid)


def _write(lines: Iterator[str] | Sequence[str]) -> None:
    """Raises `KeysError` where nobody reads it, such as for a full disk or a pipe that has ended."""
    if sys.stdout is None:  # as after `>&-`
        raise KeysError("the output can't be written: it is closed")
    try:
        sys.stdout.write("".join(lines))
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError):
            sys.stdout.close()  # or Python tries once more when it ends, and complains in its own words
        raise KeysError(f"the output can't be written: {error.strerror}") from None
