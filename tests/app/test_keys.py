"""Keys and their hashes: what is taken, what is refused without being told, and a file that changes."""

import asyncio
import logging
import os
from pathlib import Path

import pytest

from app import keys
from app.keys import KeyRing, KeysError, hashed, line_of, new_key, parse
from app.settings import Settings
from tests.app.conftest import until

MISPLACED = "dmt_not-for-anybodys-eyes"


def _write(path: Path, *names: str) -> dict[str, bytes]:
    """New keys of these names in the file, and the keys."""
    made = {name: new_key().encode() for name in names}
    aside = path.with_suffix(".aside")
    aside.write_text("# keys\n" + "".join(f"{line_of(name, hashed(key))}\n" for name, key in made.items()))
    aside.replace(path)
    return made


def _ring(path: Path) -> KeyRing:
    ring = KeyRing({}, path)
    ring.refresh()
    return ring


def test_keys_are_256_random_bits_fit_for_a_header() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert all(key.startswith("dmt_") and len(key) == 4 + 43 and key.isascii() for key in made)


def test_lines_hold_a_name_and_a_hash_beside_comments_and_empty_ones() -> None:
    key = new_key().encode()
    lines = ["# who, and what, they have: web:0", "", "  \t", f" {line_of('web-1.a_B', hashed(key))}\r"]
    assert parse(lines) == {"web-1.a_B": hashed(key)}
    assert parse([line_of("web", hashed(key)).replace("b", "B")]) != {}  # digits in either case
    assert parse([]) == {}


@pytest.mark.parametrize(
    "line",
    [
        MISPLACED,
        f"web:{MISPLACED}",
        f"web {hashed(b'x').hex()}",
        f"web:{hashed(b'x').hex()[:-1]}",  # half-written
        f"web:{hashed(b'x').hex()}0",
        f":{hashed(b'x').hex()}",
        f"we b:{hashed(b'x').hex()}",
        f"wéb:{hashed(b'x').hex()}",
        f"{'w' * 65}:{hashed(b'x').hex()}",
        f"web\x0b:{hashed(b'x').hex()}",
        f"web: {hashed(b'x').hex()}",
    ],
)
def test_line_that_is_no_key_is_refused_by_number_and_never_quoted(line: str) -> None:
    with pytest.raises(KeysError) as refused:
        parse(["# a comment", line])
    assert str(refused.value).startswith("line 2: expected NAME:HASH, ")
    assert MISPLACED not in str(refused.value)


def test_name_or_key_that_comes_twice_is_refused() -> None:
    one, other = hashed(b"one"), hashed(b"other")
    with pytest.raises(KeysError, match=r"^line 2: there is a key named web already$"):
        parse([line_of("web", one), line_of("web", other)])
    with pytest.raises(KeysError, match=r"^line 2: the same key has another name already$"):
        parse([line_of("web", one), line_of("mobile", one)])


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "web\n", "a:b", "é", "a" * 65, "#web"])
def test_name_that_is_not_fit_for_logs_is_refused(name: str) -> None:
    with pytest.raises(KeysError, match=r"^a key's name has 1 to 64 letters"):
        keys.check_name(name)


def test_key_is_known_by_its_name_and_by_every_byte() -> None:
    made = {name: new_key().encode() for name in ("web", "mobile", "batch")}
    ring = KeyRing({name: hashed(key) for name, key in made.items()}, None)
    assert [ring.name_of(key) for key in made.values()] == ["web", "mobile", "batch"]
    web = made["web"]
    for wrong in (b"", web[:-1], web + b" ", web.swapcase(), web + b"\0", hashed(web), hashed(web).hex().encode()):
        assert ring.name_of(wrong) is None


def test_key_that_is_too_long_to_be_one_is_not_even_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "hashed", lambda key: pytest.fail("a megabyte was hashed"))
    assert KeyRing({}, None).name_of(b"x" * 2**20) is None


def test_every_key_is_compared_whichever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(known: bytes, found: bytes) -> bool:
        compared.append(known)
        return known == found

    monkeypatch.setattr(keys.hmac, "compare_digest", compare)
    known = {name: hashed(name.encode()) for name in ("a", "b", "c")}
    for key in (b"a", b"c", b"none"):
        compared.clear()
        KeyRing(known, None).name_of(key)
        assert compared == list(known.values())


def test_file_that_has_changed_is_taken_as_a_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "keys"
    before = _write(path, "web", "mobile")
    ring = _ring(path)
    ring.refresh()
    assert caplog.messages == ["API keys: mobile, web"]
    after = _write(path, "web", "batch")
    assert ring.name_of(before["mobile"]) == "mobile"
    ring.refresh()
    assert [ring.name_of(key) for key in before.values()] == [None, None]
    assert [ring.name_of(key) for key in after.values()] == ["web", "batch"]
    assert caplog.messages[1:] == ["API keys: batch, web"]


