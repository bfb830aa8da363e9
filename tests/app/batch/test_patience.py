"""How long a storage is waited for, by a clock of its own."""

import pytest

from app.batch.patience import until_it_answers
from app.errors import BodyTooLarge
from models.storage import StorageError


class Time:
    """Passes by what is slept."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def clock(self) -> float:
        return sum(self.slept)


def _asked(answers: list[str | Exception], patience_s: float) -> tuple[str, list[float]]:
    time = Time()

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return until_it_answers(
        ask, "s3://a can't be read", patience_s, clock=time.clock, sleep=time.slept.append
    ), time.slept


def test_storage_is_asked_again_later_and_later() -> None:
    assert _asked([OSError("refused")] * 9 + ["data"], 300) == ("data", [0.5, 1, 2, 4, 8, 16, 30, 30, 30])


def test_patience_ends_with_what_came_last() -> None:
    answers: list[str | Exception] = [OSError(str(number)) for number in range(9)]
    with pytest.raises(StorageError, match=r"^s3://a can't be read, tried for 5 s: OSError: 4$"):
        _asked(answers, 5)
    assert len(answers) == 4  # asked at 0, 0.5, 1.5, 3.5 and 5 s


@pytest.mark.parametrize("answer", [FileNotFoundError("a"), FileExistsError("a"), BodyTooLarge("a"), StorageError("a")])
def test_answer_is_an_answer_whatever_it_is(answer: Exception) -> None:
    with pytest.raises(type(answer)):
        _asked([answer], 300)
