"""How sure it is, in a sentence and in bars."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.files import shade
from tests.browser.painted import THRESHOLD
from tests.e2e.service import PICTURES

SENTENCES = (
    ("cups 1", 250, "Almost certainly bright", r"at most 2\s% are wrong"),
    ("cups 1", 220, "Very likely bright", r"at most 2\s% are wrong"),
    ("cups 1", 5, "Almost certainly dark", r"at most 2\s% are wrong"),
    ("cups 1", 150, "Probably one of: bright or dark", r"among such two for 90\s% of pictures"),
    ("cups 1", 135, "I don't know this: below the threshold for 2 % errors", r"best guess is bright, at 52\.9\s%"),
    ("plain 1", 250, "Almost certainly bright", "never measured"),
    ("plain 1", 150, "Probably bright", "never measured"),
)


def widths(page: Page, selector: str, side: str = "width") -> list[float]:
    """Of each of these elements, as a fraction of the track that it lies on."""
    found: list[str] = page.locator(selector).evaluate_all(f"marks => marks.map((mark) => mark.style.{side})")
    return [float(width.removesuffix("%")) / 100 for width in found]


def test_sentence_says_how_sure_it_is(painted, open_page) -> None:
    page = open_page(painted, expected=("501",))
    for model, grey, sentence, reason in SENTENCES:
        page.select_option("#model", model)
        page.set_input_files("#choose", shade(grey))
        expect(page.locator("#verdict")).to_have_text(sentence)
        expect(page.locator("#reason")).to_have_text(re.compile(reason))


def test_bars_are_as_long_as_the_confidences_and_the_threshold_is_marked(painted, open_page) -> None:
    page = open_page(painted)
    page.set_input_files("#choose", shade(150))
    expect(page.locator("#scores .figure")).to_have_text([re.compile(r"58\.8\s%"), re.compile(r"41\.2\s%"), "0 %"])
    assert widths(page, "#scores .track i") == pytest.approx([150 / 255, 105 / 255, 0], abs=1e-6)
    assert widths(page, "#scores .track b", "left") == pytest.approx([THRESHOLD])
    expect(page.locator("#scores .tag")).to_have_count(2)
    expect(page.locator("#threshold")).to_have_text(re.compile(r"mark, at 55\s%"))


def test_all_classes_are_listed_and_found(shipped, open_page) -> None:
    page = open_page(shipped)
    page.set_input_files("#choose", PICTURES / "espresso_cup.jpg")
    page.get_by_label("All 1,000 classes").check()
    expect(page.locator("#found")).to_have_text("1,000 classes, most likely first")
    expect(page.locator("#all-scores li")).to_have_count(1000)
    confidences = widths(page, "#all-scores .track i")
    assert confidences == sorted(confidences, reverse=True)
    page.fill("#class-search", "Espresso")
    expect(page.locator("#all-scores li:visible .name")).to_have_text(["espresso", "espresso maker"])
    expect(page.locator("#found")).to_have_text("2 of 1,000 classes")
    page.fill("#class-search", "no such thing")
    expect(page.locator("#found")).to_have_text("0 of 1,000 classes")


def test_another_model_is_asked_about_the_same_picture(painted, open_page) -> None:
    page = open_page(painted, expected=("501",))
    page.set_input_files("#choose", shade(135))
    expect(page.locator("#verdict")).to_contain_text("I don't know")
    page.select_option("#model", "plain 1")
    expect(page.locator("#verdict")).to_have_text("Probably bright")