def test_file_from_which_the_last_key_was_taken_lets_nobody_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "keys"
    made = _write(path, "web")
    ring = _ring(path)
    _write(path)
    ring.refresh()
    assert ring.name_of(made["web"]) is None
    assert caplog.messages[-1] == "API keys: none, so that nobody may call"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "keys is empty; one without keys has a comment at least"),
        (b"web:12", "keys, line 1: expected NAME:HASH"),
        (b"\xff\xfe", "keys can't be read: it is not UTF-8"),
        (b"#" * (2**20 + 1), "keys: expected a file of at most 1,048,576 bytes"),
    ],
)
def test_file_that_is_half_written_or_broken_changes_nothing_and_is_told_once(
    content: bytes, why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    path = tmp_path / "keys"
    made = _write(path, "web")
    ring = _ring(path)
    path.write_bytes(content)
    for _ in range(3):
        ring.refresh()
        assert ring.name_of(made["web"]) == "web"
    (message,) = caplog.messages
    assert message.startswith(f"the API keys stay as they were, web: {tmp_path}/")
    assert why in message
    mended = _write(path, "web")
    ring.refresh()
    assert ring.name_of(mended["web"]) == "web"


@pytest.mark.parametrize("what", ["nothing", "folder", "pipe"])
def test_what_is_no_file_changes_nothing_and_holds_up_nobody(
    what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    path = tmp_path / "keys"
    made = _write(path, "web")
    ring = _ring(path)
    path.unlink()
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    for _ in range(2):
        ring.refresh()
    assert ring.name_of(made["web"]) == "web"
    assert len(caplog.messages) == 1


def test_link_to_another_file_is_followed(tmp_path: Path) -> None:
    """As Kubernetes replaces a secret."""
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
    before, after = _write(tmp_path / "one" / "keys", "web"), _write(tmp_path / "other" / "keys", "web")
    link = tmp_path / "data"
    link.symlink_to(tmp_path / "one")
    ring = _ring(link / "keys")
    assert ring.name_of(before["web"]) == "web"
    link.unlink()
    link.symlink_to(tmp_path / "other")
    ring.refresh()
    assert (ring.name_of(before["web"]), ring.name_of(after["web"])) == (None, "web")


async def test_watching_goes_on_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    ring = KeyRing({}, path)
    refresh = ring.refresh
    monkeypatch.setattr(ring, "refresh", lambda: 1 / 0)
    watching = asyncio.create_task(ring.watch(0.001))
    await until(lambda: "the API keys could not be refreshed" in caplog.text)
    monkeypatch.setattr(ring, "refresh", refresh)
    made = _write(path, "web")
    await until(lambda: ring.name_of(made["web"]))
    watching.cancel()


async def test_keys_of_the_environment_alone_are_not_watched() -> None:
    async with asyncio.timeout(20):
        await KeyRing({}, None).watch(60)


def test_keys_of_the_environment_and_of_a_file_are_taken_together(tmp_path: Path) -> None:
    made = _write(tmp_path / "keys", "mobile")
    web, batch = (line_of(name, hashed(name.encode())) for name in ("web", "batch"))
    for separator in (",", "\n", " , ", ",\n"):
        found = keys.check(Settings(api_keys=separator.join((web, batch)), api_keys_file=tmp_path / "keys"))
        assert found is not None
        assert found.names == ["batch", "mobile", "web"]
        assert [found.name_of(key) for key in (b"web", b"batch", made["mobile"])] == ["web", "batch", "mobile"]


def test_name_in_both_places_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "keys", "web")
    settings = Settings(api_keys=line_of("web", hashed(b"x")), api_keys_file=tmp_path / "keys")
    with pytest.raises(KeysError, match=r"keys: there is a key named web already$"):
        keys.check(settings)


def test_without_keys_anybody_may_call_unless_the_settings_forbid_that(tmp_path: Path) -> None:
    assert keys.check(Settings()) is None
    with pytest.raises(KeysError, match=r"^REQUIRE_AUTH is set, and there is no key; "):
        keys.check(Settings(require_auth=True))
    _write(tmp_path / "keys")
    with pytest.raises(KeysError, match=r"^REQUIRE_AUTH is set"):
        keys.check(Settings(require_auth=True, api_keys_file=tmp_path / "keys"))
    empty = keys.check(Settings(api_keys_file=tmp_path / "keys"))
    assert empty is not None  # a file without keys is no reason to let anybody in
    assert empty.names == []
    with pytest.raises(KeysError, match=r"^API_KEYS, line 1: expected NAME:HASH"):
        keys.check(Settings(api_keys=MISPLACED))
    with pytest.raises(KeysError, match=r"can't be read: No such file or directory$"):
        keys.check(Settings(api_keys_file=tmp_path / "none"))
