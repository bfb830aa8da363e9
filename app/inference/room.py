"""How many requests of one version may be under way, so that those who get a place are answered in time."""

import asyncio
import math
import time
from types import TracebackType

from app.errors import DeadlinePassed
from app.inference.device import Clock

_SHARE = 0.8  # of what was answered within a deadline
_CALM = 0.1  # of a deadline, without anybody: the flood is over


class Room:
    """Places, at first `most`, each held from admission to the answer.

    In a queue that takes longer than the deadline, whoever comes first to the engine has just become late: all are
    computed, and none is answered. So once one is late there are as many places as were answered in the time of a
    deadline, less a fifth for what comes between (by Little's law). They grow with each answer that takes less than a
    quarter of the deadline, and are `most` again once all have been free for a tenth of it.
    """

    def __init__(self, most: int, timeout_s: float = math.inf, clock: Clock = time.monotonic) -> None:
        self._most = most
        self._timeout_s = timeout_s
        self._clock = clock
        self.limit = most
        self._limited_at = self._empty_since = -math.inf
        self.under_way = 0
        self.answered = 0
        self.none = asyncio.Event()
        self.none.set()

    @property
    def full(self) -> bool:
        return self.under_way >= self.limit

    def admit(self) -> "Place":
        """A place for the block, whether or not there is one: ask `full` before."""
        return Place(self)

    def begin(self) -> float:
        """When the place was taken."""
        now = self._clock()
        if self.under_way == 0 and now - self._empty_since > _CALM * self._timeout_s:
            self.limit = self._most
        self.under_way += 1
        self.none.clear()
        return now

    def end(self, began: float, answered_before: int, error: type[BaseException] | None) -> None:
        self.under_way -= 1
        now = self._clock()
        took_s = now - began
        if error is None:
            self.answered += 1
            if took_s < self._timeout_s / 4:
                self.limit = min(self._most, self.limit + 1)
        elif (
            issubclass(error, DeadlinePassed | asyncio.CancelledError)
            and took_s >= self._timeout_s / 2  # else its caller left, or was slow to send it
            and began > self._limited_at  # else it was let in before the limit was what it is
        ):
            fitting = (self.answered - answered_before) * self._timeout_s / took_s
            self.limit, self._limited_at = min(self._most, max(1, int(_SHARE * fitting))), now
        if self.under_way == 0:
            self._empty_since = now
            self.none.set()


class Place:
    """A context; each may be entered once."""

    __slots__ = ("_answered", "_began", "_room")

    def __init__(self, room: Room) -> None:
        self._room = room

    def __enter__(self) -> None:
        self._answered = self._room.answered
        self._began = self._room.begin()

    def __exit__(self, error: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._room.end(self._began, self._answered, error)
