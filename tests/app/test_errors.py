"""The tree of errors, as its docstring draws it."""

import re

from app import errors
from app.errors import DemitasseError, QueueFull


def _below(error: type[DemitasseError]) -> set[type[DemitasseError]]:
    return {error}.union(*map(_below, error.__subclasses__()))


def test_docstring_draws_every_error_with_its_status_and_code() -> None:
    drawn = {
        (name, int(status), code)
        for name, status, code in re.findall(r"── (\w+) +(\d{3}) +([a-z_]+)", str(errors.__doc__))
    }
    assert drawn == {(e.__name__, e.status, e.code) for e in _below(DemitasseError) - {DemitasseError}}


def test_docstring_draws_each_error_below_its_parent() -> None:
    parents = {0: "DemitasseError"}
    for line in str(errors.__doc__).splitlines():
        if match := re.match(r"    ([│ ├└]*)── (\w+)", line):
            depth = len(match[1]) // 4 + 1
            parents[depth] = match[2]
            assert [base.__name__ for base in getattr(errors, match[2]).__bases__] == [parents[depth - 1]]
    assert parents == {0: "DemitasseError", 1: "DeadlinePassed", 2: "EngineStuck"}


def test_codes_are_unique() -> None:
    codes = [error.code for error in _below(DemitasseError) - {DemitasseError}]
    assert len(codes) == len(set(codes)) == 26


def test_message_is_what_the_exception_says() -> None:
    error = QueueFull("9 images are under way", 3)
    assert (str(error), error.message, error.retry_after_s) == ("9 images are under way", "9 images are under way", 3)
