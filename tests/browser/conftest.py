"""One browser for the tests of this folder, a new profile for each, and the services whose page it opens."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, expect, sync_playwright

from tests.browser import installed
from tests.browser.painted import write_models
from tests.e2e.service import Service

PATIENCE_MS = 15_000.0  # against hanging for ever; no promise about speed

OpenPage = Callable[..., Page]


@pytest.fixture(scope="package")
def _playwright() -> Iterator[Playwright]:
    expect.set_options(PATIENCE_MS)
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="package")
def browser(_playwright: Playwright) -> Iterator[Browser]:
    path = installed.browser(_playwright)
    if path is None:
        if "CI" in os.environ:
            pytest.fail(installed.NONE)
        pytest.skip(installed.NONE)
    # No sandbox: root and most containers can't have one, and the only page it opens is ours
    with _playwright.chromium.launch(executable_path=path, chromium_sandbox=False) as browser:
        yield browser


@pytest.fixture(scope="package")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service with the shipped models."""
    service = Service(tmp_path_factory.mktemp("shipped") / "log.jsonl", DRAIN_DELAY_S="0").wait_until_ready()
    yield service
    service.stop()


@pytest.fixture(scope="package")
def painted_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("painted")
    write_models(root)
    return root


@pytest.fixture
def start_painted(tmp_path: Path, painted_models: Path) -> Iterator[Callable[..., Service]]:
    """Starts services with the engine of `painted.py`, and stops them at the end of the test."""
    started: list[Service] = []

    def start(port: int | None = None, *, wait: bool = True, **environment: str) -> Service:
        service = Service(
            tmp_path / f"log-{len(started)}.jsonl",
            "tests.browser.painted",
            port=port,
            **{"DRAIN_DELAY_S": "0", "MODEL_REPOSITORY": str(painted_models), **environment},
        )
        started.append(service)
        return service.wait_until_ready() if wait else service

    yield start
    for service in started:
        service.stop()


@pytest.fixture(scope="package")
def painted(tmp_path_factory: pytest.TempPathFactory, painted_models: Path) -> Iterator[Service]:
    """One such service, for the tests that leave it as it was."""
    log = tmp_path_factory.mktemp("painted-log") / "log.jsonl"
    service = Service(log, "tests.browser.painted", DRAIN_DELAY_S="0", MODEL_REPOSITORY=str(painted_models))
    yield service.wait_until_ready()
    service.stop()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens the page of a service in a profile of its own, with the given options of Playwright's contexts.

    It is given once it shows what the selector `until` says. What the browser complains of in its console, violations
    of the page's policy among it, fails the test, unless it holds one of the words in `expected`.
    """
    contexts = []
    complaints: list[str] = []

    def open_one(
        service: Service, *, expected: tuple[str, ...] = (), until: str = "#model option", **options: Any
    ) -> Page:
        context = browser.new_context(base_url=service.address, reduced_motion="reduce", **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)

        def complain(text: str) -> None:
            if not any(word in text for word in expected):
                complaints.append(text)

        def listen(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                complain(message.text)

        context.on("console", listen)
        context.on("weberror", lambda error: complain(str(error.error)))
        page = context.new_page()
        page.goto("/")
        expect(page.locator(until)).not_to_have_count(0)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []
