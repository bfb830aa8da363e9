"""Lines about files of any name, on terminals of any encoding."""

import io
import sys

import pytest

from training.terminal import say


@pytest.mark.parametrize(
    ("encoding", "written"), [("ascii", b"caf\\xe9 \\udcff.jpg\n"), ("utf-8", b"caf\xc3\xa9 \\udcff.jpg\n")]
)
def test_what_the_encoding_lacks_is_written_as_an_escape(
    encoding: str, written: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, encoding, newline="\n"))
    say("caf\N{LATIN SMALL LETTER E WITH ACUTE} \udcff.jpg")
    assert terminal.getvalue() == written
