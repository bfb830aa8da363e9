"""A service that wants a key: the page asks for it, keeps it for its tab, and sends it."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.files import shade
from tests.browser.test_details import run
from tests.e2e.service import Service


@pytest.fixture
def asked(locked: Service, open_page) -> Page:
    """Its page, which asks for a key."""
    page: Page = open_page(locked, expected=("401",), until="#key-dialog[open]")
    return page


def give(page: Page, key: str) -> None:
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Use it").click()


def test_key_is_asked_for_sent_and_kept_for_the_tab(asked: Page, key: str, tmp_path: Path) -> None:
    give(asked, "dmt_wrong")
    expect(asked.locator("#key-reason")).to_contain_text("key")
    expect(asked.locator("#key-dialog")).to_be_visible()
    give(asked, key)
    expect(asked.locator("#key-dialog")).to_be_hidden()
    expect(asked.locator("#model option")).to_have_count(2)
    asked.reload()
    expect(asked.locator("#model option")).to_have_count(2)
    picture = shade(220)
    asked.set_input_files("#choose", picture)
    expect(asked.locator("#verdict")).to_have_text("Very likely bright")
    assert key not in asked.url
    assert asked.evaluate("[localStorage.length, document.cookie]") == [0, ""]

    command = asked.locator("#curl").text_content() or ""
    assert key not in command
    (tmp_path / picture["name"]).write_bytes(picture["buffer"])
    assert run(command, tmp_path, DEMITASSE_KEY=key)["predictions"][0]["label"] == "bright"


def test_key_is_forgotten_when_told(asked: Page, key: str) -> None:
    give(asked, key)
    expect(asked.locator("#model option")).to_have_count(2)
    asked.get_by_role("button", name="Forget the API key").click()
    asked.set_input_files("#choose", shade(220))
    expect(asked.locator("#key-dialog")).to_be_visible()


def test_page_without_a_key_says_what_is_missing_and_asks_again(asked: Page, key: str) -> None:
    asked.keyboard.press("Escape")
    expect(asked.locator("#trouble-text")).to_have_text("This service answers only with an API key.")
    asked.click("#retry")
    give(asked, key)
    expect(asked.locator("#trouble")).to_be_hidden()
    expect(asked.locator("#model option")).to_have_count(2)
