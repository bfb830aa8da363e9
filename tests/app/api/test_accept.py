import pytest
from fastapi import Request

from app.api.accept import preferred
from app.errors import NotAcceptable

ANSWERS = ("application/json", "image/png")


def _request(*accept: str) -> Request:
    return Request({"type": "http", "headers": [(b"accept", one.encode()) for one in accept]})


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        ("*/*", "application/json"), ("", "application/json"), ("application/*", "application/json"),
        ("image/*", "image/png"), ("IMAGE/PNG; q=0.5", "image/png"), ("text/html, image/png", "image/png"),
        ("image/png, application/json", "image/png"), ("application/json;q=0.9, image/png;q=0.2", "application/json"),
        ("image/png;q=0.1, */*;q=0.8", "application/json"), ("text/html, */*;q=0.1", "application/json"),
        ("application/json;q=0, */*", "image/png"), ("image/png;q=0, */*;q=0.1", "application/json"),
        ("image/*, */*;q=0.8", "image/png"), ("image/png;q=inf, application/*", "application/json"),
    ],
)  # fmt: skip
def test_caller_gets_the_type_that_it_likes_best(accept: str, answered: str) -> None:
    assert preferred(_request(accept), ANSWERS) == answered


def test_what_is_not_asked_for_is_the_first_and_several_headers_are_one() -> None:
    assert preferred(_request(), ANSWERS) == "application/json"
    assert preferred(_request("text/html", "image/png"), ANSWERS) == "image/png"


@pytest.mark.parametrize(
    "accept", ["text/html", "image/jpeg", "image/png;q=0", "application/json;q=none", "text/html,", "*/*;q=0.0"]
)
def test_caller_that_takes_none_is_told_what_there_is(accept: str) -> None:
    with pytest.raises(NotAcceptable, match=r"answers are application/json or image/png; the request accepts"):
        preferred(_request(accept), ANSWERS)
