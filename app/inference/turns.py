"""Places for which keys take turns: a long queue of one key is no queue before another."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """A number of places, from 0, given to those who wait.

    The key whose last place was given longest ago comes first, and within a key it goes in order of asking.
    """

    def __init__(self, places: int) -> None:
        self._free = list(reversed(range(places)))
        self._waiting: dict[str, deque[asyncio.Future[int]]] = {}
        self._given = 0
        self._last_given: dict[str, int] = {}  # by key, of which there are as many as models

    @property
    def free(self) -> int:
        return len(self._free)

    @asynccontextmanager
    async def take(self, key: str) -> AsyncIterator[int]:
        """Hold a place, once there is one; it is given as its number."""
        place = await self.acquire(key)
        try:
            yield place
        finally:
            self.release(place)

    async def acquire(self, key: str) -> int:
        if self._free:
            self._note(key)
            return self._free.pop()
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the place came as its owner left
                self.release(turn.result())
            raise

    def release(self, place: int) -> None:
        """Hand the place on, or keep it free."""
        while self._waiting:
            key = min(self._waiting, key=lambda key: self._last_given.get(key, 0))
            turn = self._waiting[key].popleft()
            if not self._waiting[key]:
                del self._waiting[key]
            if not turn.done():
                self._note(key)
                turn.set_result(place)
                return
        self._free.append(place)

    def _note(self, key: str) -> None:
        self._given += 1
        self._last_given[key] = self._given
