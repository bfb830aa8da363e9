"""The type of an answer that a caller likes best, by its Accept header (RFC 9110, 12.4.2 and 12.5.1)."""

from collections.abc import Sequence
from typing import TypeVar

from fastapi import Request

from app.errors import NotAcceptable

Answered = TypeVar("Answered", bound=str)


def preferred(request: Request, answers: Sequence[Answered]) -> Answered:
    """That of `answers`; of equals the first. Raises `NotAcceptable` where the caller takes none of them."""
    accept = ",".join(request.headers.getlist("accept"))
    named = [one.partition(";") for one in accept.split(",") if one.strip()]
    ranges = {name.strip().lower(): _quality(parameters) for name, _, parameters in named} or {"*/*": 1.0}

    def liking(answered: Answered) -> tuple[float, int, int]:
        """Its weight, by the most specific range that holds it, how specific that is, and how early it was named."""
        holding = answered, f"{answered.partition('/')[0]}/*", "*/*"
        found = next((one for one in holding if one in ranges), None)
        return (0.0, 0, 0) if found is None else (ranges[found], -holding.index(found), -list(ranges).index(found))

    best = max(answers, key=liking)
    if not liking(best)[0] > 0:
        raise NotAcceptable(f"answers are {' or '.join(answers)}; the request accepts {accept:.100}")
    return best


def _quality(parameters: str) -> float:
    """The weight of a media range, from 0 to 1; 0 where it can't be read."""
    named = dict(parameter.replace(" ", "").lower().partition("=")[::2] for parameter in parameters.split(";"))
    try:
        quality = float(named.get("q", 1.0))
    except ValueError:
        return 0.0
    return quality if 0.0 <= quality <= 1.0 else 0.0
