"""Threads that compute stand back, and the one that talks to callers does not."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from app import priority
from app.inference import decode
from app.inference.decode import Decoder
from app.inference.device import Device
from models.manifest import InputSpec
from tests.app.conftest import FakeEngine, publish, serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_thread_stands_back_with_those_that_it_starts_and_nobody_else_does() -> None:
    before = _niceness()

    def child() -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(_niceness).result()

    with ThreadPoolExecutor(1, initializer=priority.stand_back) as pool:
        assert pool.submit(_niceness).result() == max(before, priority._NICENESS)
        assert pool.submit(child).result() == max(before, priority._NICENESS)
        pool.submit(priority.stand_back).result()
        assert pool.submit(_niceness).result() == max(before, priority._NICENESS)
    assert _niceness() == before


def test_thread_that_stands_further_back_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(
        1, initializer=lambda: os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 15)
    ) as pool:
        pool.submit(priority.stand_back).result()
        assert pool.submit(_niceness).result() == 15


async def test_decoding_loading_and_computing_stand_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, int] = {}

    def load_image(*_: object) -> np.ndarray:
        seen["decode"] = _niceness()
        return np.zeros((2, 2, 3), np.uint8)

    class Engine(FakeEngine):
        def __init__(self, *version: object) -> None:
            super().__init__(*version)  # type: ignore[arg-type]
            seen["load"] = _niceness()

    monkeypatch.setattr(decode.preprocess, "load_image", load_image)
    decoder, device = Decoder(threads=1, max_pixels=100), Device()
    await decoder.decode(b"photo", InputSpec(height=2, width=2))
    seen["infer"] = int(
        (await device.run(lambda images: np.full(1, _niceness(), np.float32), np.zeros(1, np.uint8)))[0]
    )
    decoder.close()
    device.close()
    publish(tmp_path)
    async with serving(tmp_path, Engine):
        pass
    assert min(seen.values()) >= priority._NICENESS > 0
    assert sorted(seen) == ["decode", "infer", "load"]


def test_sandbox_that_forbids_it_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    priority.stand_back()
