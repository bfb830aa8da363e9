"""API keys: made, kept as hashes under a name, and read again whenever their file has changed.

A key is 256 random bits, which nobody finds by trying, so that a plain SHA-256 keeps it as well as anything can: what
salts and slow hashes are for, passwords that people choose, is not here, and they would cost each request
milliseconds. Who reads the file learns names, and can't call with any of what it holds.
"""

import asyncio
import hmac
import logging
import re
import secrets
import stat
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from app.settings import Settings

logger = logging.getLogger(__name__)

Hashes = dict[str, bytes]

_PREFIX = "dmt_"  # by which people and scanners of secrets know what they have found
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_EXPECTED = "expected NAME:HASH, a name of letters, digits, '_', '.' and '-', and 64 hexadecimal digits"
_LONGEST_KEY = 256  # bytes; ours have 47
_LARGEST_FILE = 2**20


class KeysError(Exception):
    """Keys that can't be read or changed, and why. Never quotes what it found: that may be a key."""


def new_key() -> str:
    """256 random bits, as text that fits into a header."""
    return _PREFIX + secrets.token_urlsafe(32)


def hashed(key: bytes) -> bytes:
    """What is kept of a key: its SHA-256, 32 bytes."""
    return sha256(key).digest()


def line_of(name: str, key_hash: bytes) -> str:
    """A key as files and API_KEYS hold it."""
    return f"{name}:{key_hash.hex()}"


def check_name(name: str) -> str:
    """The name itself. Raises `KeysError` for one that is not fit for logs, metrics and files."""
    if not _NAME.fullmatch(name):
        raise KeysError("a key's name has 1 to 64 letters, digits, '_', '.' or '-'")
    return name


def parse(lines: Iterable[str]) -> Hashes:
    """The hashes by name, of lines `NAME:HASH`; empty ones and those that begin with # are skipped.

    Raises `KeysError` for anything else, and for a name or a hash that comes twice.
    """
    found: Hashes = {}
    for number, line in enumerate(lines, 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        name, _, digits = entry.partition(":")
        if not _NAME.fullmatch(name) or not _HASH.fullmatch(digits):
            raise KeysError(f"line {number}: {_EXPECTED}")
        found = _joined(found, {name: bytes.fromhex(digits)}, f"line {number}: ")
    return found


def read_text(path: Path) -> str:
    """What a file of keys holds. Raises `KeysError` where it is none, or is empty, as while it is being written."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_FILE:
            raise KeysError(f"{path}: expected a file of at most {_LARGEST_FILE:,} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # bytes that are no text are not quoted
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise KeysError(f"{path} can't be read: {why}") from None
    if not text:
        raise KeysError(f"{path} is empty; one without keys has a comment at least")
    return text


def read_file(path: Path) -> Hashes:
    """The hashes of a file by name. Raises `KeysError`."""
    text = read_text(path)
    try:
        return parse(text.split("\n"))
    except KeysError as error:
        raise KeysError(f"{path}, {error}") from None


class KeyRing:
    """The keys that are taken now: those of API_KEYS for good, and those of a file as it is now."""

    def __init__(self, fixed: Hashes, path: Path | None) -> None:
        """Reads no file yet."""
        self._fixed = fixed
        self._path = path
        self._stamp: tuple[int, ...] | None = None
        self._keys = fixed

    @property
    def names(self) -> list[str]:
        return sorted(self._keys)

    def name_of(self, key: bytes) -> str | None:
        """Whose key it is; None where it is nobody's. How long that takes tells nothing of what is known."""
        if len(key) > _LONGEST_KEY:
            return None
        found, key_hash = None, hashed(key)
        for name, known in self._keys.items():
            if hmac.compare_digest(known, key_hash):
                found = name
        return found

    def read(self) -> None:
        """Take the keys of the file as they are now. Raises `KeysError`; then all stays as it was."""
        if self._path is not None:
            self._keys = _joined(self._fixed, read_file(self._path), f"{self._path}: ")

    def refresh(self) -> None:
        """Read the file where its stamp has changed. A broken or missing one changes nothing, and is logged once."""
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        self._stamp = stamp  # from before it is read: what is written meanwhile gives it another one
        before = self._keys
        try:
            self.read()
        except KeysError as error:
            logger.error("the API keys stay as they were, %s: %s", ", ".join(self.names) or "none", error)
            return
        if self._keys != before or not before:
            logger.info("API keys: %s", ", ".join(self.names) or "none, so that nobody may call")

    async def watch(self, interval_s: float) -> None:
        """Refresh for ever. No failure ends it."""
        while self._path is not None:
            await asyncio.sleep(interval_s)
            try:
                await asyncio.to_thread(self.refresh)
            except Exception:
                logger.exception("the API keys could not be refreshed")

    def _stamp_now(self) -> tuple[int, ...]:
        if self._path is None:
            return ()
        try:
            found = self._path.stat()
        except OSError as error:
            return (error.errno or 0,)
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def ring(settings: Settings) -> KeyRing | None:
    """The keys that the settings name; None where anybody may call. Raises `KeysError` for API_KEYS that are broken."""
    if settings.api_keys is None and settings.api_keys_file is None and not settings.require_auth:
        return None
    fixed: Hashes = {}
    if settings.api_keys is not None:
        try:
            fixed = parse(re.split("[\n,]", settings.api_keys.get_secret_value()))
        except KeysError as error:
            raise KeysError(f"API_KEYS, {error}") from None
    return KeyRing(fixed, settings.api_keys_file)


def check(settings: Settings) -> KeyRing | None:
    """The same, read once. Raises `KeysError` where the service must not start with these keys."""
    found = ring(settings)
    if found is None:
        return None
    found.read()
    if settings.require_auth and not found.names:
        raise KeysError("REQUIRE_AUTH is set, and there is no key; `python -m app keys new NAME --file FILE` makes one")
    return found


def _joined(some: Hashes, more: Hashes, where: str) -> Hashes:
    names = ", ".join(sorted(some.keys() & more.keys()))
    if names:
        raise KeysError(f"{where}there is a key named {names} already")
    if set(some.values()) & set(more.values()):
        raise KeysError(f"{where}the same key has another name already")
    return some | more
