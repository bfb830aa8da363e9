"""One browser and few tabs for the tests of this folder, and the services whose page they open."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Playwright, Request, expect, sync_playwright

from app import keys
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
def start_painted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Service]]:
    """Starts services with the engine of `painted.py` on one repository, and stops them after the last test."""
    folder = tmp_path_factory.mktemp("painted")
    write_models(folder / "models")
    started: list[Service] = []

    def start(port: int | None = None, *, wait: bool = True, **environment: str) -> Service:
        service = Service(
            folder / f"log-{len(started)}.jsonl",
            "tests.browser.painted",
            port=port,
            **{"DRAIN_DELAY_S": "0", "MODEL_REPOSITORY": str(folder / "models"), **environment},
        )
        started.append(service)
        return service.wait_until_ready() if wait else service

    yield start
    for service in started:
        service.process.terminate()  # all of them, before the first is waited for
    for service in started:
        service.stop()


@pytest.fixture(scope="package")
def painted(start_painted: Callable[..., Service]) -> Service:
    """One such service, for the tests that leave it as it was."""
    return start_painted()


@pytest.fixture(scope="package")
def key() -> str:
    return keys.new_key()


@pytest.fixture(scope="package")
def locked(start_painted: Callable[..., Service], key: str) -> Service:
    """One that answers this key alone."""
    return start_painted(API_KEYS=keys.line_of("page", keys.hashed(key.encode())))


@pytest.fixture(scope="package")
def tab(browser: Browser) -> Iterator[Callable[..., Page]]:
    """A tab for each set of Playwright's options of contexts, kept for the next test: a new one costs twice a visit."""
    tabs: dict[str, Page] = {}

    def one(**options: Any) -> Page:
        key = repr(sorted(options.items()))
        if key not in tabs:
            context = browser.new_context(reduced_motion="reduce", **options)
            context.set_default_timeout(PATIENCE_MS)
            tabs[key] = context.new_page()
        return tabs[key]

    yield one
    for page in tabs.values():
        page.context.close()


@pytest.fixture
def open_page(tab: Callable[..., Page]) -> Iterator[OpenPage]:
    """Opens the page of a service, as if for the first time, in a tab with the given options.

    It is given once it shows what the selector `until` says. What the browser complains of in its console, violations
    of the page's policy among it, fails the test, unless it holds one of the words in `expected`; so do dialogs made by
    scripts, and requests to anywhere but the service.
    """
    opened: list[tuple[Page, dict[str, Any]]] = []
    complaints: list[str] = []

    def open_one(
        service: Service, *, expected: tuple[str, ...] = (), until: str = "#model option", **options: Any
    ) -> Page:
        def complain(text: str) -> None:
            if not any(word in text for word in expected):
                complaints.append(text)

        def on_console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                complain(message.text)

        def on_dialog(dialog: Dialog) -> None:
            complain(f"dialog: {dialog.message}")
            dialog.dismiss()

        def on_request(request: Request) -> None:
            if not request.url.startswith(f"{service.address}/"):
                complain(f"asked elsewhere: {request.url}")

        page = tab(**options)
        listeners = {
            "console": on_console,
            "pageerror": lambda error: complain(str(error)),
            "dialog": on_dialog,
            "request": on_request,
        }
        for event, listener in listeners.items():
            page.on(event, listener)
        opened.append((page, listeners))
        page.goto(f"{service.address}/")
        expect(page.locator(until)).not_to_have_count(0)
        return page

    yield open_one
    for page, listeners in opened:
        for event, listener in listeners.items():
            page.remove_listener(event, listener)
        page.evaluate("sessionStorage.clear()")
        page.goto("about:blank")
    assert complaints == []
