"""A storage that does not answer is asked again, later and later, for a bounded time."""

import time
from collections.abc import Callable
from typing import TypeVar

from app.errors import DemitasseError
from models.storage import StorageError

Answer = TypeVar("Answer")

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0


def until_it_answers(
    ask: Callable[[], Answer],
    what: str,
    patience_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Answer:
    """What `ask` returns. That a file is there or not, or what is wrong with it, is an answer, too, and raised at once.

    Raises `StorageError`, which begins with `what`, once whatever else came has come for so many seconds; the last
    attempt may take longer, as far as the storage's own library is patient.
    """
    give_up_at = clock() + patience_s
    wait = _FIRST_WAIT_S
    while True:
        try:
            return ask()
        except (FileNotFoundError, FileExistsError, DemitasseError, StorageError):
            raise
        except Exception as error:  # each storage has its own
            left = give_up_at - clock()
            if left <= 0:
                raise StorageError(f"{what}, tried for {patience_s:g} s: {type(error).__name__}: {error}") from error
        sleep(min(wait, left))
        wait = min(2 * wait, _LONGEST_WAIT_S)
